"""Datasets of the Hugging Face hub: the files of ``hub:owner/name``, downloaded to the hub's cache."""

from pathlib import Path

from moe_lightning.corpus.readers.jsonl import SUFFIXES as JSON_SUFFIXES
from moe_lightning.corpus.readers.paired import AUDIO_SUFFIXES, TEXT_SUFFIXES
from moe_lightning.corpus.readers.tables import SUFFIXES as TABLE_SUFFIXES
from moe_lightning.errors import InputError
from moe_lightning.settings.corpus import HUB

_PATTERNS = [
    f"*{suffix}" for suffix in (".parquet", ".arrow", *TABLE_SUFFIXES, *JSON_SUFFIXES, *AUDIO_SUFFIXES, *TEXT_SUFFIXES)
]


def download(dataset_root: str) -> Path:
    """Folder of a dataset of the hub, with its tables and recordings; what is in the cache is not downloaded again.

    Args:
        dataset_root: ``hub:owner/name``, or ``hub:owner/name@revision``.

    Raises:
        InputError: The hub has no such dataset, or is out of reach.
    """
    from huggingface_hub import snapshot_download

    name, _, revision = dataset_root.removeprefix(HUB).partition("@")
    try:
        folder = snapshot_download(name, repo_type="dataset", revision=revision or None, allow_patterns=_PATTERNS)
    except Exception as error:  # the library raises errors of many kinds, from requests' to its own
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise InputError(
            "file.missing",
            f"{dataset_root} cannot be had from the hub ({reason}); check the name and the network, or give a folder",
            dataset_root,
        ) from error
    return Path(folder)
