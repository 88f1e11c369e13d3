"""Recordings with annotations of the same name: Praat's TextGrid (``a.wav``, ``a.TextGrid``) or ELAN (``a.eaf``).

An annotation is an utterance with its times. pympi reads both formats; they may come from somebody else, so a document
type, by which XML expands without end, is refused.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from moe_lightning.corpus.entry import Entry, stand_in_speaker
from moe_lightning.corpus.readers.columns import Columns, id_from_path
from moe_lightning.corpus.readers.paired import AUDIO_SUFFIXES, split_of_folders
from moe_lightning.errors import InputError
from moe_lightning.system.plain_files import not_utf8, refuse_special, visible

SUFFIXES = (".textgrid", ".eaf")
TIERS = (
    *("utterance", "utterances", "sentence", "sentences", "phrase", "phrases", "transcript", "transcription"),
    *("text", "ort", "ortho", "orthography", "orthographic"),
)
"""Names of tiers with transcripts, in lower case, from which one is taken where there are several."""
MOST_BYTES = 64 * 2**20


class _Tier(NamedTuple):
    name: str
    speaker: str
    """ELAN's participant; "" if it names none."""
    stretches: list[tuple[float, float, str]]
    """Start and end in seconds, and the text."""


def is_annotated(root: Path) -> bool:
    """True for a folder with a recording beside an annotation of its name."""
    return root.is_dir() and any(True for _ in _pairs(root))


def read_annotated(root: Path, own: Columns = ()) -> Iterator[Entry]:
    """Entries of all annotations with a text.

    A file has one tier with transcripts, or ELAN's tiers of several participants. Of more, own columns choose:
    ``text=TIER``. With several of them the tier is the speaker.

    Raises:
        InputError: pympi is not installed, a file cannot be read, or it does not say which tier has the transcripts.
    """
    top = root.absolute()
    pairs = sorted(_pairs(top))
    splits = split_of_folders([recording for recording, _ in pairs], top)
    for (recording, file), split in zip(pairs, splits, strict=True):
        tiers = _chosen(_tiers(file), [name for role, name in own if role == "text" and name], file)
        for tier in tiers:
            speaker = tier.speaker or (tier.name if len(tiers) > 1 else stand_in_speaker(recording, top))
            for number, (start, end, text) in enumerate(sorted(tier.stretches)):
                if text := " ".join(text.split()):
                    yield Entry(
                        split=split,
                        id=f"{id_from_path(recording, top)}/{tier.name}/{number:04d}",
                        audio_file=recording,
                        text=text,
                        speaker=speaker,
                        origin=f"{file}, {tier.name} at {start:.2f} s",
                        start=start,
                        duration=end - start,
                    )


def _pairs(root: Path) -> Iterator[tuple[Path, Path]]:
    """Recordings with their annotations."""
    for file in visible(root, "**/*"):
        if file.suffix.lower() in SUFFIXES and file.is_file():
            beside = (file.with_suffix(suffix) for kind in AUDIO_SUFFIXES for suffix in (kind, kind.upper()))
            recording = next((path for path in beside if path.is_file()), None)
            if recording is not None:
                yield recording, file


def _chosen(tiers: list[_Tier], named: list[str], file: Path) -> list[_Tier]:
    """The tiers with transcripts."""
    filled = [tier for tier in tiers if any(text.strip() for *_, text in tier.stretches)]
    if named:
        found = [tier for tier in tiers if tier.name.lower() in (name.lower() for name in named)]
        if found:
            return found
    elif len(filled) <= 1:
        return filled
    else:
        people = {tier.speaker for tier in filled}
        if "" not in people and len(people) == len(filled):
            return filled
        known = [tier for name in TIERS for tier in filled if tier.name.lower() == name]
        if known:
            return known[:1]
    names = ", ".join(tier.name for tier in tiers)
    raise InputError(
        "corpus.bad-row",
        f"{file} has the tiers {names or '(none)'}; name the one with the transcripts: --columns text=TIER"
        " (several: text=A text=B, and each is a speaker)",
        file,
    )


def _tiers(file: Path) -> list[_Tier]:
    try:
        import pympi  # noqa: F401
    except ImportError as error:
        raise InputError(
            "package.missing",
            f"{file} is an annotation, which pympi reads; run `pip install 'moe_lightning[annotations]'`",
            "pympi",
        ) from error
    refuse_special(file)
    if file.stat().st_size > MOST_BYTES:
        raise InputError("file.too-large", f"{file} has over {MOST_BYTES:,} bytes, too many for annotations", file)
    try:
        return _of_elan(file) if file.suffix.lower() == ".eaf" else _of_praat(file)
    except (InputError, MemoryError):
        raise
    except UnicodeDecodeError as error:
        raise not_utf8(file, error) from error
    except Exception as error:  # pympi raises any, also a StopIteration at the end of a file
        raise InputError(
            "file.malformed", f"{file} is no annotation that can be read ({type(error).__name__}: {error})", file
        ) from error


def _of_praat(file: Path) -> list[_Tier]:
    from pympi import Praat

    grid: Any = Praat.TextGrid(str(file), codec=_encoding(file))
    return [
        _Tier(tier.name, "", [_stretch(start, end, text, file) for start, end, text in tier.get_intervals()])
        for tier in grid.get_tiers()
        if tier.tier_type == "IntervalTier"
    ]


def _encoding(file: Path) -> str:
    """Praat writes UTF-16 with a mark, or UTF-8."""
    with file.open("rb") as opened:
        head = opened.read(4)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    return "utf-8-sig" if head[:3] == b"\xef\xbb\xbf" else "utf-8"


def _of_elan(file: Path) -> list[_Tier]:
    from pympi import Elan

    if b"<!" in file.read_bytes().replace(b"<!--", b"").replace(b"<![CDATA[", b""):
        raise InputError("file.refused", f"{file} holds a document type, which annotations of ELAN do not", file)
    document: Any = Elan.Eaf(str(file), suppress_version_warning=True)
    found = []
    for name in document.get_tier_names():
        parameters = document.get_parameters_for_tier(name)
        if not parameters.get("PARENT_REF"):  # others have words, glosses or translations of it
            rows = document.get_annotation_data_for_tier(name)
            stretches = [_stretch(start / 1000, end / 1000, text, file) for start, end, text, *_ in rows]
            found.append(_Tier(name, (parameters.get("PARTICIPANT") or "").strip(), stretches))
    return found


def _stretch(start: float, end: float, text: str, file: Path) -> tuple[float, float, str]:
    if not 0 <= start < end:
        raise InputError("corpus.bad-row", f"{file}: an annotation lies at {start} to {end} s", file)
    return float(start), float(end), text or ""
