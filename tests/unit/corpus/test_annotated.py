"""Recordings annotated in Praat or ELAN."""

import sys
from pathlib import Path

import pytest

from moe_lightning.corpus.entry import Entry
from moe_lightning.corpus.readers import read_corpus
from moe_lightning.corpus.readers.columns import parse_columns
from tests.corpora import write_audio
from tests.refusals import refuses

pympi = pytest.importorskip("pympi", reason="annotations are read by pympi, extra `annotations`")
Tiers = dict[str, list[tuple[float, float, str]]]


def praat(folder: Path, tiers: Tiers, encoding: str = "utf-8") -> Path:
    """A recording and a TextGrid beside it."""
    write_audio(folder / "a.wav", 4.0)
    grid = pympi.Praat.TextGrid(xmax=4.0)
    for name, stretches in tiers.items():
        tier = grid.add_tier(name)
        for start, end, text in stretches:
            tier.add_interval(start, end, text)
    file = folder / "a.TextGrid"
    grid.to_file(str(file), codec="utf-8")
    file.write_text(file.read_text(encoding="utf-8"), encoding=encoding)
    return file


def elan(folder: Path, tiers: dict[str, tuple[str, list[tuple[int, int, str]]]]) -> Path:
    """A recording and an ELAN document beside it, tiers with participants; words hang below the first tier."""
    write_audio(folder / "a.wav", 4.0)
    document = pympi.Elan.Eaf()
    document.remove_tier("default")
    document.add_linguistic_type("words", constraints="Symbolic_Association", timealignable=False)
    for name, (person, stretches) in tiers.items():
        document.add_tier(name, part=person or None)
        for start, end, text in stretches:
            document.add_annotation(name, start, end, text)
    first = next(iter(tiers))
    document.add_tier("gloss", "words", parent=first)
    for start, _, _ in tiers[first][1]:
        document.add_ref_annotation("gloss", first, start + 1, "GLOSS")
    file = folder / "a.eaf"
    document.to_file(str(file))
    return file


def told(entries: list[Entry]) -> list[tuple[str, str, float, float]]:
    return [(one.speaker, one.text, one.start, round(one.start + (one.duration or 0), 3)) for one in entries]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_each_interval_with_a_text_is_an_utterance(encoding: str, tmp_path: Path) -> None:
    praat(
        tmp_path / "ann", {"speech": [(0.5, 1.5, "guten  Tag"), (1.5, 2.0, " "), (2.0, 3.5, "schöne Grüße")]}, encoding
    )
    entries = read_corpus(tmp_path)
    assert told(entries) == [("unknown:ann", "guten Tag", 0.5, 1.5), ("unknown:ann", "schöne Grüße", 2.0, 3.5)]
    assert entries[0].id == "ann/a/speech/0001", "the interval before it has no text"


def test_of_several_tiers_the_usual_name_or_the_named_one_is_taken(tmp_path: Path) -> None:
    tiers = {"words": [(0.0, 0.5, "good"), (0.5, 1.0, "day")], "Sentence": [(0.0, 1.0, "good day")]}
    praat(tmp_path, tiers)
    assert [one.text for one in read_corpus(tmp_path)] == ["good day"]
    named = read_corpus(tmp_path, columns=parse_columns(["text=words"]))
    assert [one.text for one in named] == ["good", "day"]


def test_tiers_that_could_be_anything_are_asked_for(tmp_path: Path) -> None:
    file = praat(tmp_path, {"ann": [(0.0, 1.0, "good day")], "bob": [(1.0, 2.0, "hello")], "notes": [(0.0, 2.0, "x")]})
    with refuses("corpus.bad-row", file.name) as refused:
        read_corpus(tmp_path)
    assert "ann, bob, notes" in str(refused.value)
    assert "--columns text=TIER" in str(refused.value)
    both = read_corpus(tmp_path, columns=parse_columns(["text=ann", "text=bob"]))
    assert told(both) == [("ann", "good day", 0.0, 1.0), ("bob", "hello", 1.0, 2.0)]


def test_elan_names_who_speaks(tmp_path: Path) -> None:
    elan(tmp_path, {"A": ("ann", [(500, 1500, "good day")]), "B": ("bob", [(2000, 3000, "hello")])})
    assert told(read_corpus(tmp_path)) == [("ann", "good day", 0.5, 1.5), ("bob", "hello", 2.0, 3.0)]


def test_a_tier_below_another_is_no_transcript(tmp_path: Path) -> None:
    elan(tmp_path, {"A": ("", [(500, 1500, "good day")])})
    assert [one.text for one in read_corpus(tmp_path)] == ["good day"]


def test_texts_beside_recordings_come_first(tmp_path: Path) -> None:
    """The Montreal Forced Aligner writes words and phones beside the transcripts that it was given."""
    praat(tmp_path, {"words": [(0.0, 1.0, "good")], "phones": [(0.0, 1.0, "g")]})
    (tmp_path / "a.lab").write_text("good day")
    assert [one.text for one in read_corpus(tmp_path)] == ["good day"]


@pytest.mark.parametrize("part", range(0, 100, 7))
def test_a_damaged_file_is_one_line(part: int, tmp_path: Path) -> None:
    for file in (
        praat(tmp_path / "p", {"s": [(0.5, 1.5, "good day")]}),
        elan(tmp_path / "e", {"A": ("ann", [(500, 1500, "good day")])}),
    ):
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) * part // 100])
        with refuses_or_reads():
            read_corpus(file.parent)


class refuses_or_reads:  # noqa: N801
    """Context in which nothing but an InputError may be raised."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: object, _: object) -> bool:
        from moe_lightning.errors import InputError

        return error is None or isinstance(error, InputError)


def test_a_document_that_expands_is_refused(tmp_path: Path) -> None:
    file = elan(tmp_path, {"A": ("ann", [(500, 1500, "good day")])})
    head, _, rest = file.read_text().partition("?>")
    file.write_text(f'{head}?><!DOCTYPE a [<!ENTITY b "{"c" * 99}">]>{rest}')
    with refuses("file.refused", file.name):
        read_corpus(tmp_path)


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    praat(tmp_path, {"s": [(0.5, 1.5, "good day")]})
    monkeypatch.setitem(sys.modules, "pympi", None)
    with refuses("package.missing", "pympi") as refused:
        read_corpus(tmp_path)
    assert "moe_lightning[annotations]" in str(refused.value)
