"""Whatever JSON says, readers take it or refuse it in one line; what they take comes back as it was."""

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_lightning.corpus.entry import plain_value
from moe_lightning.data.manifest import read_manifest, write_manifest
from moe_lightning.data.soft_labels import SoftLabels
from moe_lightning.data.store_info import StoreInfo
from moe_lightning.data.utterance import AudioInfo, Utterance
from moe_lightning.errors import InputError, printable
from moe_lightning.system.json_files import fits, from_json, is_number, read_json, write_json
from tests.refusals import refuses
from tests.robustness.fuzz.targets import TARGETS

in_a_folder = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.text(st.characters(codec="utf-8"), max_size=20)
names = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs")), min_size=1, max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))


def with_changes(rows: list[Any], changes: dict[str, Any]) -> list[Any]:
    return [{**row, **changes} if isinstance(row, dict) else row for row in rows]


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.is_json])
@in_a_folder
@given(value=values, field=st.integers(0, 20))
def test_any_value_in_any_place_is_read_or_refused(
    name: str, value: Any, field: int, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("any")
    monkeypatch.chdir(folder)
    read = TARGETS[name].prepare(folder)
    seed = json.loads(TARGETS[name].seeds[0].split(b"\n")[0])
    row = seed[0] if isinstance(seed, list) else seed
    key = list(row)[field % len(row)]
    changed = {**row, key: value}
    for contents in (value, [changed] if isinstance(seed, list) else changed):
        with suppress(InputError):
            read(json.dumps(contents).encode() + b"\n")


@in_a_folder
@given(
    id_=names.filter(str.isprintable),
    speaker=names.filter(str.isprintable),
    text=names.filter(str.strip),
    start=st.floats(0, 1e6),
    duration=st.floats(1e-6, 1e6),
    fields=st.dictionaries(
        names.filter(str.isprintable), st.none() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9)
    ),
)
def test_a_manifest_gives_back_what_was_written(
    id_: str, speaker: str, text: str, start: float, duration: float, fields: dict[str, Any], tmp_path: Path
) -> None:
    one = Utterance(id_, Path("/a.wav"), start, duration, text, speaker, fields, audio=AudioInfo(16_000, 1, 16_000))
    write_manifest([one], tmp_path / "train.jsonl.gz")
    (again,) = read_manifest(tmp_path / "train.jsonl.gz")
    assert (again, again.audio) == (one, one.audio)


@in_a_folder
@given(ids=st.lists(texts, min_size=1, max_size=5, unique=True), seed=st.integers(0, 100))
def test_soft_labels_give_back_what_was_written(ids: list[str], seed: int, tmp_path: Path) -> None:
    probs_NE = np.random.default_rng(seed).dirichlet(np.ones(3), size=len(ids)).astype(np.float32)
    SoftLabels(tuple(ids), probs_NE).save(tmp_path / "soft.json")
    again = SoftLabels.load(tmp_path / "soft.json")
    assert again.ids == tuple(ids)
    assert np.abs(again.probs_NE - probs_NE).max() < 1e-6


@in_a_folder
@given(value=values)
def test_json_that_was_written_is_read(value: Any, tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", value)
    assert repr(read_json(tmp_path / "a.json", "the command")) == repr(value)


@given(value=values)
def test_a_number_is_one_that_can_be_reckoned_with(value: Any) -> None:
    if is_number(value):
        assert math.isfinite(float(value) * 2)
    assert fits(value, Any)
    assert fits(value, float | None) == (value is None or is_number(value))


@given(value=values)
def test_a_field_is_one_value_whatever_a_corpus_says(value: Any) -> None:
    plain = plain_value(value)
    assert plain is None or isinstance(plain, str | int | float)
    json.dumps(plain)


@given(text=st.text(max_size=50))
def test_a_printable_text_steers_no_terminal_and_says_the_same(text: str) -> None:
    assert printable(text).isprintable()
    if text.isprintable() and text == " ".join(text.split()):
        assert printable(text) == text


def test_a_value_of_another_type_is_named_with_its_place() -> None:
    with refuses("file.malformed", "window"):
        from_json(StoreInfo, {"whisper_model": "nano", "pooling": "mean", "window": "x"}, "store.json")
    with refuses("file.malformed", "store.json"):
        from_json(StoreInfo, {"whisper_model": "nano", "pooling": "mean"}, "store.json")
    with refuses("file.malformed", "store.json"):
        from_json(StoreInfo, [], "store.json")
