"""What the embeddings of a store were made of, and when two stores are of one kind."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from moe_lightning.errors import InputError
from moe_lightning.from_json import from_json
from moe_lightning.json_files import read_json, write_json

Pooling = Literal["mean", "mean+std", "flatten", "none"]
"""Ways to make one vector of an utterance's frames."""
Kind = Literal["pooled", "frames", "gradients"]
"""``frames`` keeps the encoder frames as well as the pooled vectors; ``gradients`` is a store of other vectors (see
`GradientModule`), within the folder of the store whose training utterances they are of."""

INFO_FILE = "store.json"
_MADE_BY = "moe-lightning embed"
_DECISIVE = ("embedding_layer", "pooling", "window")
"""What changes the meaning of an embedding, besides the model; a precision changes its last digits."""


class Difference(NamedTuple):
    """A property in which two stores disagree."""

    name: str
    mine: str
    theirs: str


@dataclass(frozen=True)
class StoreInfo:
    """What the embeddings were made of; later stages refuse another."""

    whisper_model: str
    """As given to the command: v2, v3, nano, a hub id, a folder."""
    pooling: Pooling
    """How one vector was made of an utterance's frames."""
    window: float
    """Seconds that the encoder read at least; 0 for real lengths. Only real frames were pooled."""
    embedding_layer: str = "last"
    """Encoder layers whose frames were joined, in their order: ``last``, ``6``, ``6,12,last``."""
    revision: str | None = None
    """Commit of a hub model, or a digest of a folder's weights; None where it is not known."""
    precision: str = "32-true"
    """Of the encoder, as the Trainer names it; several, joined by commas, where a restart changed it."""
    kind: Kind = "pooled"
    frames_dtype: str | None = None
    """``float16`` or ``float32`` of stored frames; None without them."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the equal parts that an embedding is joined of: ``layer 6 mean``, ``layer last mean``."""
        if self.kind == "gradients":
            return ("gradient to a scale of the frames", "gradient to a shift of the frames")
        statistics = ("mean", "std") if self.pooling == "mean+std" else ("mean",)
        if self.pooling == "flatten":
            return (f"layers {self.embedding_layer} flattened",)
        layers = self.embedding_layer.split(",")
        return tuple(f"layer {layer} {statistic}" for statistic in statistics for layer in layers)

    def differences(self, other: "StoreInfo") -> list[Difference]:
        """Properties in which embeddings of the two do not mean the same."""
        pairs = [(name, str(getattr(self, name)), str(getattr(other, name))) for name in _DECISIVE]
        if self.revision and other.revision:  # a folder that was moved is the same model
            pairs.insert(0, ("model revision", self.revision, other.revision))
        else:
            pairs.insert(0, ("whisper_model", self.whisper_model, other.whisper_model))
        return [Difference(*pair) for pair in pairs if pair[1] != pair[2]]

    @classmethod
    def of(cls, values: Any) -> "StoreInfo":
        """From the contents of a JSON file; what an older store does not say has its default.

        Raises:
            InputError: It says nothing of the model, the pooling or the window, or a value has another type.
        """
        names = ("whisper_model", "pooling", "window") if isinstance(values, Mapping) else ()
        missing = [name for name in names if name not in values]
        if missing:
            raise InputError(f"a store's {INFO_FILE} must name {', '.join(missing)}; run `{_MADE_BY}` again")
        return from_json(cls, values, f"a store's {INFO_FILE}")

    @classmethod
    def read(cls, folder: Path) -> "StoreInfo | None":
        """Of a store's folder; None where it was not made by this project."""
        file = folder / INFO_FILE
        return cls.of(read_json(file, _MADE_BY)) if file.exists() else None

    def write(self, folder: Path) -> None:
        """Write ``store.json``, with the names of the parts for those who read it."""
        write_json(folder / INFO_FILE, {**asdict(self), "parts": self.parts})
