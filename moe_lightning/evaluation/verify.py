"""Check the report's scores against its transcripts: error rates are computed again."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from moe_lightning.data.normaliser import Normaliser
from moe_lightning.errors import InputError
from moe_lightning.evaluation.hypotheses import Decoded, read_hypotheses
from moe_lightning.evaluation.scores import References, SystemCounts, rates
from moe_lightning.evaluation.systems import check_same_utterances
from moe_lightning.run.finding import Finding
from moe_lightning.run.folder import ReportDir, RunDir
from moe_lightning.run.inputs import read_split
from moe_lightning.system.json_files import read_json


def check_evaluation(run: RunDir) -> Iterator[Finding]:
    """Check the reports of a run: of the test split, and of dev if there is one."""
    yield from check_scores(run, "test")
    if run.report("dev").results_file.exists():
        yield from check_scores(run, "dev")


def check_scores(run: RunDir, split: str) -> Iterator[Finding]:
    """Check a report's results against its transcripts, and these against the manifest's utterances."""
    report = run.report(split)
    flags = f"--run-dir {run.path} --split {split}"
    try:
        _check_transcripts(run, report, split)
    except (InputError, KeyError, TypeError) as error:
        way_out = f"remove {report.path} and run `moe-lightning evaluate {flags}`"
        yield Finding("evaluation", report.hypotheses_file, f"cannot be scored ({error})", way_out)
        return
    way_out = f"run `moe-lightning evaluate {flags} --rescore`"
    try:
        results = read_json(report.results_file, "moe-lightning evaluate")
        rules = list(_disagreements(run, report, split, results))
    except (InputError, KeyError, TypeError, AttributeError) as error:
        rules = [f"cannot be compared with the transcripts ({error})"]
    for rule in rules:
        yield Finding("evaluation", report.results_file, rule, way_out)
    if split == "test" and not rules:
        yield from _check_best(run, results, way_out)


def _check_transcripts(run: RunDir, report: ReportDir, split: str) -> None:
    utterances = {one.id: one for one in read_split(run, split)}
    check_same_utterances(list(utterances), Decoded.load(report).systems)
    for row in read_hypotheses(report):
        if row["reference"] != utterances[row["id"]].text:
            raise InputError(
                "run.inconsistent",
                f"the reference of {row['id']!r} is not the transcript that the manifest has",
                row["id"],
            )


def _disagreements(run: RunDir, report: ReportDir, split: str, results: Any) -> Iterator[str]:
    """Differences between the results and rates recomputed from the transcripts."""
    utterances = sorted(read_split(run, split), key=lambda utterance: utterance.id)
    references = References.of(utterances, Normaliser(results["normaliser"]["choice"]))
    rows = np.arange(len(references.ids))
    for name, hypotheses in Decoded.load(report).systems.items():
        scored = results["systems"].get(name, {})
        for key, value in asdict(rates(SystemCounts.of(references, hypotheses), references, rows)).items():
            if scored.get(key) != value:
                yield f"says {key} {scored.get(key)} of the system {name}, its transcripts come to {value}"


def _check_best(run: RunDir, results: Any, way_out: str) -> Iterator[Finding]:
    """The joint stage's best scores must repeat the test scores."""
    try:
        best = read_json(run.best_file, "moe-lightning pipeline").get("test", {})
        odd = [name for name, scores in best.items() if scores["rate"] != results["systems"][name]["rate"]]
    except (InputError, KeyError, TypeError, AttributeError) as error:
        yield Finding("evaluation", run.best_file, f"cannot be read ({error})", way_out)
        return
    for name in odd:
        yield Finding("evaluation", run.best_file, f"has another error rate of {name} than the results", way_out)
