import gzip
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moe_lightning.data.audio import read_audio
from moe_lightning.data.manifest import read_manifest, write_manifest
from moe_lightning.data.utterance import AudioInfo, Utterance
from moe_lightning.errors import InputError
from tests.corpora import write_audio
from tests.refusals import refuses


@pytest.fixture
def utterances(tmp_path):
    mono = write_audio(tmp_path / "mono.wav", 1.0)
    stereo = write_audio(tmp_path / "stereo.flac", 2.0, 44_100, 2)
    fields = {"language": "en", "gender": "female", "accent": "élan", "age": 40, "score": 0.5, "note": None}
    return [
        Utterance("ann/1", mono, 0.0, 1.0, "bonjour ça va", "ann", fields),
        Utterance("bob/1", stereo, 0.5, 1.25, "hello", "bob", {"gender": None}),
    ]


@pytest.mark.parametrize("name", ["m.jsonl.gz", "m.jsonl"])
def test_what_is_written_is_read_again(tmp_path, utterances, name):
    write_manifest(utterances, tmp_path / "new" / name)
    assert read_manifest(tmp_path / "new" / name) == utterances
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


def test_the_same_corpus_gives_the_same_bytes(tmp_path, utterances):
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_manifest(utterances, tmp_path / name)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_lhotse_loads_the_manifest_and_its_audio(tmp_path, utterances):
    from lhotse import CutSet
    from lhotse.qa import validate

    write_manifest(utterances, tmp_path / "m.jsonl.gz")
    cuts = list(CutSet.from_file(tmp_path / "m.jsonl.gz"))
    for cut, utterance in zip(cuts, utterances, strict=True):
        validate(cut)
        (supervision,) = cut.supervisions
        assert (cut.id, cut.start, cut.duration) == (utterance.id, utterance.start, utterance.duration)
        assert (supervision.text, supervision.speaker) == (utterance.text, utterance.speaker)
    assert (cuts[0].supervisions[0].language, cuts[0].supervisions[0].accent) == ("en", "élan")
    assert np.allclose(cuts[0].load_audio()[0], read_audio(utterances[0]))
    assert cuts[1].load_audio().shape == (2, round(1.25 * 44_100))


def test_what_lhotse_writes_is_read(tmp_path, utterances):
    from lhotse import CutSet

    write_manifest(utterances, tmp_path / "ours.jsonl.gz")
    CutSet.from_file(tmp_path / "ours.jsonl.gz").to_eager().to_file(tmp_path / "theirs.jsonl.gz")
    assert read_manifest(tmp_path / "theirs.jsonl.gz") == utterances


def test_a_broken_line_is_named(tmp_path, utterances):
    write_manifest(utterances, tmp_path / "m.jsonl")
    good = (tmp_path / "m.jsonl").read_text().splitlines()
    no_speaker = json.loads(good[0])
    del no_speaker["supervisions"][0]["speaker"]
    no_text = json.loads(good[0])
    del no_text["supervisions"][0]["text"]
    for line, code, value in [
        ("{", "file.malformed", 3),
        ("[]", "file.malformed", 3),
        (json.dumps(no_speaker), "file.malformed", 3),
        (json.dumps(no_text), "file.malformed", 3),
    ]:
        (tmp_path / "broken.jsonl").write_text(f"{good[0]}\n\n{line}\n")
        with refuses(code, value) as refused:
            read_manifest(tmp_path / "broken.jsonl")
        assert "broken.jsonl, line 3" in str(refused.value)


def test_a_manifest_that_was_cut_off_is_an_error_with_its_last_line(tmp_path, utterances):
    write_manifest([replace(utterances[0], id=f"u{number}") for number in range(2000)], tmp_path / "m.jsonl.gz")
    whole = (tmp_path / "m.jsonl.gz").read_bytes()
    (tmp_path / "m.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with refuses("file.cut-off") as refused:
        read_manifest(tmp_path / "m.jsonl.gz")
    (line,) = re.findall(r"breaks off after line (\d+) ", str(refused.value))
    assert refused.value.value == int(line)
    assert 500 < int(line) < 1500, "the paths in it decide how well it packs"
    (tmp_path / "m.jsonl.gz").write_bytes(b"no gzip")
    with refuses("file.cut-off", 0):
        read_manifest(tmp_path / "m.jsonl.gz")


def test_a_missing_manifest_names_the_command_that_makes_it(tmp_path):
    with refuses("file.missing", "train.jsonl.gz"):
        read_manifest(tmp_path / "train.jsonl.gz")


def test_a_write_that_fails_leaves_the_old_manifest(tmp_path, utterances):
    path = tmp_path / "m.jsonl.gz"
    write_manifest(utterances, path)
    with pytest.raises(InputError):
        write_manifest([*utterances, replace(utterances[0], audio_file=tmp_path / "none.wav", audio=None)], path)
    assert read_manifest(path) == utterances
    with gzip.open(path) as file:
        assert len(file.readlines()) == 2
    assert not list(tmp_path.glob("partial.*"))


def test_a_disk_that_is_full_is_named(tmp_path, utterances, monkeypatch):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    monkeypatch.setattr(Path, "with_name", lambda path, name: full)
    with refuses("file.unwritable", "m.jsonl"):
        write_manifest(utterances, tmp_path / "m.jsonl")
    monkeypatch.undo()
    (tmp_path / "file").touch()
    with refuses("file.unwritable", "m.jsonl"):
        write_manifest(utterances, tmp_path / "file" / "m.jsonl")


PLAN_AN_EPOCH = """
import resource, sys, time
from pathlib import Path
from moe_lightning.data.manifest import read_manifest
from moe_lightning.data.batch_plan import BatchPlan
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
durations = [utterance.duration for utterance in read_manifest(Path(sys.argv[1]))]
batches = BatchPlan(durations, 256, 1, 400).epoch(0)
assert sum(map(len, batches)) == len(durations)
print(time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_an_epoch_of_a_large_manifest_is_planned_in_little_time_and_memory(tmp_path):
    num_utterances = 20_000
    audio = AudioInfo(16_000, 1, 30 * 16_000)
    large = [
        Utterance(
            f"s{row % 99}/{row}", tmp_path / f"{row}.wav", 0.0, 1 + row % 29, "a text", f"s{row % 99}", {}, None, audio
        )
        for row in range(num_utterances)
    ]
    write_manifest(large, tmp_path / "large.jsonl.gz")
    command = [sys.executable, "-c", PLAN_AN_EPOCH, str(tmp_path / "large.jsonl.gz")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, kibibytes = map(float, done.stdout.split())
    assert seconds < 10
    assert kibibytes * 1024 / num_utterances < 2e9 / 1e6, "a million in 2 GB"


def test_importing_the_corpus_package_loads_neither_torch_nor_lhotse():
    code = "import sys, moe_lightning.corpus; sys.exit(bool({'torch', 'lhotse', 'scipy', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
