"""Read a saved clusterer (JSON and safetensors), and check that all parts fit together."""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from moe_lightning.clustering.memberships import Closeness
from moe_lightning.errors import InputError, MissingInputError
from moe_lightning.system.json_files import from_json, read_json_object

CONFIG_FILE = "clusterer.json"
ARRAYS_FILE = "clusterer.safetensors"
MADE_BY = "moe-lightning cluster"
LARGEST = 1e12
"""Largest number in the arrays: its products and squares stay finite."""


class ClustererConfig(NamedTuple):
    """The values in ``clusterer.json`` that decide labels."""

    temperature: float
    noise: Literal["drop", "nearest", "uniform", "noop"]
    noise_temperature: float
    unit_length: bool
    soft_labels_by: Closeness = "cosine"
    """The default is for clusterers from older versions."""


def read_config(values: dict[str, object], file: Path) -> ClustererConfig:
    """Config of a clusterer.

    Raises:
        InputError: A value is missing, has another type, or is no valid temperature.
    """
    config = from_json(ClustererConfig, values, file)
    for name in ("temperature", "noise_temperature"):
        if not 1e-6 <= getattr(config, name) <= 1e6:
            raise InputError(
                "file.malformed",
                f"{file}: {name} must be in [1e-6, 1e6], got {getattr(config, name)}; run `{MADE_BY}` again",
                name,
            )
    return config


def read_values(folder: Path) -> dict[str, object]:
    """All values in ``clusterer.json``."""
    return read_json_object(folder / CONFIG_FILE, MADE_BY)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a clusterer.

    Raises:
        InputError: The file is missing or cut off, or the arrays' shapes do not fit together.
    """
    from safetensors.numpy import load_file

    try:
        arrays = load_file(path)
    except FileNotFoundError:
        raise MissingInputError("file.missing", f"{path} is missing; run `{MADE_BY}` first", path) from None
    except Exception as error:  # safetensors raises its own error, and numpy lacks some of its types
        raise InputError("file.unreadable", f"{path} cannot be read ({error}); run `{MADE_BY}` again", path) from error
    missing = {"mean_D", "scale_D", "centroids_ER", "points_NR", "labels_NV"} - arrays.keys()
    pairs = [{"write_DJ", "read_JD"}, {"umap_rows_ND", "umap_points_NR"}]
    missing |= {name for pair in pairs if pair & arrays.keys() for name in pair - arrays.keys()}
    if missing:
        raise InputError(
            "file.malformed", f"{path} lacks {', '.join(sorted(missing))} of a clusterer; run `{MADE_BY}` again", path
        )
    _check_shapes(arrays, path)
    return arrays


def _check_shapes(arrays: dict[str, np.ndarray], path: Path) -> None:
    for name, letters in _AXES.items():
        array = arrays.get(name)
        if array is None:
            continue
        is_numbers = array.dtype.kind in "fiu" and bool((np.abs(array) <= LARGEST).all())  # also false for NaN
        if array.ndim != len(letters) or not array.size or not is_numbers:
            raise InputError(
                "file.malformed",
                f"{path}: {name} must hold numbers with {len(letters)} axes; run `{MADE_BY}` again",
                name,
            )
    sizes = {letter: size for name in ("mean_D", "centroids_ER") for letter, size in _named(arrays, name)}
    reduced = len(arrays["components_RD"]) if "components_RD" in arrays else sizes["D"]
    sizes |= {"U": reduced} if "umap_rows_ND" in arrays else {"R": reduced}
    for name in arrays.keys() & _AXES.keys():
        for letter, size in _named(arrays, name):
            if letter != "P" and sizes.setdefault(letter, size) != size:
                raise InputError(
                    "file.malformed",
                    f"{path}: {name} has {size} where the others have {sizes[letter]}; run `{MADE_BY}` again",
                    name,
                )
    if sizes["V"] not in (sizes["E"] + 1, 2 * sizes["E"] + 1):
        raise InputError(
            "file.malformed",
            f"{path}: labels_NV has {sizes['V']} columns for {sizes['E']} clusters; run `{MADE_BY}` again",
            "labels_NV",
        )


_AXES = {
    "mean_D": "D",
    "scale_D": "D",
    "write_DJ": "DJ",
    "read_JD": "JD",
    "components_RD": "PD",
    "umap_rows_ND": "MU",
    "umap_points_NR": "MR",
    "centroids_ER": "ER",
    "points_NR": "NR",
    "labels_NV": "NV",
}
"""Axis letters; equal letters mean equal lengths, except P: the number of principal components."""


def _named(arrays: dict[str, np.ndarray], name: str) -> list[tuple[str, int]]:
    return list(zip(_AXES[name], arrays[name].shape, strict=True))
