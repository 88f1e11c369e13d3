"""Names of all files and folders in a run; no other module spells them."""

from dataclasses import dataclass
from pathlib import Path

from moe_lightning.run.stages import Stage, info

LEFT_OUT_FILE = "left_out.json"
LOGS_DIR = Path("lightning_logs")
"""Default folder for runs, under the working folder."""

_LABEL_FILES = {"hdbscan": "HDBSCAN", "spectral": "Spectral"}


@dataclass(frozen=True)
class RunDir:
    """Paths in a run, by default ``lightning_logs/<mode>``; asking for a path creates nothing."""

    path: Path
    expert: int | None = None
    """The single expert that a job of the stage ``experts`` trains; such jobs have their own folders."""

    def stage_dir(self, stage: Stage) -> Path:
        """Folder for a stage's record and files; the stages experts and evaluation also write to that of ``moe``."""
        folder = self.path / info(stage).folder
        return folder / f"alone_{self.expert}" if stage == "experts" and self.expert is not None else folder

    @property
    def lock_dir(self) -> Path:
        """Folder locked by one process at a time; each job for a single expert locks its own."""
        return self.path if self.expert is None else self.stage_dir("experts")

    def record_file(self, stage: Stage) -> Path:
        """Record of a finished stage: settings, inputs, outputs. A stage is finished if this file exists."""
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
        """Recordings in the corpus that the run does not use, each with the reason."""
        return self.stage_dir("corpus") / LEFT_OUT_FILE

    @property
    def unpacked_audio_dir(self) -> Path:
        """Recordings unpacked from archives or tables, one file each."""
        return self.stage_dir("corpus") / "audio"

    def embedding_dir(self, whisper_model: str) -> Path:
        """Store of a speech model's pooled embeddings: v2 -> ``whisper_v2_embeddings``."""
        name = Path(whisper_model).name.removeprefix("whisper-")
        return self.stage_dir("embedding") / f"whisper_{name}_embeddings"

    @property
    def languages_file(self) -> Path:
        """Languages of the utterances whose manifest names none; absent if there are none."""
        return self.stage_dir("embedding") / "languages.json"

    def embedding_dirs(self) -> list[Path]:
        """Embedding stores in this run; empty before the embedding stage."""
        return sorted(file.parent for file in self.stage_dir("embedding").glob("*/mapping.json"))

    def labels_file(self, algorithm: str) -> Path:
        return self.stage_dir("clustering") / f"{_LABEL_FILES.get(algorithm, algorithm)}.json"

    def soft_labels_file(self, algorithm: str) -> Path:
        return self.stage_dir("clustering") / f"{_LABEL_FILES.get(algorithm, algorithm)}_soft.json"

    @property
    def clusterer_file(self) -> Path:
        """Clustering method and parameters in JSON; its arrays lie beside it."""
        return self.stage_dir("clustering") / "clusterer.json"

    def cluster_plot_file(self, algorithm: str, method: str) -> Path:
        return self.stage_dir("clustering") / f"{algorithm}_{method}.png"

    @property
    def cluster_report_file(self) -> Path:
        """Report page on cluster quality; absent under `--no-report`."""
        return self.stage_dir("clustering") / "report.html"

    @property
    def cluster_report_data_file(self) -> Path:
        """The figures of that page, as JSON."""
        return self.stage_dir("clustering") / "report.json"

    def all_soft_labels_files(self) -> list[Path]:
        """Soft labels of all clusterings in this run; empty before that stage."""
        return sorted(self.stage_dir("clustering").glob("*_soft.json"))

    def refined_soft_labels_file(self, number: int) -> Path:
        """Soft labels after a refinement round, counted from 1."""
        return self.stage_dir("moe") / f"refined_{number}_soft.json"

    @property
    def refinement_file(self) -> Path:
        """Changes by each refinement round; absent without refinement."""
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
        """All pre-trained experts; the joint stage starts from them."""
        return self.stage_dir("experts") / "experts.safetensors"

    def experts_alone(self) -> list[int]:
        """Experts trained by finished jobs of their own, in order."""
        files = self.stage_dir("experts").glob("alone_*/stage.json")
        return sorted(int(file.parent.name.removeprefix("alone_")) for file in files)

    def expert_dir(self, expert: int) -> Path:
        """Peft folder of one expert."""
        return self.stage_dir("moe") / f"expert_{expert}"

    def expert_dirs(self, num_experts: int) -> list[Path]:
        """Peft folders of all experts."""
        return [self.expert_dir(expert) for expert in range(num_experts)]

    @property
    def joint_gate_file(self) -> Path:
        return self.stage_dir("moe") / "gating_model.pt"

    @property
    def mixture_file(self) -> Path:
        """The whole mixture, gate and experts, after the joint stage."""
        return self.stage_dir("moe") / "mixture.safetensors"

    @property
    def mixture_config_file(self) -> Path:
        return self.stage_dir("moe") / "mixture.json"

    @property
    def mixture_files(self) -> tuple[Path, Path]:
        """Weights and config of the mixture."""
        return self.mixture_file, self.mixture_config_file

    @property
    def best_file(self) -> Path:
        """The joint stage's best score, its last epoch's scores, and the epochs and steps trained."""
        return self.stage_dir("moe") / "best.json"

    def report(self, split: str = "test") -> "ReportDir":
        """Files of an evaluation: in ``report`` for the test split, in a subfolder for others."""
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
        """All scores, as JSON."""
        return self.path / "results.json"

    @property
    def hypotheses_file(self) -> Path:
        """All transcripts with their alignments, one utterance per line."""
        return self.path / "hypotheses.jsonl"

    @property
    def decoding_file(self) -> Path:
        """Cost of the decoding."""
        return self.path / "decoding.json"

    @property
    def page_file(self) -> Path:
        return self.path / "index.html"

    @property
    def model_card_file(self) -> Path:
        return self.path / "README.md"
