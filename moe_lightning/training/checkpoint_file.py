"""Checkpoints on disk: atomic writes, verified reads, and the previous one kept."""

import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from moe_lightning.errors import InputError
from moe_lightning.faults.whole_file import keep_as, whole_file

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class CheckpointFiles(TorchCheckpointIO):
    """Atomic writes of checkpoints: a kill leaves the old one or the new one; Lightning's own copies from ``/tmp``."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint; with a new ``last.ckpt``, the one before is kept.

        Raises:
            OSError: It cannot be written; the old ones stay.
        """
        file = Path(path)
        try:
            with whole_file(file) as partial:
                _save(checkpoint, partial)
                if file.name == LAST and file.exists():
                    keep_as(file, file.with_name(PREVIOUS))
        except OSError as error:
            raise OSError(
                f"the checkpoint {file} cannot be written ({error.strerror or error}); make room and run the same"
                " command again, it goes on from the checkpoint before"
            ) from error


def checkpoint_to_resume(folder: Path) -> Path | None:
    """The last checkpoint of a training, or the one before if that is damaged; None before the first.

    Raises:
        InputError: None of them is intact.
    """
    files = [file for file in (folder / LAST, folder / PREVIOUS) if file.exists()]
    whole = next((file for file in files if is_whole(file)), None)
    if files and whole is None:
        raise InputError(
            f"{' and '.join(map(str, files))} cannot be read to the end or have changed since they were written;"
            f" remove {folder} to train from the start"
        )
    return whole


def require_whole(file: Path) -> Path:
    """The checkpoint, once verified.

    Raises:
        InputError: It is damaged.
    """
    if not is_whole(file):
        raise InputError(
            f"{file} cannot be read to the end or has changed since it was written; remove {file.parent} to train from"
            " the start"
        )
    return file


def is_whole(file: Path) -> bool:
    """True if a checkpoint's parts match their stored checksums; torch does not check them."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False


class _Noting:
    """A file that keeps the reason for a failed write; torch reports only the failure."""

    def __init__(self, file: IO[bytes]):
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _save(checkpoint: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        noting = _Noting(file)
        try:
            torch.save(checkpoint, noting)  # type: ignore[arg-type]
        except (RuntimeError, OSError) as error:
            raise (noting.error or error) from error
