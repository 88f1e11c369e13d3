"""Run folders and configs that somebody else made: what they name is looked at only where it lies in the run."""

import json
import os
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from moe_lightning.clustering.clusterer import Clusterer
from moe_lightning.clustering.scatter_data import _numbers_first
from moe_lightning.data.embedding_store import EmbeddingStore, StoreEntry, StoreInfo
from moe_lightning.data.recordings import changed_recordings
from moe_lightning.data.shards import read_array
from moe_lightning.evaluation.systems import rows_by_value
from moe_lightning.run.finding import check_files, read_records
from moe_lightning.run.folder import RunDir
from moe_lightning.run.outputs import stage_files
from moe_lightning.settings.command_line import read_yaml
from moe_lightning.system.json_files import read_json_object, write_json
from tests.refusals import refuses
from tests.robustness.fuzz.seeds import CLUSTERER, clusterer_files

pytestmark = pytest.mark.timeout(60)


def test_links_of_a_run_that_lead_round_in_circles_end(tmp_path: Path) -> None:
    folder = RunDir(tmp_path).stage_dir("corpus")
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).symlink_to(".")
        (folder / f"up_{name}").symlink_to(tmp_path)
    (folder / "one.txt").write_text("x")
    assert Counter(path.name for path in stage_files(RunDir(tmp_path), "corpus").values())["one.txt"] <= 2


def test_a_record_or_a_list_of_recordings_that_names_a_device_is_not_followed(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    record = {"settings": {}, "files": {"/dev/zero": {"bytes": 0, "sha256": "0a"}}}
    write_json(run.record_file("corpus"), record)
    records, _ = read_records(run)
    assert "is a device" in next(check_files(run, "corpus", records)).line()
    write_json(tmp_path / "recordings.json", [{"path": "/dev/zero", "bytes": 0, "sha256_of_ends": "0a"}])
    assert "is a device" in next(changed_recordings(tmp_path))[1]


def test_writing_json_does_not_follow_a_link_that_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "best.json.partial").symlink_to(tmp_path / "mine")
    (tmp_path / "best.json").symlink_to(tmp_path / "mine")
    write_json(tmp_path / "best.json", {"best": 1})
    assert (tmp_path / "mine").read_text() == "precious"
    assert json.loads((tmp_path / "best.json").read_text()) == {"best": 1}


@pytest.mark.parametrize("name", ["../private.npy", "/dev/zero", "x/../../private.npy"])
def test_a_store_reads_no_array_outside_of_its_folder(name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "private.npy", np.ones((1, 3), np.float32))
    entry = StoreEntry("a", "", "", "", "embeddings_00000.npy", 0, "train")
    EmbeddingStore((entry,), np.ones((1, 3), np.float32), StoreInfo("nano", "mean", 0.0)).save(tmp_path / "store")
    (tmp_path / "store" / "mapping.json").write_text(json.dumps([{"id": "a", "embedding_path": name, "row": 0}]))
    with refuses("file.malformed", "a"):
        EmbeddingStore.load(tmp_path / "store")


def test_an_array_whose_header_promises_terabytes_takes_no_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 3), np.float32))
    contents = (tmp_path / "a.npy").read_bytes()
    promised = contents.replace(b"(2, 3), }" + b" " * 12, b"(2000000000000, 3), }")
    assert promised != contents
    (tmp_path / "a.npy").write_bytes(promised)
    with refuses("file.unreadable", "a.npy"):
        read_array(tmp_path / "a.npy")
    os.mkfifo(tmp_path / "pipe.npy")
    with refuses("file.unreadable", "pipe.npy"):
        read_array(tmp_path / "pipe.npy")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"temperature": 0}, "temperature"),
        ({"temperature": "0.1"}, "temperature"),
        ({"noise": "eval"}, "noise"),
        ({"unit_length": None}, "unit_length"),
    ],
)
def test_a_clusterer_whose_config_makes_no_sense_is_refused(
    change: dict[str, object], name: str, tmp_path: Path
) -> None:
    clusterer_files(tmp_path)
    (tmp_path / "clusterer.json").write_text(json.dumps({**CLUSTERER, **change}))
    with refuses("file.malformed", name):
        Clusterer.load(tmp_path)


@pytest.mark.parametrize("name", ["mean_D", "centroids_ER", "points_NR", "labels_NV"])
def test_a_clusterer_whose_arrays_do_not_fit_together_is_refused(name: str, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    clusterer_files(tmp_path)
    arrays = load_file(tmp_path / "clusterer.safetensors")
    for spoilt in (arrays[name][..., :-1], np.full_like(arrays[name], np.nan), arrays[name][None]):
        save_file({**arrays, name: np.ascontiguousarray(spoilt)}, tmp_path / "clusterer.safetensors")
        with refuses("file.malformed"):
            Clusterer.load(tmp_path)


def test_an_object_of_a_run_lacks_nothing_that_is_needed(tmp_path: Path) -> None:
    write_json(tmp_path / "stage.json", {"settings": []})
    with refuses("file.malformed", "settings"):
        read_json_object(tmp_path / "stage.json", "the command", {"settings": dict})


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (
            "a: &a [x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghi")),
            "file.too-large",
        ),
        ("a: &a [*a]\n", "file.too-large"),
        ("a: " + "[" * 5000, "file.malformed"),
    ],
    ids=["billions", "itself", "deep"],
)
def test_a_config_of_aliases_without_end_is_refused(text: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with refuses(code, "own.yaml"):
        read_yaml(tmp_path / "own.yaml")


def test_a_date_that_is_none_is_no_yaml(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("a: 2026-13-45\n")
    with refuses("file.malformed", "own.yaml"):
        read_yaml(tmp_path / "own.yaml")


def test_a_digit_that_is_no_number_sorts_as_a_text() -> None:
    assert sorted(["²", "10", "9", "a"], key=_numbers_first) == ["9", "10", "a", "²"]
    assert list(rows_by_value("level", ["²", "1", "1"])) == ["1", "²"]
    assert list(rows_by_value("level", ["10", "9"])) == ["9", "10"]
