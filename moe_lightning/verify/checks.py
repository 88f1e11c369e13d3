"""All checks of a run, stage by stage; for a ladder, of all its runs."""

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from moe_lightning.errors import MissingInputError
from moe_lightning.run_dir import STAGES, RunDir, Stage
from moe_lightning.stage_files import digest
from moe_lightning.verify.finding import Finding
from moe_lightning.verify.records import (
    Digest,
    Records,
    check_files,
    check_inputs_of,
    check_whole_training,
    read_records,
)


class Verified(NamedTuple):
    """Result of the checks for one stage of a run."""

    run: RunDir
    stage: Stage
    state: str
    """``finished``, ``begun``, or ``not begun``."""
    record: dict[str, Any]
    """Empty for an unfinished stage."""
    findings: list[Finding]

    @property
    def num_bytes(self) -> int:
        """Size of all files in the record."""
        return sum(state["bytes"] for state in self.record.get("files", {}).values())


def runs_of(path: Path) -> list[RunDir]:
    """The run in a folder, or the runs of a ladder.

    Raises:
        MissingInputError: The folder holds neither.
    """
    if any(RunDir(path).record_file(stage).exists() for stage in STAGES):
        return [RunDir(path)]
    found = sorted({file.parents[1] for file in path.glob("runs/*/*/*/*/stage.json")})
    if not found:
        raise MissingInputError(
            f"{path} holds no finished stage of a run, and no runs of a ladder; give the --run-dir of"
            " `moe-lightning pipeline` or `moe-lightning ladder`"
        )
    return [RunDir(folder) for folder in found]


def verify(path: Path) -> Iterator[Verified]:
    """Check every stage of the run, or of each run of the ladder, in a folder."""
    hashed = _remembering(digest)
    for run in runs_of(path):
        records, unreadable = read_records(run)
        for stage in STAGES:
            findings = [one for one in unreadable if one.stage == stage]
            if stage in records:
                found = chain(
                    check_whole_training(run, stage, records[stage]),
                    check_files(run, stage, records, hashed),
                    check_inputs_of(run, stage, records),
                )
                findings += _each_file_once(chain(found, _contents(run, stage)))
            begun = run.record_file(stage).with_name("stage.json.begun")
            state = "finished" if stage in records else "begun" if begun.exists() else "not begun"
            yield Verified(run, stage, state, records.get(stage, {}), findings)
            if stage == "experts":
                yield from _trained_alone(run, records, hashed)


def _trained_alone(run: RunDir, records: Records, hashed: Digest) -> Iterator[Verified]:
    """Check jobs that trained one expert each, by their records."""
    for expert in run.experts_alone():
        own = RunDir(run.path, expert)
        alone, findings = read_records(own)
        if "experts" in alone:
            together = {**records, "experts": alone["experts"]}
            findings += check_whole_training(own, "experts", alone["experts"])
            findings += check_files(own, "experts", together, hashed)
            findings += check_inputs_of(own, "experts", together)
        yield Verified(own, "experts", "finished", alone.get("experts", {}), findings)


def _contents(run: RunDir, stage: Stage) -> Iterator[Finding]:
    """Check the contents of a stage's files; reading weights and scoring import much, so only when needed."""
    if stage in ("corpus", "embedding", "clustering"):
        from moe_lightning.verify.contents import check_clustering, check_corpus, check_embedding

        checks = {"corpus": check_corpus, "embedding": check_embedding, "clustering": check_clustering}
        yield from checks[stage](run)
    elif stage == "evaluation":
        from moe_lightning.verify.scores import check_scores

        yield from check_scores(run, "test")
        if run.report("dev").results_file.exists():
            yield from check_scores(run, "dev")
    else:
        from moe_lightning.verify.weights import check_weights

        yield from check_weights(run, stage)


def _each_file_once(findings: Iterator[Finding]) -> Iterator[Finding]:
    """Keep each file's first finding: a file that is cut off cannot be loaded either."""
    seen = set()
    for finding in findings:
        if finding.file not in seen:
            seen.add(finding.file)
            yield finding


def _remembering(function: Callable[[Path], str]) -> Digest:
    """Compute the digest of each file once, even if several runs share it through links."""
    known: dict[Path, str] = {}

    def remembered(path: Path) -> str:
        real = path.resolve()
        if real not in known:
            known[real] = function(path)
        return known[real]

    return remembered
