"""Settings of a clustering; the defaults are the guide's."""

from dataclasses import dataclass, field
from pathlib import Path

from moe_lightning.errors import InputError
from moe_lightning.run_dir import RunDir

ALGORITHMS = ("hdbscan", "spectral", "kmeans", "balanced", "random", "label")
REDUCTIONS = ("none", "pca", "umap", "gradients")
NOISE_POLICIES = ("drop", "nearest", "uniform", "noop")
MOST_SEED = 2**32 - 100
"""numpy's limit is 2^32 - 1, and the report also uses the next seeds."""
TREE_ALGORITHMS = ("best", "generic", "prims_kdtree", "prims_balltree", "boruvka_kdtree", "boruvka_balltree")


@dataclass(frozen=True)
class HdbscanOptions:
    """Options used only by HDBSCAN."""

    min_clusters: int = 8
    """A fit with at least this many clusters is accepted."""
    min_cluster_size: int = 5
    """Start of the search; one less per retry, never under 2."""
    max_retries: int = 5
    min_samples: int | None = None
    """None: the library uses min_cluster_size."""
    metric: str = "euclidean"
    allow_single_cluster: bool = False
    hdbscan_algorithm: str = "best"
    no_reduce_experts: bool = False
    """Too few clusters is an error; otherwise there are as many experts as clusters."""
    min_experts: int = 2
    """Lower limit for the reduced number of experts, in every path."""

    def __post_init__(self) -> None:
        _check_at_least(1, min_clusters=self.min_clusters, min_experts=self.min_experts)
        _check_at_least(2, min_cluster_size=self.min_cluster_size)
        _check_at_least(0, max_retries=self.max_retries)
        if self.min_samples is not None:
            _check_at_least(1, min_samples=self.min_samples)
        _check_choice("hdbscan-algorithm", self.hdbscan_algorithm, TREE_ALGORITHMS)


@dataclass(frozen=True)
class ClusteringSettings:
    """All settings that influence a clustering.

    Raises:
        InputError: A value is outside its range; the message names the flag.
    """

    embedding_dir: Path
    output_dir: Path
    algorithm: str = "hdbscan"
    num_experts: int | None = 8
    """None (``auto``): by eigengap and stability; with HDBSCAN, as many as it finds."""
    label_field: str | None = None
    """Manifest field whose values are the clusters for ``label``."""
    manifest_dir: Path | None = None
    """Folder of the manifests; None: the run's, beside the output folder, if it exists."""
    pool_stats: str | None = None
    """``mean`` or ``mean+std`` from a store with both; None: all statistics in the store."""
    layers: tuple[str, ...] = ()
    """Encoder layers from a store with several; empty: all."""
    pool_speakers: float | None = None
    """Speaker-level pooling before clustering: 0 keeps each utterance, 1 replaces it by its speaker's mean; None
    (``auto``): 0.8 if the train split has four speakers per expert, else 0.
    """
    residualise: tuple[str, ...] = ()
    """Nuisance variables whose linear trace is removed from the embeddings before clustering."""
    pooling: str = "mean"
    standardise: bool = True
    """Shift and scale each dimension to mean 0 and deviation 1, by the train split."""
    reduce: str = "pca"
    """``gradients``: onto the loss gradients predicted from the embedding; needs the gradients from `moe-lightning
    embed --gradients`.
    """
    reduce_dim: int = 50
    temperature: float | None = None
    """For the softmax over cosines (spectral), squared distances (kmeans, balanced) or log memberships (HDBSCAN); 1.0
    gives the guide's numbers for spectral and HDBSCAN, None (``auto``) is calibrated to the target entropy.
    """
    target_entropy: float = 0.4
    """Mean normalised entropy of calibrated soft labels: with 8 experts a perplexity of 8^0.4 = 2.3, about the limit
    for top-2 routing.
    """
    noise: str = "drop"
    """Destination of HDBSCAN's noise mass: ``drop`` (rows renormalised), ``nearest`` centroids, ``uniform``, or
    ``noop``: kept as an additional last expert, which has no deltas in later stages (`noop_expert`).
    """
    plot: str = "umap"
    report: bool = True
    seed: int = 42
    hdbscan: HdbscanOptions = field(default_factory=HdbscanOptions)

    def __post_init__(self) -> None:
        _check_choice("algorithm", self.algorithm, ALGORITHMS)
        _check_choice("pooling", self.pooling, ("mean", "flatten", "none"))
        _check_choice("reduce", self.reduce, REDUCTIONS)
        _check_choice("noise", self.noise, NOISE_POLICIES)
        _check_choice("plot", self.plot, ("umap", "pca", "none"))
        _check_choice("pool-stats", self.pool_stats or "mean", ("mean", "mean+std"))
        _check_at_least(1, num_experts=1 if self.num_experts is None else self.num_experts, reduce_dim=self.reduce_dim)
        _check_at_least(0, seed=self.seed)
        if self.seed > MOST_SEED:
            raise InputError(f"--seed must be at most {MOST_SEED}, got {self.seed}")
        if self.pool_speakers is not None and not 0 <= self.pool_speakers <= 1:
            raise InputError(f"--pool-speakers must be auto or a number from 0 to 1, got {self.pool_speakers}")
        if "" in self.layers:
            raise InputError("--layers takes encoder layers joined by commas, as in 6,last")
        for name in self.residualise:
            if not name:
                raise InputError("--residualise takes names joined by commas, as in duration,snr")
        if self.temperature is not None and not 0 < self.temperature < float("inf"):
            raise InputError(f"--temperature must be auto or a number above 0, got {self.temperature}")
        if not 0 < self.target_entropy < 1:
            raise InputError(f"--target-entropy must lie between 0 and 1, got {self.target_entropy}")
        if self.noise == "noop" and self.algorithm != "hdbscan":
            raise InputError(
                f"--noise noop makes an expert of what is noise to HDBSCAN, and --algorithm {self.algorithm} knows no"
                " noise; take --algorithm hdbscan, or leave --noise out"
            )
        if (self.algorithm == "label") != (self.label_field is not None):
            raise InputError("--algorithm label and --label-field FIELD go together; give both or neither")

    @property
    def manifest_folder(self) -> Path:
        """Folder to read the manifests from."""
        return self.manifest_dir or RunDir(self.output_dir.parent).stage_dir("corpus")


def _check_at_least(floor: int, **values: int) -> None:
    for name, value in values.items():
        if value < floor:
            raise InputError(f"--{name.replace('_', '-')} must be at least {floor}, got {value}")


def _check_choice(flag: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"--{flag} must be one of {', '.join(choices)}, got {value!r}")
