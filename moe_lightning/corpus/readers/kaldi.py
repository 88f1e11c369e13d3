"""Kaldi data directories: ``wav.scp``, ``text``, ``utt2spk`` and, for segments of recordings, ``segments``.

lhotse's import is not used: it drops unreadable recordings, fails on an utterance without words, and keeps no
other ``utt2...`` file. Commands in ``wav.scp`` are not run.
"""

import os
import re
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from moe_lightning.corpus.entry import Entry, stand_in_speaker
from moe_lightning.corpus.readers.split_names import split_in_name
from moe_lightning.data.utterance import SPLITS
from moe_lightning.errors import InputError
from moe_lightning.system.plain_files import numbered_lines

_NOT_FIELDS = {"utt2spk", "spk2utt", "utt2dur", "utt2num_frames", "utt2uniq"}
_DECODERS = {"flac", "sph2pipe", "cat", "mpg123"}
"""Programs in ``wav.scp`` that only unpack a file; this reader takes the file itself."""
_ONLY_UNPACKS = re.compile(
    r"((-[cdsqpV]+|--?(decode|stdout|silent|totally-silent)|-f (wav|sph|raw)|-[cw] [-\w]+|-)( |$))*"
)
"""Options of these programs under which a file stays as long as it is."""
_AUDIO_SUFFIXES = {".flac", ".wav", ".sph", ".ogg", ".mp3", ".opus"}


class _Recording(NamedTuple):
    audio_file: Path
    channel: int | None


class _Stretch(NamedTuple):
    recording: str
    start: float
    end: float | None


def is_kaldi(root: Path) -> bool:
    """True if root is a data directory, or holds some."""
    return bool(_data_dirs(root))


def read_kaldi(root: Path) -> Iterator[Entry]:
    """Entries of root, or of its folders ``train``, ``dev``, ``test``; without one of them, of ``dev_clean`` ...

    Every ``utt2NAME`` and ``spk2NAME`` becomes a field; ``utt2lang`` is ``language``.

    Raises:
        InputError: A line of a file does not have its format, or a program makes a recording.
    """
    for folder, split in _data_dirs(root).items():
        yield from _read_data_dir(folder, split)


def _data_dirs(root: Path) -> dict[Path, str]:
    if (root / "wav.scp").is_file():
        return {root: split_in_name(root.name) or "train"}
    folders = sorted(path.parent for path in root.glob("*/wav.scp"))
    plain = {folder: folder.name for folder in folders if folder.name in SPLITS}
    others = {folder: split for folder in folders if (split := split_in_name(folder.name))}
    return {**plain, **{folder: split for folder, split in others.items() if split not in plain.values()}}


def _read_data_dir(folder: Path, split: str) -> Iterator[Entry]:
    recordings = {
        name: _recording(value, folder, f"{folder / 'wav.scp'}: {name}")
        for name, value in _mapping(folder / "wav.scp").items()
    }
    texts, speakers = _mapping(folder / "text"), _mapping(folder / "utt2spk")
    stretches = _stretches(folder, recordings)
    if lost := [id_ for id_ in texts if id_ not in stretches]:
        words = f"{len(lost)} utterances have no recording, the first is {lost[0]}"
        warnings.warn(f"{folder / 'text'}: {words}", stacklevel=2)
    by_utterance = {path.name: _mapping(path) for path in sorted(folder.glob("utt2*")) if path.name not in _NOT_FIELDS}
    by_speaker = {path.name: _mapping(path) for path in sorted(folder.glob("spk2*")) if path.name not in _NOT_FIELDS}
    for id_, (recording, start, end) in stretches.items():
        if recording not in recordings:
            raise InputError(
                "corpus.bad-row",
                f"{folder / 'segments'}: {id_} lies in {recording!r}, which wav.scp does not have",
                id_,
            )
        speaker = speakers.get(id_) or stand_in_speaker(recordings[recording].audio_file, folder.absolute())
        fields = {name[4:]: values[id_] for name, values in by_utterance.items() if id_ in values}
        fields |= {name[4:]: values[speaker] for name, values in by_speaker.items() if speaker in values}
        yield Entry(
            split=split,
            id=id_,
            audio_file=recordings[recording].audio_file,
            text=texts.get(id_, ""),
            speaker=speaker,
            origin=f"{folder}: {id_}",
            start=start,
            duration=None if end is None else end - start,
            fields={"language" if name == "lang" else name: value for name, value in fields.items()},
            channel=recordings[recording].channel,
        )


def _stretches(folder: Path, recordings: dict[str, _Recording]) -> dict[str, _Stretch]:
    """Segment of each utterance: lines ``<id> <recording> <start> <end>`` in ``segments``, else whole recordings."""
    path = folder / "segments"
    if not path.is_file():
        return {name: _Stretch(name, 0.0, None) for name in recordings}
    stretches = {}
    for id_, value in _mapping(path).items():
        try:
            recording, start, end = value.split()
            stretches[id_] = _Stretch(recording, float(start), None if float(end) == -1 else float(end))
        except ValueError:
            raise InputError(
                "corpus.bad-row", f"{path}: {id_} needs a recording, a start and an end in seconds, got {value!r}", id_
            ) from None
    return stretches


def _mapping(path: Path) -> dict[str, str]:
    """``<key> <rest of the line>``, the format of all files in a data directory; {} if the file is missing."""
    if not path.is_file():
        return {}
    found: dict[str, str] = {}
    for number, line in numbered_lines(path):
        key, *rest = line.split(maxsplit=1)
        if key in found:
            raise InputError(
                "corpus.id-twice", f"{path}, line {number}: {key!r} comes a second time; ids must be unique", key
            )
        found[key] = "".join(rest).strip()
    return found


def _recording(value: str, folder: Path, origin: str) -> _Recording:
    """The file in a line of ``wav.scp``; a pipe that only unpacks one file gives that file."""
    if not value.endswith("|"):
        return _Recording(_found(Path(value), folder), None)
    words = _words(value, origin)
    program = Path(words[0]).name if words else ""
    files = [word for word in words if Path(word).suffix.lower() in _AUDIO_SUFFIXES]
    others = [word for word in words[1:] if word not in files]
    if len(files) != 1 or program not in _DECODERS or not _ONLY_UNPACKS.fullmatch(" ".join(others)):
        raise InputError(
            "corpus.not-a-file",
            f"{origin} is made by a program ({value}); write its output to a file, and name that in wav.scp",
            origin,
        )
    return _Recording(_found(Path(files[0]), folder), _channel(words, origin) if program == "sph2pipe" else None)


def _words(command: str, origin: str) -> list[str]:
    try:
        return shlex.split(command.rstrip("| "))
    except ValueError as error:
        raise InputError("corpus.bad-row", f"{origin} is no command ({error}: {command})", origin) from error


def _channel(words: list[str], origin: str) -> int | None:
    """The channel in ``sph2pipe -c 2``, counted from 0."""
    if "-c" not in words:
        return None
    said = "".join(words[words.index("-c") + 1 :][:1])
    if said not in ("1", "2"):
        raise InputError("audio.channel", f"{origin}: sph2pipe takes -c 1 or -c 2, got {said!r}", said)
    return int(said) - 1


def _found(path: Path, folder: Path) -> Path:
    """Absolute path: relative to the working folder, as in Kaldi, or else to the data directory."""
    beside = folder / path
    return beside.absolute() if not os.path.exists(path) and os.path.exists(beside) else path.absolute()
