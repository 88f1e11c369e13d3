"""The command, in this process and, once, as its own."""

import json
import subprocess
import sys

import numpy as np
import pytest

from moe_lightning.clustering.__main__ import main
from moe_lightning.clustering.clusterer import Clusterer
from moe_lightning.data.embedding_store import EmbeddingStore
from moe_lightning.data.soft_labels import HardLabels, SoftLabels
from moe_lightning.settings.clustering import ClusteringSettings, parse

from .conftest import blobs, write_store


def run(store_dir, output_dir, *flags):
    main(["--embedding-dir", str(store_dir), "--output-dir", str(output_dir), "--plot", "pca", "--no-report", *flags])


def test_the_guides_command_writes_the_guides_files(store_dir, tmp_path):
    clustered = tmp_path / "run" / "clustered"
    flags = ["--algorithm", "spectral", "--pooling", "mean", "--reduce", "pca", "--reduce-dim", "50", "--plot", "umap"]
    command = [
        sys.executable,
        "-m",
        "moe_lightning.clustering",
        "--embedding-dir",
        store_dir,
        "--output-dir",
        clustered,
    ]
    done = subprocess.run([*map(str, command), *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = {file.name for file in clustered.iterdir()}
    assert {"Spectral.json", "Spectral_soft.json", "spectral_umap.png"} <= made
    assert "normalised entropy" in done.stdout
    assert SoftLabels.load(clustered / "Spectral_soft.json").num_experts == 8


@pytest.mark.parametrize(("algorithm", "name"), [("spectral", "Spectral"), ("hdbscan", "HDBSCAN")])
def test_every_utterance_of_the_store_gets_a_label(store_dir, tmp_path, algorithm, name):
    run(store_dir, tmp_path, "--algorithm", algorithm, "--num-experts", "4")
    ids = EmbeddingStore.load(store_dir).ids
    soft = SoftLabels.load(tmp_path / f"{name}_soft.json")
    assert HardLabels.load(tmp_path / f"{name}.json").ids == soft.ids == ids
    assert soft.num_experts == 4
    assert (tmp_path / f"{algorithm}_pca.png").stat().st_size > 10_000


def test_the_saved_clusterer_gives_the_written_soft_labels(store_dir, tmp_path):
    run(store_dir, tmp_path, "--algorithm", "spectral", "--num-experts", "4")
    probs_NE = Clusterer.load(tmp_path).soft_labels(EmbeddingStore.load(store_dir).embeddings_ND)
    np.testing.assert_allclose(SoftLabels.load(tmp_path / "Spectral_soft.json").probs_NE, probs_NE, atol=1e-6)


def test_dev_and_test_change_nothing_of_what_is_fitted(tmp_path):
    embeddings_ND, _ = blobs(200, 4)
    run(write_store(tmp_path / "one", embeddings_ND), tmp_path / "a", "--algorithm", "spectral", "--num-experts", "4")
    embeddings_ND[3::5] += 100  # dev
    run(write_store(tmp_path / "two", embeddings_ND), tmp_path / "b", "--algorithm", "spectral", "--num-experts", "4")
    assert (tmp_path / "a/clusterer.safetensors").read_bytes() == (tmp_path / "b/clusterer.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("algorithm", "name"), [("spectral", "Spectral"), ("hdbscan", "HDBSCAN"), ("random", "random")]
)
def test_the_order_of_the_store_does_not_matter(store_dir, tmp_path, algorithm, name):
    store = EmbeddingStore.load(store_dir)
    order = np.random.default_rng(0).permutation(len(store.entries))
    entries = json.loads((store_dir / "mapping.json").read_text())
    run(store_dir, tmp_path / "a", "--algorithm", algorithm, "--num-experts", "4")
    (store_dir / "mapping.json").write_text(json.dumps([entries[row] for row in order]))
    run(store_dir, tmp_path / "b", "--algorithm", algorithm, "--num-experts", "4")
    before, after = (SoftLabels.load(tmp_path / folder / f"{name}_soft.json") for folder in "ab")
    assert after.ids != before.ids
    np.testing.assert_allclose(after.of(before.ids), before.probs_NE, atol=1e-6)


def test_a_store_without_splits_is_fitted_on_all(tmp_path):
    store_dir = write_store(tmp_path / "store", blobs(100, 4)[0], splits=False)
    run(store_dir, tmp_path, "--algorithm", "spectral", "--num-experts", "4")
    assert sum(json.loads((tmp_path / "clusterer.json").read_text())["cluster_sizes"]) == 100


def test_a_fallback_keeps_the_name_asked_for_and_is_recorded(tmp_path, capsys):
    store_dir = write_store(tmp_path / "store", np.random.default_rng(0).normal(size=(40, 10)).astype(np.float32))
    run(store_dir, tmp_path, "--num-experts", "3", "--min-cluster-size", "15", "--max-retries", "0")
    config = json.loads((tmp_path / "clusterer.json").read_text())
    assert (config["algorithm"], config["fitted_with"], config["fell_back"]) == ("hdbscan", "spectral", True)
    assert (tmp_path / "HDBSCAN_soft.json").exists()
    assert "spectral clustering into 3 took its place" in capsys.readouterr().out


def test_the_defaults_are_the_guides():
    settings, warnings = parse(["--embedding-dir", "e", "--output-dir", "o"])
    assert settings == ClusteringSettings(settings.embedding_dir, settings.output_dir)
    assert (settings.algorithm, settings.num_experts, settings.seed) == ("hdbscan", 8, 42)
    assert (settings.pooling, settings.reduce, settings.reduce_dim, settings.plot) == ("mean", "pca", 50, "umap")
    assert warnings == []


def test_a_flag_of_hdbscan_only_warns_under_spectral(store_dir, tmp_path, capsys):
    run(
        store_dir, tmp_path, "--algorithm", "spectral", "--num-experts", "4", "--metric", "cosine", "--min-experts", "2"
    )
    assert "warning: --metric, --min-experts has no effect with --algorithm spectral" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--algorithm", "spctral"], "invalid choice: 'spctral'"),
        (["--num-expert", "4"], "unrecognized arguments"),  # no abbreviations
        (["--num-experts", "0"], "--num-experts must be at least 1, got 0"),
        (["--seed", "99999999999"], "--seed must be at most"),
        (["--temperature", "0"], "--temperature must be auto or a number above 0"),
        (["--temperature", "warm"], "--temperature"),
        (["--target-entropy", "1.5"], "--target-entropy must lie between 0 and 1"),
        (["--min-cluster-size", "1"], "--min-cluster-size must be at least 2, got 1"),
        (["--algorithm", "spectral", "--num-experts", "500"], "--num-experts 500"),
        (["--metric", "foo"], "--metric foo"),
        (["--layers", "6,"], "--layers takes encoder layers joined by commas"),
        (["--layers", "6"], "--layers 6: the store holds layers last"),
        (["--num-experts", "8", "--no-reduce-experts"], "--no-reduce-experts wants 8"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_and_writes_nothing(store_dir, tmp_path, capsys, flags, words):
    with pytest.raises(SystemExit) as stopped:
        run(store_dir, tmp_path / "out", *flags)
    assert stopped.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert words in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()


def test_a_missing_store_names_the_command_that_makes_it(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path / "nowhere", tmp_path / "out")
    assert "run `moe-lightning embed` first" in capsys.readouterr().err


def test_a_store_without_a_train_split_is_an_error(store_dir, tmp_path, capsys):
    mapping = store_dir / "mapping.json"
    mapping.write_text(mapping.read_text().replace('"train"', '"dev"'))
    with pytest.raises(SystemExit):
        run(store_dir, tmp_path / "out")
    assert "split train" in capsys.readouterr().err
