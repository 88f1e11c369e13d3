"""Provenance of a store's embeddings, and comparison with another store."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from moe_lightning.errors import InputError
from moe_lightning.settings.embedding import Pooling
from moe_lightning.system.json_files import from_json, read_json, write_json

Kind = Literal["pooled", "frames", "gradients"]
"""``frames`` keeps the encoder frames beside the pooled vectors; ``gradients`` holds loss gradients (see
`GradientModule`), in a subfolder of the store with the same training utterances.
"""

INFO_FILE = "store.json"
GRADIENTS_DIR = "gradients"
"""Subfolder with a second store: loss gradients of the training utterances at their frames."""
_MADE_BY = "moe-lightning embed"
_DECISIVE = ("embedding_layer", "pooling", "window")
"""Properties, besides the model, that change the meaning of an embedding; the precision changes its last digits."""


class Difference(NamedTuple):
    """A property with different values in two stores."""

    name: str
    mine: str
    theirs: str


@dataclass(frozen=True)
class StoreInfo:
    """Provenance of the embeddings; later stages refuse a mismatch."""

    whisper_model: str
    """As given to the command: v2, v3, nano, a hub id, a folder."""
    pooling: Pooling
    """Method that makes one vector from an utterance's frames."""
    window: float
    """Minimum seconds that the encoder read; 0 for real lengths. Only real frames were pooled."""
    embedding_layer: str = "last"
    """Encoder layers whose frames were joined, in their order: ``last``, ``6``, ``6,12,last``."""
    revision: str | None = None
    """Commit of a hub model, or a digest of a folder's weights; None if unknown."""
    precision: str = "32-true"
    """The encoder's precision in the Trainer's notation; comma-separated if a restart changed it."""
    kind: Kind = "pooled"
    frames_dtype: str | None = None
    """``float16`` or ``float32`` for stored frames; None without them."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the equal parts of an embedding, in order: ``layer 6 mean``, ``layer last mean``."""
        if self.kind == "gradients":
            return ("gradient to a scale of the frames", "gradient to a shift of the frames")
        statistics = ("mean", "std") if self.pooling == "mean+std" else ("mean",)
        if self.pooling == "flatten":
            return (f"layers {self.embedding_layer} flattened",)
        layers = self.embedding_layer.split(",")
        return tuple(f"layer {layer} {statistic}" for statistic in statistics for layer in layers)

    def differences(self, other: "StoreInfo") -> list[Difference]:
        """Properties that give the embeddings of two stores different meanings."""
        pairs = [(name, str(getattr(self, name)), str(getattr(other, name))) for name in _DECISIVE]
        if self.revision and other.revision:  # a moved folder is the same model
            pairs.insert(0, ("model revision", self.revision, other.revision))
        else:
            pairs.insert(0, ("whisper_model", self.whisper_model, other.whisper_model))
        return [Difference(*pair) for pair in pairs if pair[1] != pair[2]]

    @classmethod
    def of(cls, values: Any) -> "StoreInfo":
        """StoreInfo from the contents of a JSON file; values missing in an older store get their defaults.

        Raises:
            InputError: Model, pooling or window is missing, or a value has the wrong type.
        """
        names = ("whisper_model", "pooling", "window") if isinstance(values, Mapping) else ()
        missing = [name for name in names if name not in values]
        if missing:
            raise InputError(
                "file.malformed",
                f"a store's {INFO_FILE} must name {', '.join(missing)}; run `{_MADE_BY}` again",
                missing,
            )
        return from_json(cls, values, f"a store's {INFO_FILE}")

    @classmethod
    def read(cls, folder: Path) -> "StoreInfo | None":
        """StoreInfo of a store's folder; None for a folder from another project."""
        file = folder / INFO_FILE
        return cls.of(read_json(file, _MADE_BY)) if file.exists() else None

    def write(self, folder: Path) -> None:
        """Write ``store.json``, with the names of the parts for readers."""
        write_json(folder / INFO_FILE, {**asdict(self), "parts": self.parts})
