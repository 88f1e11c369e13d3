"""What fuzzing has found stays mended; readers take mutated inputs in a test's time too, without a fuzzer."""

import json
import random
from contextlib import nullcontext
from pathlib import Path

import pytest

from moe_lightning.errors import InputError
from tests.robustness.fuzz.corpora import Read
from tests.robustness.fuzz.mutate import mutate_json
from tests.robustness.fuzz.one import Fuzzer
from tests.robustness.fuzz.targets import TARGETS

REGRESSIONS = sorted((Path(__file__).parent / "regressions").iterdir())
NUM_INPUTS = 150


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that a target may move to."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def accepts(read: Read, contents: bytes) -> bool:
    """Whether a reader takes an input; anything but an InputError fails the test."""
    try:
        read(contents)
    except InputError:
        return False
    return True


@pytest.mark.parametrize("file", REGRESSIONS, ids=lambda file: file.name)
def test_an_input_that_once_ended_in_a_traceback_is_refused_or_read(file: Path, scratch: Path) -> None:
    name = next(name for name in TARGETS if file.name.startswith(f"{name.replace(' ', '_')}-"))
    accepts(TARGETS[name].prepare(scratch), file.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_takes_what_it_is_fuzzed_from_and_refuses_mutations_in_one_line(name: str, scratch: Path) -> None:
    target = TARGETS[name]
    read = target.prepare(scratch)
    assert [contents for contents in target.seeds if accepts(read, contents)]
    rng = random.Random(name)
    for seed in range(NUM_INPUTS):
        contents = rng.choice(target.seeds)
        if target.is_json and seed % 3:
            contents = mutate_json(mutate_json(contents, seed), seed + 1)
        else:
            contents = flipped(contents, rng)
        accepts(read, contents)


def flipped(contents: bytes, rng: random.Random) -> bytes:
    """The input with bytes changed, cut out or repeated."""
    changed = bytearray(contents)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(changed) + 1)
        changed[place : place + rng.choice((0, 1, 8))] = rng.randbytes(rng.choice((0, 1, 2)))
    return bytes(changed)


def test_a_mutation_of_json_is_json_and_another() -> None:
    contents = json.dumps({"a": [1, {"b": "c"}], "d": None}).encode()
    mutated = [mutate_json(contents, seed) for seed in range(300)]
    assert len(set(mutated)) > 200
    for one in mutated:
        json.loads(one.decode("utf-8", "surrogatepass"))


def test_what_is_no_json_is_left_as_it_is() -> None:
    for contents in (b"", b"{", b"\xff\xfe"):
        assert mutate_json(contents, 1) == contents


def test_the_fuzzer_counts_reports_and_keeps_what_a_reader_raises(tmp_path: Path, scratch: Path) -> None:
    fuzzer = Fuzzer("best.json", 3, tmp_path, nullcontext())
    sound = fuzzer.read

    def faulty(contents: bytes) -> object:
        return sound(contents) if contents != b"bad" else {}["nothing"]

    fuzzer.read = faulty
    for contents in (TARGETS["best.json"].seeds[0], b"{", b"bad"):
        fuzzer(contents)
    figures = json.loads((tmp_path / "best.json.json").read_text())
    assert (figures["inputs"], figures["accepted"]) == (3, 1)
    assert [name.split()[0] for name in figures["finds"]] == ["KeyError"]
    assert [file.read_bytes() for file in (tmp_path / "finds").iterdir()] == [b"bad"]
