"""Checkpoints on disk: whole, checked when they are read, and the one before the last kept."""

import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from moe_lightning.errors import InputError
from moe_lightning.faults.whole_file import keep_as, whole_file

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class CheckpointFiles(TorchCheckpointIO):
    """Writes checkpoints so that a kill leaves the old one or the new one; Lightning's copies from ``/tmp``."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint; of the last one, the one before is kept.

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
    """The last checkpoint of a training, or the one before where that is damaged; None before the first.

    Raises:
        InputError: Neither is whole.
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
    """The checkpoint, once it is known to be as it was written.

    Raises:
        InputError: It is not.
    """
    if not is_whole(file):
        raise InputError(
            f"{file} cannot be read to the end or has changed since it was written; remove {file.parent} to train from"
            " the start"
        )
    return file


def is_whole(file: Path) -> bool:
    """Whether a checkpoint's parts have the checksums that they were written with; torch does not look at them."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False


class _Noting:
    """A file that remembers why it could not be written; torch says only that."""

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
