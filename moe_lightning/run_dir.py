"""The only place that knows the name of a file in a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Stage = Literal["corpus", "embedding", "clustering", "gating", "experts", "moe", "evaluation"]
STAGES: tuple[Stage, ...] = ("corpus", "embedding", "clustering", "gating", "experts", "moe", "evaluation")
SPLITS = ("train", "dev", "test")
LOGS_DIR = Path("lightning_logs")
"""Where runs lie unless told otherwise, under the folder that a command is given in."""

_STAGE_DIRS: dict[Stage, str] = {
    "corpus": "corpus",
    "embedding": "embeddings",
    "clustering": "clustered",
    "gating": "gating_model",
    "experts": "experts",
    "moe": "asr",
    "evaluation": "report",
}
_LABEL_FILES = {"hdbscan": "HDBSCAN", "spectral": "Spectral"}


@dataclass(frozen=True)
class RunDir:
    """Paths of a run, by default ``lightning_logs/<mode>``; nothing is made by asking for a path."""

    path: Path
    expert: int | None = None
    """The one expert that a job of the stage ``experts`` trains alone: such jobs have folders of their own."""

    def stage_dir(self, stage: Stage) -> Path:
        """Folder of a stage's record and files; into that of ``moe`` the experts and the evaluation write too."""
        folder = self.path / _STAGE_DIRS[stage]
        return folder / f"alone_{self.expert}" if stage == "experts" and self.expert is not None else folder

    @property
    def lock_dir(self) -> Path:
        """Folder in which one process at a time works; jobs that train single experts do so side by side."""
        return self.path if self.expert is None else self.stage_dir("experts")

    def record_file(self, stage: Stage) -> Path:
        """What the finished stage was made with; its being there is what "finished" means."""
        return self.stage_dir(stage) / "stage.json"

    def checkpoint_dir(self, stage: Stage) -> Path:
        """Holds ``best.ckpt`` and ``last.ckpt`` of a trained stage."""
        return self.stage_dir(stage) / "checkpoints"

    @property
    def log_file(self) -> Path:
        return self.path / "training.log"

    @property
    def tensorboard_dir(self) -> Path:
        return self.path / "tensorboard"

    def manifest_file(self, split: str) -> Path:
        """Utterances of train, dev or test, as a lhotse CutSet."""
        return self.stage_dir("corpus") / f"{split}.jsonl.gz"

    @property
    def left_out_file(self) -> Path:
        """Recordings that the corpus lists and the run does not use, each with the reason."""
        return self.stage_dir("corpus") / "left_out.json"

    @property
    def unpacked_audio_dir(self) -> Path:
        """Recordings that lay in archives or tables, one file each."""
        return self.stage_dir("corpus") / "audio"

    def embedding_dir(self, whisper_model: str) -> Path:
        """Store of the pooled embeddings of a speech model: v2 -> ``whisper_v2_embeddings``."""
        name = Path(whisper_model).name.removeprefix("whisper-")
        return self.stage_dir("embedding") / f"whisper_{name}_embeddings"

    @property
    def languages_file(self) -> Path:
        """Languages of the utterances whose manifest names none; there if there are any."""
        return self.stage_dir("embedding") / "languages.json"

    def embedding_dirs(self) -> list[Path]:
        """The stores that this run has; none before the embedding stage."""
        return sorted(file.parent for file in self.stage_dir("embedding").glob("*/mapping.json"))

    def labels_file(self, algorithm: str) -> Path:
        return self.stage_dir("clustering") / f"{_LABEL_FILES.get(algorithm, algorithm)}.json"

    def soft_labels_file(self, algorithm: str) -> Path:
        return self.stage_dir("clustering") / f"{_LABEL_FILES.get(algorithm, algorithm)}_soft.json"

    @property
    def clusterer_file(self) -> Path:
        """How the clustering was made, for programs; its arrays lie beside it."""
        return self.stage_dir("clustering") / "clusterer.json"

    def cluster_plot_file(self, algorithm: str, method: str) -> Path:
        return self.stage_dir("clustering") / f"{algorithm}_{method}.png"

    @property
    def cluster_report_file(self) -> Path:
        """The page on whether the clusters are real; there unless `--no-report` was given."""
        return self.stage_dir("clustering") / "report.html"

    @property
    def cluster_report_data_file(self) -> Path:
        """The figures of that page for programs."""
        return self.stage_dir("clustering") / "report.json"

    def all_soft_labels_files(self) -> list[Path]:
        """The soft labels of clusterings that this run has; none before that stage."""
        return sorted(self.stage_dir("clustering").glob("*_soft.json"))

    def refined_soft_labels_file(self, number: int) -> Path:
        """Soft labels by a round of refinement, counted from 1."""
        return self.stage_dir("moe") / f"refined_{number}_soft.json"

    @property
    def refinement_file(self) -> Path:
        """What each round of refinement has changed; there if there was one."""
        return self.stage_dir("moe") / "refinement.json"

    @property
    def gate_file(self) -> Path:
        """Weights of the gate trained on the soft labels."""
        return self.stage_dir("gating") / "best.pt"

    @property
    def gate_config_file(self) -> Path:
        return self.stage_dir("gating") / "gating_pretrain_config.json"

    @property
    def pretrained_experts_file(self) -> Path:
        """All experts as the pre-training left them; the joint stage starts from it."""
        return self.stage_dir("experts") / "experts.safetensors"

    def experts_alone(self) -> list[int]:
        """Experts that jobs of their own have finished, in order."""
        files = self.stage_dir("experts").glob("alone_*/stage.json")
        return sorted(int(file.parent.name.removeprefix("alone_")) for file in files)

    def expert_dir(self, expert: int) -> Path:
        """Peft folder of one expert."""
        return self.stage_dir("moe") / f"expert_{expert}"

    @property
    def joint_gate_file(self) -> Path:
        return self.stage_dir("moe") / "gating_model.pt"

    @property
    def mixture_file(self) -> Path:
        """The whole mixture, gate and experts, as the joint stage left it."""
        return self.stage_dir("moe") / "mixture.safetensors"

    @property
    def mixture_config_file(self) -> Path:
        return self.stage_dir("moe") / "mixture.json"

    @property
    def best_file(self) -> Path:
        """The joint stage's best scores, and where they were reached."""
        return self.stage_dir("moe") / "best.json"

    def report(self, split: str = "test") -> "ReportDir":
        """What an evaluation writes: of the test split into ``report``, of another one below it."""
        folder = self.stage_dir("evaluation")
        return ReportDir(folder if split == "test" else folder / split)

    @property
    def results_file(self) -> Path:
        """Scores of the test split."""
        return self.report().results_file

    @property
    def hypotheses_file(self) -> Path:
        return self.report().hypotheses_file


@dataclass(frozen=True)
class ReportDir:
    """Files of one evaluation."""

    path: Path

    @property
    def results_file(self) -> Path:
        """Every score, as JSON."""
        return self.path / "results.json"

    @property
    def hypotheses_file(self) -> Path:
        """Every transcript with its alignments, one utterance a line."""
        return self.path / "hypotheses.jsonl"

    @property
    def decoding_file(self) -> Path:
        """What the decoding cost."""
        return self.path / "decoding.json"

    @property
    def page_file(self) -> Path:
        return self.path / "index.html"

    @property
    def model_card_file(self) -> Path:
        return self.path / "README.md"
