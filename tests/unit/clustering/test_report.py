"""The report of a run with real audio, as files on disk."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile

from moe_lightning.clustering.__main__ import main
from moe_lightning.clustering.clusterer import Prediction
from moe_lightning.clustering.fit import fit_clusterer
from moe_lightning.clustering.plot import NUMBER_SIZE, apart, lay_out, plot_clusters, plot_column
from moe_lightning.clustering.report import make_report
from moe_lightning.data.manifest import write_manifest
from moe_lightning.data.utterance import Utterance
from moe_lightning.run.folder import RunDir
from moe_lightning.settings.clustering import ClusteringSettings

from .conftest import SPLIT_OF, blobs, write_store

EVIL = '</script><script>alert("x")</script>'


class Page(HTMLParser):
    """Counts of elements, and what the page would load."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """100 utterances of four accents, one of them with a hostile name and transcript."""
    tmp_path = tmp_path_factory.mktemp("report")
    embeddings_ND, groups_N = blobs(100, 4)
    run_dir = tmp_path / "run"
    write_store(run_dir / "embeddings" / "whisper_nano_embeddings", embeddings_ND)
    random = np.random.default_rng(0)
    utterances = []
    for row in range(100):
        audio_file = tmp_path / f"über {row}.wav"
        soundfile.write(audio_file, 0.1 * random.normal(size=4000 + 20 * row), 16_000)
        seconds = (4000 + 20 * row) / 16_000
        fields = {"accent": ["irish", "welsh", "<b>scottish</b>", EVIL][groups_N[row]], "age": 20 + row % 50}
        text = EVIL if row == 0 else "hello"
        utterances.append(Utterance(f"u{row:04d}", audio_file, 0.0, seconds, text, f"s{row % 7}", fields))
    for split in ("train", "dev", "test"):
        own = [utterance for row, utterance in enumerate(utterances) if SPLIT_OF[row % 5] == split]
        write_manifest(own, run_dir / "corpus" / f"{split}.jsonl.gz")
    store = run_dir / "embeddings" / "whisper_nano_embeddings"
    flags = ["--algorithm", "spectral", "--num-experts", "auto", "--plot", "pca"]
    main(["--embedding-dir", str(store), "--output-dir", str(run_dir / "clustered"), *flags])
    return run_dir


@pytest.fixture
def page_text(run_dir):
    return RunDir(run_dir).cluster_report_file.read_text()


def scatter_of(page_text) -> dict:
    return json.loads(re.search(r'id="points">(.*?)</script>', page_text, re.DOTALL)[1])


def test_the_report_says_what_the_clusters_follow(run_dir):
    report = json.loads(RunDir(run_dir).cluster_report_data_file.read_text())
    assert report["verdict"].startswith("The clusters follow accent most (adjusted mutual information 1.00)")
    assert {one["name"] for one in report["associations"]} >= {
        "accent",
        "age",
        "speaker",
        "duration",
        "snr",
        "bandwidth",
    }
    assert report["stability"]["resamples"] > 0.9
    assert report["silhouette"] > 0.5
    assert report["training_labels_predicted"] == 1
    assert sum(sum(row["counts"].values()) for row in report["clusters"]) == 100
    assert [one["num_experts"] for one in report["num_experts_candidates"]][:3] == [2, 3, 4]


def test_the_page_needs_nothing_beside_it(page_text):
    page = Page(page_text)
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert page.tags.count("img") >= 4  # confidence, accent, speaker, a measured variable


def test_nothing_of_the_corpus_becomes_markup(page_text):
    page = Page(page_text)
    assert page.tags.count("script") == 2  # the data and the code
    assert "b" not in page.tags[page.tags.index("h2") :]
    assert "&lt;b&gt;scottish" in page_text


def test_the_scatter_names_the_audio_of_each_point(run_dir, page_text):
    scatter = scatter_of(page_text)
    assert len(scatter["x"]) == len(scatter["ids"]) == 60
    assert scatter["texts"][0] == EVIL
    for address in scatter["audio"]:
        assert (run_dir / "clustered" / unquote(address)).is_file()
    assert set(scatter["columns"]) >= {"cluster", "confidence", "accent", "duration"}
    assert scatter["columns"]["cluster"]["order"] == ["0", "1", "2", "3"]


def test_the_projector_finds_the_points(run_dir):
    pytest.importorskip("tensorboard")
    folder = run_dir / "clustered" / "projector"
    assert len((folder / "tensors.tsv").read_text().splitlines()) == 60
    lines = (folder / "metadata.tsv").read_text().splitlines()
    assert len(lines) == 61
    assert lines[0].split("\t")[:3] == ["id", "cluster", "confidence"]
    assert {line.count("\t") for line in lines} == {lines[0].count("\t")}
    assert 'tensor_path: "tensors.tsv"' in (folder / "projector_config.pbtxt").read_text()
    assert list(folder.glob("events.out.tfevents*"))


def test_a_report_without_manifests_says_so(tmp_path, capsys):
    store = write_store(tmp_path / "store", blobs(60, 3)[0])
    flags = ["--algorithm", "kmeans", "--num-experts", "3", "--plot", "none"]
    main(["--embedding-dir", str(store), "--output-dir", str(tmp_path / "out"), *flags])
    assert "note: the report compares the clusters with nothing" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["associations"] == []
    assert (tmp_path / "out" / "report.html").exists()


def test_no_report_writes_none(tmp_path):
    store = write_store(tmp_path / "store", blobs(60, 3)[0])
    flags = ["--algorithm", "kmeans", "--num-experts", "3", "--plot", "none", "--no-report"]
    main(["--embedding-dir", str(store), "--output-dir", str(tmp_path / "out"), *flags])
    assert not (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize("num_clusters", [1, 2, 8, 30])
def test_a_picture_is_drawn_of_any_number_of_clusters(num_clusters):
    points_NR, groups_N = blobs(100, num_clusters)
    layout = lay_out(points_NR, "pca", 0)
    for png in (
        plot_clusters(layout, np.where(np.arange(100) == 0, -1, groups_N), "title"),
        plot_column(layout, [None, *np.linspace(0, 1, 99).tolist()], "confidence"),
        plot_column(layout, [None, *map(str, groups_N[1:])], "accent"),
    ):
        assert png.startswith(b"\x89PNG")


def test_a_cluster_that_nothing_is_predicted_into_is_null_and_not_nan():
    embeddings_ND, _ = blobs(60, 3)
    settings = ClusteringSettings(Path(), Path(), algorithm="kmeans", num_experts=3)
    fitted = fit_clusterer(embeddings_ND, settings)
    fitted.clusterer.info["training_labels_predicted"] = 0.5
    prediction = Prediction(np.zeros(60, dtype=np.int64), np.tile([0.8, 0.1, 0.1], (60, 1)))
    report = make_report(fitted, prediction, np.full(60, "train"), {}, ["s"] * 60, settings).as_json()
    assert [row["max_probability"] for row in report["clusters"]] == [pytest.approx(0.8), None, None]
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.2])
def test_the_numbers_of_thirty_clusters_in_one_place_do_not_overlap(spread):
    places_C2 = np.random.default_rng(0).normal(0.5, spread, size=(30, 2)).clip(0, 1)
    gaps_CC2 = np.abs(apart(places_C2, NUMBER_SIZE)[:, None] - apart(places_C2, NUMBER_SIZE))
    assert (gaps_CC2 < 0.99 * NUMBER_SIZE).all(axis=2).sum() == 30, "each with itself alone"


def test_numbers_that_are_apart_stay_where_they_are():
    places_C2 = np.array([[0.1, 0.1], [0.1, 0.5], [0.9, 0.1]])
    np.testing.assert_array_equal(apart(places_C2, NUMBER_SIZE), places_C2)


def test_umap_lays_out_speakers_where_they_are_pooled_and_their_utterances_around_them() -> None:
    rng = np.random.default_rng(0)
    groups_S = np.repeat([0, 1], 30)
    speakers_N = np.repeat(np.arange(60), 20)
    points_NR = (6 * rng.normal(size=(2, 8))[groups_S] + rng.normal(size=(60, 8)))[speakers_N]
    xy_N2 = lay_out(points_NR, "umap", 0, [f"speaker {number}" for number in speakers_N]).xy_N2
    of_speaker_S2 = np.stack([xy_N2[speakers_N == speaker].mean(axis=0) for speaker in range(60)])
    middles_G2 = np.stack([of_speaker_S2[groups_S == group].mean(axis=0) for group in (0, 1)])
    nearest_S = np.linalg.norm(of_speaker_S2[:, None] - middles_G2, axis=2).argmin(axis=1)
    assert (nearest_S == groups_S).mean() > 0.9, "neighbours of a speaker are other speakers of the group"
    assert len(np.unique(xy_N2.round(6), axis=0)) == len(xy_N2), "each utterance is seen"
