"""Fingerprints of a corpus's recordings, taken with its manifests; `moe-lightning verify` compares them.

A corpus may be hundreds of gigabytes, so a fingerprint is a recording's size and a digest of both its ends. It
detects truncation, replacement and re-encoding, but not one changed byte in the middle.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from moe_lightning.data.utterance import Utterance
from moe_lightning.errors import InputError
from moe_lightning.system.json_files import from_json, read_json, write_json_list
from moe_lightning.system.plain_files import refuse_special

RECORDINGS_FILE = "recordings.json"
END_BYTES = 64 * 1024
"""Bytes read at each end: up to four seconds at 16 kHz are read whole."""
_NUM_THREADS = 8


class Fingerprint(NamedTuple):
    """Size and digest that identify a recording without reading it all."""

    bytes: int
    sha256_of_ends: str


def fingerprint(path: Path) -> Fingerprint:
    """Fingerprint of an existing file.

    Raises:
        OSError: It is missing or cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        sha256 = hashlib.sha256(file.read(END_BYTES))
        file.seek(max(END_BYTES, size - END_BYTES))
        sha256.update(file.read(END_BYTES))
    return Fingerprint(size, sha256.hexdigest())


def write_recordings(utterances: Iterable[Utterance], folder: Path) -> dict[str, Fingerprint]:
    """Write ``recordings.json``: ``[{"path", "bytes", "sha256_of_ends"}, ...]``, each recording once.

    Returns:
        The fingerprints by absolute path.
    """
    paths = sorted({os.path.abspath(utterance.audio_file) for utterance in utterances})
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        found = dict(zip(paths, pool.map(lambda path: fingerprint(Path(path)), paths), strict=True))
    write_json_list(folder / RECORDINGS_FILE, ({"path": path, **one._asdict()} for path, one in found.items()))
    return found


def changed_recordings(folder: Path) -> Iterator[tuple[Path, str]]:
    """Changed recordings, each with its fault; empty without ``recordings.json``.

    Raises:
        InputError: ``recordings.json`` is not such a list.
    """
    file = folder / RECORDINGS_FILE
    rows: Any = read_json(file, "moe-lightning corpus") if file.exists() else []
    try:
        known = [(Path(row["path"]), from_json(Fingerprint, row, file)) for row in rows]
    except (KeyError, TypeError) as error:
        raise InputError(
            "file.malformed", f"{file} must be a list of recordings with path, bytes and sha256_of_ends", file
        ) from error
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
