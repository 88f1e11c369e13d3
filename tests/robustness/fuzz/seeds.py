"""Inputs to begin with: each is what its reader takes."""

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

SEPARATOR = b"\x1e\n"
"""Between the files of a reader that reads several at once."""


def lines(*rows: Any) -> bytes:
    """Rows as JSON lines."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def clusterer_files(folder: Path) -> None:
    """A clustering of two clusters in three dimensions."""
    from moe_lightning.clustering.clusterer import Clusterer
    from moe_lightning.clustering.features import FeatureSpace
    from moe_lightning.clustering.neighbours import Neighbours

    rows_ND = np.eye(3, dtype=np.float32)
    space = FeatureSpace(np.zeros(3, np.float32), np.ones(3, np.float32), None, None, None, False)
    labelled = Neighbours(rows_ND, np.eye(3, dtype=np.float32))
    Clusterer(space, rows_ND[:2], labelled, 0.1, info={"settings": {}}).save(folder)


def array_bytes() -> bytes:
    """Two rows of a shard."""
    file = io.BytesIO()
    np.save(file, np.ones((2, 3), np.float32))
    return file.getvalue()


def sounds() -> list[bytes]:
    """A tenth of a second as wav, with and without a comment, as flac, ogg and mp3."""
    files = []
    for form, encoding in (("WAV", "PCM_16"), ("WAV", "GSM610"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", None)):
        file = io.BytesIO()
        soundfile.write(file, np.sin(np.arange(1600)), 16_000, format=form, subtype=encoding)
        files.append(file.getvalue())
    place = files[0].index(b"data")
    return [*files, files[0][:place] + b"LIST\x08\0\0\0INFOdata" + files[0][place:]]


def clusterer_arrays() -> bytes:
    """Of `clusterer_files`."""
    with tempfile.TemporaryDirectory() as folder:
        clusterer_files(Path(folder))
        return (Path(folder) / "clusterer.safetensors").read_bytes()


ROW = {"id": "a", "audio_filepath": "a.wav", "text": "hello", "speaker": "ann", "duration": 0.1, "offset": 0, "age": 3}
CUT = {
    "id": "a", "start": 0.0, "duration": 0.1, "channel": 0, "type": "MonoCut",
    "supervisions": [{"id": "a", "recording_id": "a", "start": 0.0, "duration": 0.1, "channel": 0, "text": "hello",
                      "speaker": "ann", "language": "en", "custom": {"accent": "x", "age": 3}}],
    "recording": {"id": "a", "sources": [{"type": "file", "channels": [0], "source": "a.wav"}],
                  "sampling_rate": 16000, "num_samples": 1600, "duration": 0.1, "channel_ids": [0]},
}  # fmt: skip
PERSON = {"Etiology": "none", "Files": [{"Filename": "a.wav", "Prompt": {"Transcript": "hello", "Category": "x"}}] * 2}
EXPERTS = {"num_experts": 2, "rank": 2, "alpha": 4.0, "target_modules": ["q_proj", "v_proj"], "shared_rank": 1}
MIXTURE = json.dumps({"whisper_model": "nano", "embedding_dim": 8, "experts": EXPERTS, "routing": "top_k"}).encode()
RECORD = {
    "stage": "corpus",
    "settings": {"seed": 1.0},
    "defaults": {"seed": 2.0, "layout": "auto"},
    "resolved": {"seed": 1.0, "layout": "auto"},
    "inputs": {},
    "hash": "0b",
    "seconds": 1.5,
    "started": "2026-01-01T00:00:00",
}
FILE = {"bytes": 0, "sha256": "0c"}
VERIFIED = {
    **RECORD,
    "files": {"corpus/train.jsonl.gz": FILE, "embeddings/a.npy": FILE},
    "input_files": {"corpus": {"corpus/train.jsonl.gz": "0c"}},
}
SPOKEN = {"id": "a", "speaker": "ann", "reference": "x", "expert": 0, "gate": [0.75, 0.25], "mixture": "x",
          "looped": [], "silenced": ["mixture"], "alignments": {"mixture": [["=", "x", "x"]]}}  # fmt: skip
COST = {
    **{"device": "cpu", "num_threads": 1, "audio_seconds": 1.0, "memory_bytes": 5, "routing": "top_k", "num_beams": 1},
    "systems": {"mixture": {"seconds": 1.0, "real_time_factor": 0.1, "parameters": 3, "trained_parameters": 2}},
}
GATE = {
    "num_experts": 2,
    "embedding_dim": 4,
    "hidden_dim": 8,
    "gate": "mlp",
    "gate_layers": None,
    "embedding_layer": "last",
    "metrics": {"val/loss": 0.5},
}
INFO = {"whisper_model": "nano", "pooling": "mean", "window": 0.0, "embedding_layer": "last", "revision": "sha256:0"}
MAPPED = {"id": "a", "contributor_id": "ann", "wav_filename": "a.wav", "wav_path": "a.wav", "row": 0, "split": "train",
          "embedding_path": "embeddings_00000.npy"}  # fmt: skip
SHARD = {"number": 0, "ids": ["a", "b"], "precision": "32-true", "num_frames": None}
CLUSTERER = {"settings": {"label_field": None}, "num_experts": 2, "temperature": 0.1, "noise": "drop",
             "noise_temperature": 1.0, "unit_length": False}  # fmt: skip
KALDI_FILES = tuple(f"train/{name}" for name in ("wav.scp", "text", "utt2spk", "segments", "utt2lang", "spk2gender"))
GRID = (
    b'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 0.5\ntiers? <exists>\nsize = 1\n'
    b"item []:\n"
    b'    item [1]:\n        class = "IntervalTier"\n        name = "sentence"\n        xmin = 0\n        xmax = 0.5\n'
    b"        intervals: size = 1\n        intervals [1]:\n            xmin = 0\n            xmax = 0.1\n"
    b'            text = "hello"\n'
)
ELAN = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT AUTHOR="" DATE="" FORMAT="3.0" VERSION="3.0"'
    b' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="x.xsd">\n<TIME_ORDER>'
    b'<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="0"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="100"/></TIME_ORDER>\n'
    b'<TIER LINGUISTIC_TYPE_REF="lt" PARTICIPANT="ann" TIER_ID="a"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1"'
    b' TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2"><ANNOTATION_VALUE>hello</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>'
    b'</ANNOTATION></TIER>\n<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="lt" TIME_ALIGNABLE="true"/></ANNOTATION_DOCUMENT>\n'
)
KALDI = SEPARATOR.join(
    [
        b"r a.wav\ns sph2pipe -f wav -c 2 a.wav |\n",
        b"a hello\n",
        b"a ann\n",
        b"a r 0.0 0.1\nb s 0 -1\n",
        b"a en\n",
        b"ann f\n",
    ]
)
