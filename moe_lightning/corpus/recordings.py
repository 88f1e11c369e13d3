"""What the recordings of a corpus were when its manifests were made: `moe-lightning verify` compares.

A corpus may be hundreds of gigabytes, so a recording's fingerprint is its size and a digest of both its ends:
a file that was cut off, replaced or encoded anew differs there; one changed byte in the middle does not show.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from moe_lightning.corpus.utterance import Utterance
from moe_lightning.errors import InputError
from moe_lightning.from_json import from_json
from moe_lightning.json_files import read_json, write_json_list
from moe_lightning.plain_files import refuse_special

RECORDINGS_FILE = "recordings.json"
END_BYTES = 64 * 1024
"""Of each end: up to four seconds of 16 kHz are read whole."""
_NUM_THREADS = 8


class Fingerprint(NamedTuple):
    """What tells one recording from another, without reading it all."""

    bytes: int
    sha256_of_ends: str


def fingerprint(path: Path) -> Fingerprint:
    """Of a file that is there.

    Raises:
        OSError: It is missing or cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        sha256 = hashlib.sha256(file.read(END_BYTES))
        file.seek(max(END_BYTES, size - END_BYTES))
        sha256.update(file.read(END_BYTES))
    return Fingerprint(size, sha256.hexdigest())


def write_recordings(utterances: Iterable[Utterance], folder: Path) -> None:
    """Write ``recordings.json``: ``[{"path", "bytes", "sha256_of_ends"}, ...]``, each recording once."""
    paths = sorted({os.path.abspath(utterance.audio_file) for utterance in utterances})
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        rows = zip(paths, pool.map(lambda path: fingerprint(Path(path)), paths), strict=True)
        write_json_list(folder / RECORDINGS_FILE, ({"path": path, **one._asdict()} for path, one in rows))


def changed_recordings(folder: Path) -> Iterator[tuple[Path, str]]:
    """Recordings that are not what they were, each with what is wrong; nothing where none were written down.

    Raises:
        InputError: ``recordings.json`` is no such list.
    """
    file = folder / RECORDINGS_FILE
    rows: Any = read_json(file, "moe-lightning corpus") if file.exists() else []
    try:
        known = [(Path(row["path"]), from_json(Fingerprint, row, file)) for row in rows]
    except (KeyError, TypeError) as error:
        raise InputError(f"{file} must be a list of recordings with path, bytes and sha256_of_ends") from error
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        for (path, then), now in zip(known, pool.map(_fingerprint_now, (path for path, _ in known)), strict=True):
            if not isinstance(now, Fingerprint):
                yield path, f"cannot be read ({now})"
            elif now.bytes != then.bytes:
                yield path, f"has {now.bytes} bytes, the corpus stage found {then.bytes}"
            elif now != then:
                yield path, "has the size that it had, and other contents"


def _fingerprint_now(path: Path) -> Fingerprint | str:
    try:
        refuse_special(path)
        return fingerprint(path)
    except InputError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
