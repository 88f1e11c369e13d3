"""The benchmark of people: large, and without a speaker in two splits."""

import json
from pathlib import Path

import pytest

from recipes.people.splits import FILES, SMALL, Row, main, make, make_rare, split_speakers
from tests.refusals import refuses


def rows_of(name: str, speakers: range, domain: str, count: int = 4) -> list[Row]:
    return [
        {
            **{"id": f"{name}-{speaker}-{number}", "speaker": f"{domain}-{speaker}", "domain": domain},
            **{"kind": "sentence", "language": "en", "text": "a", "duration": 3.6, "audio_filepath": "a.wav"},
        }
        for speaker in speakers
        for number in range(count)
    ]


@pytest.fixture
def rows() -> dict[str, list[Row]]:
    """Two domains of 100 speakers; ten each are the test's, ten the dev's."""
    found: dict[str, list[Row]] = {name: [] for name in FILES}
    for domain in ("en_native", "en_zh_child"):
        found["test"] += rows_of("test", range(10), domain)
        found["dev"] += rows_of("dev", range(10, 20), domain)
        found["train"] += rows_of("train", range(20, 70), domain)
        found["train_extra"] += rows_of("extra", range(60, 100), domain)
    return found


def test_a_speaker_is_in_one_split_and_those_of_the_test_stay_there(rows: dict[str, list[Row]]) -> None:
    split_of = split_speakers(rows, seed=0)
    assert len(split_of) == 200
    assert all(split_of[row["speaker"]] == "test" for row in rows["test"])
    assert all(split_of[row["speaker"]] == "dev" for row in rows["dev"])
    for domain in ("en_native", "en_zh_child"):
        found = [split for speaker, split in split_of.items() if speaker.startswith(domain)]
        assert [found.count(split) for split in ("train", "dev", "test")] == [47, 15, 38]
    assert split_of == split_speakers(rows, seed=0)
    assert split_of != split_speakers(rows, seed=1)


def test_small_groups_are_made_rare_by_whole_speakers(rows: dict[str, list[Row]]) -> None:
    kept = make_rare(rows["train"], 0.1, seed=0)
    small = [row for row in kept if row["domain"] in SMALL]
    assert len(small) / len(kept) == pytest.approx(0.1, abs=0.005)
    assert len({row["speaker"] for row in small}) == -(-len(small) // 4)
    assert [row for row in kept if row["domain"] not in SMALL] == [
        row for row in rows["train"] if row["domain"] not in SMALL
    ]
    with refuses("setting.range", "--small-share 0.9"):
        make_rare(rows["train"], 0.9, seed=0)


def write(folder: Path, rows: dict[str, list[Row]]) -> Path:
    for name, of_file in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in of_file))
    return folder


def test_a_test_that_cannot_decide_is_refused(rows: dict[str, list[Row]], tmp_path: Path) -> None:
    with refuses("corpus.few-speakers", 76):
        make(write(tmp_path, rows), "en", None, 0)
    (tmp_path / "dev.jsonl").unlink()
    with refuses("file.missing", "dev.jsonl"):
        make(tmp_path, "en", None, 0)


@pytest.mark.parametrize("benchmark", ["en", "languages"])
def test_the_recordings_of_people_make_a_benchmark(benchmark: str, real_corpus: Path, tmp_path: Path) -> None:
    main(["--corpus", str(real_corpus), "--output-dir", str(tmp_path), "--benchmark", benchmark])
    splits = {
        split: [json.loads(line) for line in (tmp_path / f"{split}.jsonl").read_text().splitlines()]
        for split in ("train", "dev", "test")
    }
    speakers = {split: {row["speaker"] for row in found} for split, found in splits.items()}
    assert not speakers["train"] & (speakers["dev"] | speakers["test"])
    assert not speakers["dev"] & speakers["test"]
    assert len(speakers["test"]) >= 150
    assert len(splits["test"]) >= 1200
    assert all(Path(row["audio_filepath"]).is_file() for row in splits["test"])
