"""Stage 0: a corpus on disk -> checked utterances in speaker-disjoint splits."""

from moe_lightning.corpus.audio import SAMPLE_RATE, read_audio
from moe_lightning.corpus.manifest import read_manifest, write_manifest
from moe_lightning.corpus.utterance import AudioInfo, FieldValue, Utterance
from moe_lightning.run_dir import SPLITS

__all__ = [
    "SAMPLE_RATE",
    "SPLITS",
    "AudioInfo",
    "FieldValue",
    "Utterance",
    "read_audio",
    "read_manifest",
    "write_manifest",
]
