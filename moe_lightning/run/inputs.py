"""Inputs of stages from a run: utterances with their languages, soft labels, and the embeddings behind them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from moe_lightning.data.embedding_store import EmbeddingStore, StoreInfo
from moe_lightning.data.manifest import read_manifest
from moe_lightning.data.soft_labels import SoftLabels
from moe_lightning.data.utterance import SPLITS, Utterance
from moe_lightning.errors import InputError, MissingInputError
from moe_lightning.models.backbones.names import model_revision
from moe_lightning.run.folder import RunDir
from moe_lightning.system.json_files import from_json, read_json_object


@dataclass(frozen=True)
class RunInputs:
    """Soft labels and embeddings of one corpus, checked against each other."""

    soft_labels: SoftLabels
    store: EmbeddingStore

    def __post_init__(self) -> None:
        self.store.of(self.soft_labels.ids)  # a missing embedding is an error now, not at batch 1000

    @property
    def whisper_model(self) -> str:
        """Model of the embeddings.

        Raises:
            InputError: The store does not name it.
        """
        if self.store.info is None:
            raise InputError(
                "setting.missing",
                f"{self.store.folder} does not name its speech model; give it with --data.whisper_model",
                "--data.whisper_model",
            )
        return self.store.info.whisper_model

    @classmethod
    def load(cls, run: RunDir, whisper_model: str | None = None, soft_labels_file: str | None = None) -> "RunInputs":
        """Read a run's files.

        Args:
            whisper_model: The required model of the embeddings; None takes theirs, with the same weights.
            soft_labels_file: The soft labels to use, if the run has several.

        Raises:
            InputError: An earlier stage has not finished, or used another model.
        """
        check_run(run)
        labels_file = Path(soft_labels_file) if soft_labels_file else only_soft_labels(run)
        store = EmbeddingStore.load(only_embeddings(run))
        if store.info:
            check_model(store.info, whisper_model or store.info.whisper_model)
        return cls(SoftLabels.load(labels_file), store)


def check_run(run: RunDir) -> None:
    """Raise an InputError for a run folder that does not exist."""
    if not run.path.is_dir():
        raise MissingInputError(
            "run.missing",
            f"the run folder {run.path} does not exist; check --run_dir, or run `moe-lightning pipeline` first",
            run.path,
        )


def check_model(info: StoreInfo | None, whisper_model: str) -> None:
    """Raise an InputError if the embeddings come from another model than requested, by name or weights.

    A moved folder is the same model. A store from another project passes unchecked.
    """
    if not info:
        return
    revision = model_revision(whisper_model) if info.revision else None
    if revision and revision == info.revision:
        return
    if info.whisper_model != whisper_model:
        raise InputError(
            "embeddings.other",
            f"the embeddings are of the model {info.whisper_model!r}, the model asked for is {whisper_model!r};"
            f" run `moe-lightning embed --whisper-model {whisper_model}` in another --run-dir, or ask for"
            f" {info.whisper_model!r}",
            whisper_model,
        )
    if revision:
        raise InputError(
            "model.changed",
            f"the embeddings are of other weights of {whisper_model!r}: their revision is {info.revision}, today's is"
            f" {revision}; run `moe-lightning embed` in another --run-dir, or restore the model",
            whisper_model,
        )


def check_run_model(run: RunDir, whisper_model: str) -> None:
    """Check the model of a run's stores without reading the embeddings; a run without a store passes."""
    for folder in run.embedding_dirs():
        check_model(StoreInfo.read(folder), whisper_model)


def only_soft_labels(run: RunDir) -> Path:
    """File of a run's soft labels; an InputError without any, or with several."""
    check_run(run)
    return _only(run.all_soft_labels_files(), "cluster", "--data.soft_labels_file")


def only_embeddings(run: RunDir) -> Path:
    """Folder of a run's embeddings; an InputError without any, or with several."""
    check_run(run)
    return _only(run.embedding_dirs(), "embed", "another --run_dir")


def _only(paths: list[Path], command: str, choose_by: str) -> Path:
    if not paths:
        raise MissingInputError(
            "run.stage-missing", f"the run has no output of `moe-lightning {command}` yet; run it first", command
        )
    if len(paths) > 1:
        raise InputError(
            "run.several", f"the run has several: {', '.join(map(str, paths))}; choose one with {choose_by}", paths
        )
    return paths[0]


def check_noise_column(trainer: Any) -> None:
    """Raise an InputError if the no-op expert would replace a cluster.

    Args:
        trainer: With the stage's data module. Soft labels from outside the run's clustering are trusted.
    """
    if trainer.datamodule is None or trainer.datamodule.hparams["soft_labels_file"]:
        return
    file = RunDir(Path(trainer.datamodule.hparams["run_dir"])).clusterer_file
    noise = read_json_object(file, "moe-lightning cluster", {"noise": str})["noise"] if file.exists() else "noop"
    if noise != "noop":
        raise InputError(
            "setting.conflict",
            "noop_expert leaves the last expert without deltas, but the last column of the run's soft labels is a"
            f" cluster (--noise {noise}); cluster with `--algorithm hdbscan --noise noop` in another --run-dir, or"
            " leave noop_expert out",
            f"--noise {noise}",
        )


def require_trained(file: Path, stage: str) -> Path:
    """The file, or a MissingInputError that names the command for it."""
    if not file.exists():
        raise MissingInputError(
            "run.stage-missing",
            f"{file} is missing; run `python -m moe_lightning.{stage} fit --config configs/{stage}.yaml` first",
            stage,
        )
    return file


@dataclass(frozen=True)
class SettledLanguages:
    """Languages of utterances whose manifest names none; the embedding stage writes them."""

    given: str | None = None
    """One language for all of them."""
    detected: dict[str, str] = field(default_factory=dict)
    """Code by utterance id, detected by the speech model."""
    made_with: dict[str, str | None] = field(default_factory=dict)
    """Language setting, speech model and corpus; empty in a file by an older version."""

    def of(self, utterance: Utterance) -> str | None:
        """The language of an utterance; None if unknown."""
        return utterance.language or self.detected.get(utterance.id) or self.given


def read_split(run: RunDir, split: str) -> list[Utterance]:
    """Utterances of a split; the field ``language`` is filled from the run if the manifest names none.

    Raises:
        MissingInputError: The run has no such manifest.
        InputError: A file is damaged.
    """
    utterances = read_manifest(run.manifest_file(split))
    settled = read_languages(run)
    return [_named(utterance, settled) for utterance in utterances]


def read_languages(run: RunDir) -> SettledLanguages:
    """Languages that the run has settled; none if no model needed them."""
    file = run.languages_file
    return from_json(SettledLanguages, read_json_object(file, "moe-lightning embed"), file) if file.exists() else _NONE


_NONE = SettledLanguages()


def _named(utterance: Utterance, settled: SettledLanguages) -> Utterance:
    language = settled.of(utterance)
    if language is None or utterance.language:
        return utterance
    return replace(utterance, fields={**utterance.fields, "language": language})


def manifest_ids(run: RunDir, splits: Sequence[str] = SPLITS) -> list[str]:
    """Ids of all utterances in the splits; an unreadable manifest is a separate finding."""
    ids: list[str] = []
    for split in splits:
        try:
            ids += [utterance.id for utterance in read_manifest(run.manifest_file(split))]
        except InputError:
            continue
    return ids
