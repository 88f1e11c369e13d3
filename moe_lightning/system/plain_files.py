"""Untrusted text files: regular files only, UTF-8 only, and a limit on unpacked size.

A manifest may name a device, a pipe or a loop of links; a small packed file may expand to terabytes.
"""

import gzip
import io
import os
import stat
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from moe_lightning.errors import InputError, MissingInputError

MAX_LINE = 64 * 2**20
"""Limit in bytes for one line; manifest lines have hundreds."""
MAX_EXPANSION = 200
"""Limit in bytes unpacked per packed byte; JSON in gzip has 5 to 40, and gzip cannot exceed 1032."""
SMALL = 64 * 2**20
"""Unpacked bytes allowed for any packed file."""


def refuse_special(path: Path) -> None:
    """Accept a regular file or a missing one.

    Raises:
        InputError: It is a folder, a device, a pipe, a socket, or a loop of symbolic links.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # a loop of links; a name with a null character
        raise InputError(
            "file.unreadable", f"{str(path)!r} cannot be opened ({getattr(error, 'strerror', None) or error})", path
        ) from error
    if not stat.S_ISREG(mode):
        kind = next((words for is_kind, words in _KINDS if is_kind(mode)), "no regular file")
        raise InputError("file.not-regular", f"{path} is {kind}; give a regular file", path)


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def as_on_disk(path: Path) -> Path:
    """The same path, or the one on disk whose name has its accents composed or decomposed (NFC, NFD)."""
    if str(path).isascii() or path.exists():
        return path
    folder = as_on_disk(path.parent)
    names = [unicodedata.normalize(form, path.name) for form in ("NFC", "NFD")]
    return next((folder / name for name in names if (folder / name).exists()), path)


def read_text(path: Path) -> str:
    """A whole file, without a byte order mark.

    Raises:
        MissingInputError: There is none.
        InputError: It is not a regular file, cannot be read, or is not UTF-8.
    """
    refuse_special(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise MissingInputError("file.missing", f"{path} is missing", path) from None
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    except OSError as error:
        raise InputError("file.unreadable", f"{path} cannot be read ({error.strerror or error})", path) from error


def visible(folder: Path, pattern: str) -> Iterator[Path]:
    """Paths of a pattern, without the ``._NAME`` that macOS writes beside each file on other systems' disks."""
    return (path for path in folder.glob(pattern) if not path.name.startswith("._"))


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1, of a text that may be packed (``.gz``); blank lines are skipped.

    Raises:
        InputError: As `read_text`; a line over `MAX_LINE`; a packed file that is truncated, or expands over
            `MAX_EXPANSION` times its size (plus `SMALL`).
    """
    refuse_special(path)
    number = 0
    try:
        with _open(path) as file:
            allowed = SMALL + MAX_EXPANSION * path.stat().st_size
            while line := file.readline(MAX_LINE):
                number += 1
                allowed -= len(line)
                if len(line) >= MAX_LINE or allowed < 0:
                    raise InputError(
                        "file.too-large",
                        f"{path}, line {number}: unpacks to more than a manifest can be ({MAX_LINE:,} bytes a line,"
                        f" {MAX_EXPANSION} bytes out of one packed); make it again, or unpack it yourself",
                        path,
                    )
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
                if text.strip():
                    yield number, text
    except FileNotFoundError:
        raise MissingInputError("file.missing", f"{path} is missing", path) from None
    except UnicodeDecodeError as error:
        raise not_utf8(f"{path}, line {number}", error) from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError("file.cut-off", f"{path} breaks off after line {number} ({error})", number) from error


def not_utf8(where: object, error: UnicodeDecodeError) -> InputError:
    """The error for a text in another encoding, with a likely name for it."""
    return InputError(
        "file.encoding",
        f"{where} is not UTF-8 but likely {_likely_encoding(error.object)} ({error.reason} at byte {error.start}); save"
        " it as UTF-8",
        where,
    )


def _likely_encoding(text: bytes) -> str:
    if text.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in text:
        return "UTF-16"
    try:
        text.decode("cp1252")
    except UnicodeDecodeError:
        return "an encoding of its country"
    return "Windows-1252 or Latin-1"


def _open(path: Path) -> IO[bytes]:
    if path.suffix != ".gz":
        return path.open("rb")
    return io.BufferedReader(gzip.GzipFile(path), 2**16)
