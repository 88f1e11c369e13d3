"""All stages of a small run in one process: ``python -m tests.chain RUN CORPUS MODEL NUM_WORKERS``."""

import sys
from pathlib import Path

from moe_lightning.clustering.__main__ import main as cluster
from moe_lightning.corpus.__main__ import main as corpus
from moe_lightning.embedding.__main__ import main as embed
from moe_lightning.evaluation.__main__ import main as evaluate
from moe_lightning.run.folder import RunDir
from tests.stage_runs import fit


def make_run(run: RunDir, corpus_dir: Path, model: Path, num_workers: int) -> None:
    """What the fixtures make that end with ``evaluated_run``, with so many processes that read audio."""
    workers = ["--num-workers", str(num_workers)]
    corpus(["--dataset-root", str(corpus_dir), "--run-dir", str(run.path)])
    embed(["--run-dir", str(run.path), "--whisper-model", str(model), *workers])
    store, output = str(run.embedding_dir(str(model))), str(run.stage_dir("clustering"))
    spectral = ["--algorithm", "spectral", "--num-experts", "2", "--plot", "none"]
    cluster(["--embedding-dir", store, "--output-dir", output, *spectral])
    fit("gating", run.path, model, "--trainer.max_epochs", "2")
    of_audio = ["--trainer.max_epochs", "1", "--data.num_workers", str(num_workers)]
    fit("experts", run.path, model, *of_audio)
    fit("moe", run.path, model, *of_audio)
    evaluate(["--run-dir", str(run.path), "--accelerator", "cpu", "--no-guard", *workers])  # its tones are no speech


if __name__ == "__main__":
    make_run(RunDir(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
