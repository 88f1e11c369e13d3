"""Hugging Face ``datasets``: folders of ``save_to_disk`` (arrow) and downloaded ones (parquet).

Only pyarrow is needed: the tables hold encoded audio files, unpacked unchanged.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moe_lightning.corpus.entry import Entry, field_name, plain_value, stand_in_speaker
from moe_lightning.corpus.readers.columns import Columns, refuse_unknown
from moe_lightning.corpus.readers.split_names import split_in_name
from moe_lightning.corpus.readers.unpacked_audio import UnpackedAudio
from moe_lightning.data.utterance import FieldValue
from moe_lightning.errors import InputError
from moe_lightning.system.json_files import parse_json
from moe_lightning.system.plain_files import MAX_EXPANSION, SMALL, visible

_TEXTS = ("text", "sentence", "transcription", "transcript", "normalized_text")
_SPEAKERS = ("speaker", "speaker_id", "client_id")
_ROWS = 256
"""Rows of a parquet file in memory at a time."""


def is_hugging_face(root: Path) -> bool:
    """True if root or its folders hold arrow or parquet tables."""
    return bool(_tables(root))


def read_hugging_face(root: Path, unpacked: UnpackedAudio, own: Columns = ()) -> Iterator[Entry]:
    """Entries of all tables; the split comes from the file's or its folder's name, else train.

    Raises:
        InputError: pyarrow is not installed, a table cannot be read, or it has no audio or no text column.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise InputError(
            "package.missing",
            f"{root} is a Hugging Face dataset, which pyarrow reads; run `pip install 'moe_lightning[huggingface]'`",
            "pyarrow",
        ) from error
    for table in _tables(root):
        split = split_in_name(table.name) or (split_in_name(table.parent.name) if table.parent != root else None)
        try:
            yield from _read_table(table, split or "train", root, unpacked, own)
        except InputError:
            raise
        except (pyarrow.ArrowException, OSError) as error:
            raise InputError("file.unreadable", f"{table} cannot be read by pyarrow ({error})", table) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                "corpus.bad-row",
                f"{table} is no table of recordings and texts ({type(error).__name__}: {error}); look at it with"
                " `datasets.load_from_disk`",
                table,
            ) from error


def _tables(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    kinds = [(depth, suffix) for suffix in ("arrow", "parquet") for depth in ("", "*/")]
    found = sorted(path for depth, suffix in kinds for path in visible(root, f"{depth}*.{suffix}"))
    return [path for path in found if not path.name.startswith("cache-")]  # of `datasets`: results of its functions


def _read_table(table: Path, split: str, root: Path, unpacked: UnpackedAudio, own: Columns) -> Iterator[Entry]:
    number = 0
    names: _Meanings | None = None
    for batch in _batches(table):
        batch.validate(full=True)  # an offset beyond its buffer would be followed
        names = names or _Meanings(batch.schema, table, own)
        for row in batch.to_pylist():
            number += 1
            yield names.entry(row, split, f"{table}, row {number}", root, unpacked)


def _batches(table: Path) -> Iterator[Any]:
    if table.suffix == ".parquet":
        from pyarrow import parquet

        file = parquet.ParquetFile(table)
        size = sum(file.metadata.row_group(number).total_byte_size for number in range(file.num_row_groups))
        if size > SMALL + MAX_EXPANSION * table.stat().st_size:
            raise InputError(
                "file.too-large",
                f"{table} unpacks to {size:,} bytes, more than recordings can be packed to; make it again",
                table,
            )
        yield from file.iter_batches(batch_size=_ROWS)
        return
    import pyarrow

    with pyarrow.memory_map(str(table)) as source:
        yield from pyarrow.ipc.open_stream(source)


class _Meanings:
    """A table's columns by meaning, and its class label names."""

    def __init__(self, schema: Any, table: Path, own: Columns = ()) -> None:
        refuse_unknown(own, schema.names, table)
        structs = [column.name for column in schema if {"bytes", "path"} <= {part.name for part in _parts(column.type)}]
        structs = [name for name in structs if ("audio", name) in own] or structs
        texts = [name for name in (*_asked(own, "text"), *_TEXTS) if name in schema.names]
        if not structs or not texts:
            raise InputError(
                "corpus.bad-row",
                f"{table} needs a column of audio (bytes, path) and one of {', '.join(_TEXTS)}; it has"
                f" {', '.join(schema.names)}",
                table,
            )
        self.audio, self.text = structs[0], texts[0]
        self.speaker = next((name for name in (*_asked(own, "speaker"), *_SPEAKERS) if name in schema.names), None)
        info = parse_json((schema.metadata or {}).get(b"huggingface", b"{}").decode())
        features = info.get("info", {}).get("features", {})
        self.labels = {name: feature["names"] for name, feature in features.items() if _is_class_label(feature)}

    def entry(self, row: dict[str, Any], split: str, origin: str, root: Path, unpacked: UnpackedAudio) -> Entry:
        """One row as an entry; audio bytes are written to a file."""
        audio = row[self.audio] or {}
        name = audio.get("path") or ""
        if not audio.get("bytes") and not name:
            raise InputError("corpus.bad-row", f"{origin} has no audio", origin)
        audio_file = unpacked.write(audio["bytes"], split) if audio.get("bytes") else (root / name).absolute()
        speaker = _known(row.get(self.speaker)) if self.speaker else None
        taken = {self.audio, self.text, self.speaker, "id"}
        return Entry(
            split=split,
            id=str(
                row.get("id") or Path(name).stem or audio_file.relative_to(unpacked.folder.absolute()).with_suffix("")
            ),
            audio_file=audio_file,
            text=(_known(row[self.text]) or "").strip(),
            speaker=str(speaker) if speaker is not None else stand_in_speaker(audio_file, audio_file.parent),
            origin=origin,
            fields={field_name(key): self._value(key, value) for key, value in row.items() if key not in taken},
        )

    def _value(self, name: str, value: Any) -> FieldValue:
        if name in self.labels and isinstance(value, int) and 0 <= value < len(self.labels[name]):
            return str(self.labels[name][value])
        return plain_value(value)


def _asked(own: Columns, role: str) -> list[str]:
    return [name for of_role, name in own if of_role == role]


def _known(value: Any) -> Any:
    """The value; None for the NaN that pandas writes for a gap."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _parts(column_type: Any) -> list[Any]:
    return [column_type.field(index) for index in range(column_type.num_fields)]


def _is_class_label(feature: Any) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
