"""Files for recordings from archives or tables, copied byte for byte."""

from pathlib import Path

from moe_lightning.system.atomic_file import write_bytes

_SUFFIX_OF_MAGIC = {b"fLaC": ".flac", b"RIFF": ".wav", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3"}
_FILES_PER_FOLDER = 1000


class UnpackedAudio:
    """Writes numbered files ``<folder>/<split>/00000/00000017.flac``; decodes nothing.

    Args:
        folder: Created with the first recording.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._counts: dict[str, int] = {}

    def write(self, contents: bytes, split: str) -> Path:
        """Write one recording; its suffix follows from its first bytes."""
        number = self._counts.get(split, 0)
        self._counts[split] = number + 1
        suffix = next((suffix for magic, suffix in _SUFFIX_OF_MAGIC.items() if contents.startswith(magic)), ".audio")
        path = self.folder / split / f"{number // _FILES_PER_FOLDER:05d}" / f"{number:08d}{suffix}"
        write_bytes(path, contents)
        return path.absolute()
