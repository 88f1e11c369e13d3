"""Every example of docs/forms.md is a corpus that is read."""

import re
from pathlib import Path

import pytest

from moe_lightning.corpus.readers import list_entries
from moe_lightning.corpus.readers.recognise import LAYOUTS, find_layout
from tests.corpora import write_audio
from tests.places import ROOT

SECTIONS = (ROOT / "docs" / "forms.md").read_text(encoding="utf-8").split("\n## ")[1:]
EXAMPLES = [
    (section.partition("\n")[0], block)
    for section in SECTIONS
    for block in re.findall(r"```text\n(.*?)```", section, flags=re.DOTALL)
]
_PLACES = {
    "LJ001-0001": "wavs/LJ001-0001.wav",
    "14-208-0000": "train-clean/14/208/14-208-0000.flac",
    "a.mp3": "fr/clips/a.mp3",
}
"""Recordings that a list names otherwise than by their path."""


def written(block: str, root: Path) -> list[Path]:
    """Write the files of an example, each under its name with a colon, and the recordings that they name."""
    files: dict[Path, list[str]] = {}
    for line in block.splitlines():
        if named := re.fullmatch(r"([\w./-]+\.\w+|[\w/-]+/\w+):", line):
            files[root / named[1]] = []
        else:
            files[list(files)[-1]].append(line)
    for file, lines in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        names = re.findall(r"[\w-]+\.(?:wav|flac|mp3)|LJ001-0001|14-208-0000", "\n".join(lines))
        is_beside = file.suffix in (".txt", ".lab", ".TextGrid", ".eaf") and "trans" not in file.name
        names += [f"{file.stem}.wav"] if is_beside else []
        for name in dict.fromkeys(names):
            audio_file = root / _PLACES[name] if name in _PLACES else file.parent / name
            audio_file.parent.mkdir(parents=True, exist_ok=True)
            write_audio(audio_file, 0.5)
    return list(files)


@pytest.mark.parametrize(("form", "block"), EXAMPLES)
def test_an_example_is_a_corpus_of_its_form(form: str, block: str, tmp_path: Path) -> None:
    assert written(block, tmp_path)
    entries = list_entries(tmp_path)
    assert find_layout(tmp_path) == form
    assert entries
    for entry in entries:
        assert entry.audio_file.is_file()
        assert entry.text
        is_test = "test" in entry.origin.replace(str(tmp_path), "") or entry.speaker == "bob"
        assert entry.split == ("test" if is_test else "train")


def test_every_form_has_a_section() -> None:
    titles = [section.partition("\n")[0] for section in SECTIONS]
    assert {name for title in titles for name in title.split(", ")} == set(LAYOUTS)
