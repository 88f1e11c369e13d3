"""A fitted clustering; it labels new embeddings."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from moe_lightning.clustering.clusterer_files import ARRAYS_FILE, CONFIG_FILE, read_arrays, read_config, read_values
from moe_lightning.clustering.features import FeatureSpace
from moe_lightning.clustering.memberships import Closeness, closeness, cosines, place_noise, softmax
from moe_lightning.clustering.neighbours import Neighbours, vote
from moe_lightning.clustering.nuisance import Removal
from moe_lightning.system.atomic_file import whole_file
from moe_lightning.system.json_files import write_json


class Prediction(NamedTuple):
    """Labels of embeddings."""

    labels_N: np.ndarray
    """Hard labels, int64; -1 is noise."""
    probs_NE: np.ndarray
    """Soft labels, float32; rows sum to 1."""


@dataclass(frozen=True)
class Clusterer:
    """Everything needed to label new audio; saved as JSON and safetensors."""

    space: FeatureSpace
    centroids_ER: np.ndarray
    labelled: Neighbours
    """Training points, or their landmarks. Values: one-hot hard labels with noise last, then the algorithm's own
    memberships, if it has any; (N, E + 1) or (N, E + 1 + E).
    """
    temperature: float
    """For the softmax over `soft_labels_by`, or over log memberships if the algorithm has memberships."""
    noise: str = "drop"
    noise_temperature: float = 1.0
    """For the softmax over cosines that replaces noise, if the algorithm has memberships."""
    soft_labels_by: Closeness = "cosine"
    info: dict[str, Any] = field(default_factory=dict)
    """Algorithm, settings and figures of the fit, for people."""

    @property
    def num_experts(self) -> int:
        """Number of clusters; with the noise policy ``noop``, soft labels have one more column."""
        return len(self.centroids_ER)

    def soft_labels(self, embeddings_ND: np.ndarray) -> np.ndarray:
        """``probs_NE``, float32; rows sum to 1.

        Raises:
            InputError: Embeddings with another size, or values that are not finite.
        """
        return self.predict(embeddings_ND).probs_NE

    def predict(self, embeddings_ND: np.ndarray) -> Prediction:
        """Hard and soft labels; training embeddings get their own labels back.

        A hard label is the vote of the nearest training points. A soft label is a softmax over cosines to the
        centroids (k-means and balanced clusters: over squared distances). If the algorithm has memberships, it comes
        from the neighbours' mean membership instead.
        """
        return self.predict_points(self.space.transform(embeddings_ND))

    def soft_labels_of_points(self, points_NR: np.ndarray) -> np.ndarray:
        """``probs_NE`` of points already in the clustered space."""
        return self.predict_points(points_NR).probs_NE

    def predict_points(self, points_NR: np.ndarray) -> Prediction:
        """Hard and soft labels of points already in the clustered space."""
        return self.predict_by(points_NR, self.labelled.average(points_NR))

    def predict_by(self, points_NR: np.ndarray, said_NV: np.ndarray) -> Prediction:
        """Hard and soft labels of points, given their neighbours' mean `labelled` values."""
        memberships_NE = said_NV[:, self.num_experts + 1 :]
        has_memberships = memberships_NE.shape[1] > 0
        if has_memberships:
            fallback_NE = softmax(cosines(points_NR, self.centroids_ER), self.noise_temperature)
            probs_NE = place_noise(memberships_NE, fallback_NE, self.noise, self.temperature)
            return Prediction(vote(said_NV, self.num_experts), probs_NE.astype(np.float32))
        probs_NE = softmax(closeness(points_NR, self.centroids_ER, self.soft_labels_by), self.temperature)
        if self.noise == "noop":  # spectral clustering replaced HDBSCAN: there is no noise
            probs_NE = np.pad(probs_NE, [(0, 0), (0, 1)])
        return Prediction(vote(said_NV, self.num_experts), probs_NE.astype(np.float32))

    def save(self, folder: Path) -> None:
        """Write ``clusterer.safetensors`` and then, last, ``clusterer.json``."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / ARRAYS_FILE) as partial:
            save_file({name: np.ascontiguousarray(array) for name, array in self._arrays().items()}, partial)
            partial.chmod(0o644)  # safetensors makes it readable by its owner only
        read_back = {
            "num_experts": self.num_experts,
            "temperature": self.temperature,
            "noise": self.noise,
            "noise_temperature": self.noise_temperature,
            "unit_length": self.space.unit_length,
            "soft_labels_by": self.soft_labels_by,
        }
        write_json(folder / CONFIG_FILE, {**self.info, **read_back})

    @classmethod
    def load(cls, folder: Path) -> "Clusterer":
        """Read a saved clusterer.

        Raises:
            MissingInputError: The folder holds no clusterer.
            InputError: A file is cut off, or has another format.
        """
        values = read_values(folder)
        config = read_config(values, folder / CONFIG_FILE)
        arrays = read_arrays(folder / ARRAYS_FILE)
        umap = Neighbours(arrays["umap_rows_ND"], arrays["umap_points_NR"]) if "umap_rows_ND" in arrays else None
        removed = Removal(arrays["write_DJ"], arrays["read_JD"]) if "write_DJ" in arrays else None
        space = FeatureSpace(
            arrays["mean_D"], arrays["scale_D"], removed, arrays.get("components_RD"), umap, config.unit_length
        )
        return cls(
            space,
            arrays["centroids_ER"],
            Neighbours(arrays["points_NR"], arrays["labels_NV"]),
            config.temperature,
            config.noise,
            config.noise_temperature,
            config.soft_labels_by,
            values,
        )

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {
            "mean_D": self.space.mean_D,
            "scale_D": self.space.scale_D,
            "centroids_ER": self.centroids_ER,
            "points_NR": self.labelled.rows_NR,
            "labels_NV": self.labelled.values_NV,
        }
        if self.space.removed is not None:
            arrays["write_DJ"], arrays["read_JD"] = self.space.removed.write_DJ, self.space.removed.read_JD
        if self.space.components_RD is not None:
            arrays["components_RD"] = self.space.components_RD
        if self.space.umap is not None:
            arrays["umap_rows_ND"] = self.space.umap.rows_NR
            arrays["umap_points_NR"] = self.space.umap.values_NV
        return arrays
