"""Readers of corpora and manifests, each as a function of the bytes of its file."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from tests.robustness.fuzz.seeds import SEPARATOR

Read = Callable[[bytes], object]


def recording(folder: Path) -> None:
    """A recording for the manifests to name."""
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / "a.wav", np.zeros(1600), 16_000)


def corpus(place: str) -> Callable[[Path], Read]:
    """The corpus of which one file is the input: read, kept to its folder, and each recording looked at."""

    def prepare(folder: Path) -> Read:
        from moe_lightning.corpus.probe import probe_entry
        from moe_lightning.corpus.readers import list_entries

        path = folder / place
        recording(path.parent)
        os.chdir(path.parent)  # lhotse's paths are relative to where one is

        def read(contents: bytes) -> object:
            path.write_bytes(contents)
            probed = [probe_entry(entry) for entry in list_entries(folder, allow_outside_root=True)]
            return probed, list_entries(folder)

        return read

    return prepare


def sound(folder: Path) -> Read:
    """A recording, whose header, bytes and samples are looked at."""
    from moe_lightning.corpus.entry import Entry
    from moe_lightning.corpus.probe import probe_entry
    from moe_lightning.data.audio import read_file

    path = folder / "a.mp3"  # the name of the decoder that speaks to the terminal; contents decide
    entry = Entry("train", "a", path, "hello", "ann", "a list, line 1")

    def read(contents: bytes) -> object:
        path.write_bytes(contents)
        return probe_entry(entry), read_file(path)

    return read


def several(places: Sequence[str]) -> Callable[[Path], Read]:
    """The same of a corpus of several files; the input is all of them."""

    def prepare(folder: Path) -> Read:
        from moe_lightning.corpus.probe import probe_entry
        from moe_lightning.corpus.readers import list_entries

        recording((folder / places[0]).parent)

        def read(contents: bytes) -> object:
            parts = contents.split(SEPARATOR)
            for place, part in zip(places, [*parts, *[b""] * len(places)], strict=False):
                (folder / place).write_bytes(part)
            probed = [probe_entry(entry) for entry in list_entries(folder, allow_outside_root=True)]
            return probed, list_entries(folder)

        return read

    return prepare


def manifest(folder: Path) -> Read:
    """A manifest of a run: what is read is written as it was."""
    from moe_lightning.data.manifest import read_manifest, write_manifest

    path = folder / "train.jsonl"

    def read(contents: bytes) -> object:
        path.write_bytes(contents)
        utterances = read_manifest(path)
        write_manifest(utterances, folder / "again.jsonl")
        written = [replace(one, audio_file=Path(os.path.abspath(one.audio_file))) for one in utterances]
        assert read_manifest(folder / "again.jsonl") == written, "what was read is not what was written"
        return utterances

    return read
