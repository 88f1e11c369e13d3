"""The long recordings of a corpus -> segments, each an utterance."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

from moe_lightning.corpus.entry import Entry
from moe_lightning.corpus.probe import UNALIGNED, LeftOut, Probed, probe_entry
from moe_lightning.corpus.segmenting.pauses import pieces_of
from moe_lightning.corpus.segmenting.recording import Segment, Segmented, Unaligned, segment_recording
from moe_lightning.data.audio import read_audio, read_header
from moe_lightning.data.recordings import fingerprint
from moe_lightning.data.utterance import Utterance
from moe_lightning.errors import InputError
from moe_lightning.models.backbones.loading import load_backbone
from moe_lightning.models.backbones.names import model_revision
from moe_lightning.models.backbones.whisper import WhisperBackbone
from moe_lightning.models.device import choose_device
from moe_lightning.system.json_files import from_json, read_json_object, write_json
from moe_lightning.system.terminal import progress

VERSION = 1
"""Of the results on disk: another one is made again."""


def segment_corpus(entries: Sequence[Entry], probed: Probed, whisper_model: str, folder: Path) -> Probed:
    """The corpus with its recordings over 30 s cut into segments; the others stay as they are.

    Args:
        whisper_model: Name of the Whisper that aligns.
        folder: Keeps the segments of each recording, so that an interrupted import goes on.

    Raises:
        InputError: The model is no Whisper, or cannot write the language of a recording.
    """
    entry_of = {entry.id: entry for entry in entries}
    long = [entry_of[one.id] for one in probed.left_out if not one.is_fault]
    if not long:
        return probed
    backbone = _whisper(whisper_model) if any(entry.text.strip() for entry in long) else None
    splits = {split: list(utterances) for split, utterances in probed.splits.items()}
    left_out = [one for one in probed.left_out if one.is_fault]
    for entry in progress(long, "Cutting recordings"):
        found = _segmented(entry, backbone, whisper_model, folder)
        for number, segment in enumerate(found.segments):
            splits.setdefault(entry.split, []).append(_utterance(entry, number, segment))
        left_out += [_left_out(entry, one) for one in found.unaligned]
    return Probed(splits, left_out)


def _whisper(whisper_model: str) -> WhisperBackbone:
    backbone = load_backbone(whisper_model)
    if not isinstance(backbone, WhisperBackbone):
        raise InputError(
            "setting.conflict", f"--segment {whisper_model}: only a Whisper aligns", f"--segment {whisper_model}"
        )
    return backbone.to(choose_device("auto")).eval()


def _segmented(entry: Entry, backbone: WhisperBackbone | None, whisper_model: str, folder: Path) -> Segmented:
    """Segments of a recording, from disk if they were made of the same recording, text and model."""
    made_of = [
        *(VERSION, entry.start, entry.duration, entry.channel, entry.text, _language(entry)),
        *(fingerprint(entry.audio_file), model_revision(whisper_model) if backbone else None),
    ]
    file = folder / f"{sha256(repr(made_of).encode()).hexdigest()[:32]}.json"
    if file.exists():
        kept = read_json_object(file, "moe-lightning corpus import")
        return Segmented(
            [from_json(Segment, one, file) for one in kept["segments"]],
            [from_json(Unaligned, one, file) for one in kept["unaligned"]],
        )
    header = read_header(entry.audio_file)
    duration = header.seconds - entry.start if entry.duration is None else entry.duration
    waveform_L = read_audio(
        Utterance(entry.id, entry.audio_file, entry.start, duration, "-", "-", channel=entry.channel)
    )
    if backbone is not None and entry.text.strip():
        found = segment_recording(backbone, waveform_L, entry.text, _language(entry))
    else:
        found = Segmented([Segment(one.start, one.end - one.start, "") for one in pieces_of(waveform_L)], [])
    write_json(file, asdict(found))
    return found


def _language(entry: Entry) -> str | None:
    return Utterance(entry.id, entry.audio_file, 0.0, 1.0, "-", "-", entry.fields).language


def _utterance(entry: Entry, number: int, segment: Segment) -> Utterance:
    piece = replace(
        entry,
        id=f"{entry.id}-{number:04d}",
        start=entry.start + segment.start,
        duration=segment.duration,
        text=segment.text,
    )
    found = probe_entry(piece, needs_text=False)
    assert isinstance(found, Utterance), found
    return found


def _left_out(entry: Entry, one: Unaligned) -> LeftOut:
    where = f"{entry.audio_file}, {entry.start + one.start:.1f} to {entry.start + one.end:.1f} s"
    return LeftOut(entry.id, str(entry.audio_file), entry.origin, f"{where}: {one.reason}", False, UNALIGNED)
