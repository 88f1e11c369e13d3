"""lhotse's formats, read by lhotse itself: cuts, recordings with supervisions, and Shar folders."""

import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_lightning.corpus.entry import Entry, plain_value, stand_in_speaker
from moe_lightning.corpus.readers.split_names import split_in_name
from moe_lightning.corpus.readers.unpacked_audio import UnpackedAudio
from moe_lightning.data.utterance import SPLITS
from moe_lightning.errors import InputError
from moe_lightning.system.json_files import parse_json
from moe_lightning.system.plain_files import numbered_lines, refuse_special

if TYPE_CHECKING:
    from lhotse import CutSet
    from lhotse.cut import Cut

_SUFFIXES = (".jsonl", ".jsonl.gz")
_LHOTSES_OWN = ("shard_origin", "shar_epoch", "dataloading_info")
"""Values that lhotse adds to a cut while reading."""


def is_lhotse(root: Path) -> bool:
    """True for a cut manifest, or a folder with cut manifests or pairs of recording and supervision manifests."""
    return bool(_cut_files(root) or _pairs(root))


def is_shar(root: Path) -> bool:
    """True if root, or its folders ``train``, ``dev``, ``test``, are Shar."""
    return bool(_shar_dirs(root))


def read_lhotse(root: Path, unpacked: UnpackedAudio) -> Iterator[Entry]:
    """Entries from the supervisions in all cuts; the split is in the file's name, or train for a single file.

    Raises:
        InputError: lhotse cannot read a file, or a cut is not a segment of one unchanged recording on disk.
    """
    cut_files = _cut_files(root)
    for path, split in _with_splits(cut_files):
        yield from _entries(_lazily(_items, path), split, path, unpacked)
    for path, split in _with_splits([] if cut_files else _pairs(root)):
        yield from _entries(_lazily(_paired, path), split, path, unpacked)


def read_shar(root: Path, unpacked: UnpackedAudio) -> Iterator[Entry]:
    """Entries of Shar folders; their recordings are unpacked into files.

    Raises:
        InputError: lhotse cannot read a shard.
    """
    for folder, split in _shar_dirs(root).items():
        yield from _entries(_lazily(_shar, folder), split, folder, unpacked)


def _items(path: Path) -> Iterator[Any]:
    """Objects of lhotse, one per line; this function opens the file, because lhotse unpacks without a size limit."""
    from lhotse.serialization import deserialize_item

    for number, line in numbered_lines(path):
        try:
            yield deserialize_item(parse_json(line))
        except Exception as error:  # lhotse passes on any error of its own readers
            words = f"{type(error).__name__}: {str(error)[:200]}"
            raise InputError(
                "corpus.bad-row", f"{path}, line {number} cannot be read by lhotse ({words})", path
            ) from error


def _paired(path: Path) -> "CutSet":
    """Cuts from a supervisions manifest and the recordings manifest beside it."""
    from lhotse import CutSet, RecordingSet, SupervisionSet

    recordings = RecordingSet.from_recordings(_items(path.with_name(path.name.replace("supervisions", "recordings"))))
    return CutSet.from_manifests(recordings=recordings, supervisions=SupervisionSet.from_segments(_items(path)))


def _shar(folder: Path) -> "CutSet":
    """Cuts and recordings of a Shar folder; features and other files are not opened.

    Raises:
        InputError: A manifest or an archive unpacks to an implausible size.
    """
    from lhotse import CutSet

    manifests, archives = sorted(folder.glob("cuts.*.jsonl*")), sorted(folder.glob("recording.*.tar"))
    for path in manifests:
        for _ in numbered_lines(path):
            pass
    for path in archives:
        refuse_special(path)
        with tarfile.open(path, "r:") as archive:
            if any(one.issparse() or one.size > path.stat().st_size for one in archive):
                raise InputError("file.too-large", f"{path} says that it holds more than its size; pack it again", path)
    return CutSet.from_shar(fields={"cuts": manifests, "recording": archives})


def _lazily(load: Any, path: Path) -> "Iterable[Cut]":
    """Cuts of a file, read lazily."""
    try:
        yield from load(path)
    except InputError:
        raise
    except Exception as error:  # lhotse passes on any error of its own readers
        words = f"{type(error).__name__}: {str(error)[:200]}"
        raise InputError("file.unreadable", f"{path} cannot be read by lhotse ({words})", path) from error


def _entries(cuts: "Iterable[Cut] | CutSet", split: str, path: Path, unpacked: UnpackedAudio) -> Iterator[Entry]:
    for cut in cuts:
        try:
            yield from _entries_of(cut, split, path, unpacked)
        except InputError:
            raise
        except (AttributeError, TypeError, ValueError, OverflowError) as error:  # a value of another type
            raise InputError(
                "corpus.bad-row",
                f"{path}: a cut with a recording and supervisions of text and speaker is expected, got"
                f" {str(getattr(cut, 'id', cut))[:60]!r} ({type(error).__name__}: {str(error)[:200]})",
                path,
            ) from error


def _entries_of(cut: "Cut", split: str, path: Path, unpacked: UnpackedAudio) -> Iterator[Entry]:
    origin = f"{path}: cut {cut.id}"
    audio_file = _audio_file(cut, split, origin, unpacked)
    of_cut = {name: value for name, value in (cut.custom or {}).items() if name not in _LHOTSES_OWN}
    for supervision in cut.supervisions:
        of_supervision = {"language": supervision.language, "gender": supervision.gender}
        fields = of_cut | of_supervision | (supervision.custom or {})
        start = max(0.0, supervision.start)
        yield Entry(
            split=split,
            id=_text(cut.id if len(cut.supervisions) == 1 else supervision.id),
            audio_file=audio_file,
            text=_text(supervision.text or "").strip(),
            speaker=_text(supervision.speaker or stand_in_speaker(audio_file, path.absolute().parent)),
            origin=origin,
            start=float(cut.start + start),
            duration=float(min(supervision.end, cut.duration) - start),
            fields={name: plain_value(value) for name, value in fields.items() if value is not None},
            channel=supervision.channel if isinstance(supervision.channel, int) else None,
        )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:60]} is no text")
    return value


def _audio_file(cut: "Cut", split: str, origin: str, unpacked: UnpackedAudio) -> Path:
    recording = getattr(cut, "recording", None)
    if recording is None or len(recording.sources) != 1:
        raise InputError(
            "corpus.not-a-file",
            f"{origin} is no stretch of one recording file; write it to one with lhotse's `cut.save_audio`",
            origin,
        )
    if recording.transforms:
        raise InputError(
            "corpus.not-a-file",
            f"{origin} changes its recording as it is read; write it to a file with `cut.save_audio`",
            origin,
        )
    (source,) = recording.sources
    if source.type == "memory":
        return unpacked.write(source.source, split)
    if source.type != "file":
        raise InputError(
            "corpus.not-a-file",
            f"{origin} has its audio from a {source.type}; write it to a file with `cut.save_audio`",
            origin,
        )
    return Path(source.source).absolute()


def _cut_files(root: Path) -> list[Path]:
    return [path for path in _manifests(root) if "type" in (first := _first_object(path)) and "supervisions" in first]


def _pairs(root: Path) -> list[Path]:
    """Supervision manifests with a recording manifest beside them; the file names differ only in that word."""
    named = [path for path in _manifests(root) if "supervisions" in path.name]
    return [path for path in named if path.with_name(path.name.replace("supervisions", "recordings")).is_file()]


def _manifests(root: Path) -> list[Path]:
    if root.is_dir():
        return sorted(path for path in root.iterdir() if path.name.endswith(_SUFFIXES) and path.is_file())
    return [root] if root.is_file() and root.name.endswith(_SUFFIXES) else []


def _with_splits(paths: list[Path]) -> list[tuple[Path, str]]:
    """Files with a split in their names; a single file without one is train."""
    if len(paths) == 1:
        return [(paths[0], split_in_name(paths[0].name) or "train")]
    return [(path, split) for path in paths if (split := split_in_name(path.name))]


def _shar_dirs(root: Path) -> dict[Path, str]:
    if not root.is_dir():
        return {}
    if any(root.glob("cuts.*.jsonl*")) and any(root.glob("recording.*.tar")):
        return {root: "train"}
    folders = [root / split for split in SPLITS]
    return {folder: folder.name for folder in folders if any(folder.glob("cuts.*.jsonl*"))}


def _first_object(path: Path) -> dict[str, Any]:
    """The first line of a manifest, {} if it is not a JSON object."""
    try:
        first = parse_json(next(numbered_lines(path), (1, "{}"))[1])
    except ValueError:
        return {}
    return first if isinstance(first, dict) else {}
