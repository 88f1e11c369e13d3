"""Score the transcripts of all runs in a ladder together; a system's seeds count as one system."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from moe_lightning.data.utterance import Utterance
from moe_lightning.evaluation.environment import environment
from moe_lightning.evaluation.hypotheses import Decoded
from moe_lightning.evaluation.ladder.rows import Row, Rung, run_size, rungs
from moe_lightning.evaluation.ladder.runs import Ladder, Training
from moe_lightning.evaluation.ladder.verdict import judge_ladder, print_ladder
from moe_lightning.evaluation.report.write import write_report
from moe_lightning.evaluation.systems import score_systems
from moe_lightning.evaluation.usage import expert_usage
from moe_lightning.reports.results import SystemScores
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import read_split
from moe_lightning.settings.evaluation import ScoreSettings

BASELINES = (
    *("lora_equal", "random", "backbone", "lora", "uniform", "hard", "utterance_gate"),
    *("label_gate", "label", "best_expert"),
)
"""Baselines for the mixture; the first is the headline."""


def collect(
    ladder: Ladder, rows: Sequence[Row], factors: Mapping[str, float], seeds: Sequence[int], settings: ScoreSettings
) -> None:
    """Score a finished ladder, write ``report/``, print the table and the verdict.

    Args:
        factors: Learning-rate factor by row name.
    """
    runs = {(row.name, seed): ladder.run(Training(row, factors[row.name], seed)) for row in rows for seed in seeds}
    decoded = {key: Decoded.load(run.report("test")) for key, run in runs.items()}
    lines = rungs(rows)
    texts = {line.name: _all_seeds(line, decoded, seeds) for line in lines}
    test = read_split(runs["mixture", seeds[0]], "test")
    utterances = [replace(one, id=_seeded(one.id, seed)) for seed in seeds for one in test]
    pairs = [("mixture", name) for name in BASELINES if name in texts]
    pairs.append(("utterance_gate", "lora_equal"))
    pairs += [("label", "lora_equal"), ("label_gate", "lora_equal")] if "label" in texts else []
    results = score_systems(utterances, texts, pairs, settings=settings)
    results = replace(
        results,
        systems={
            line.name: replace(
                _scores(results.systems[line.name], line, runs, decoded, seeds),
                label=line.words,
                rate_by_seed=[_rate(test, texts[line.name], seed, settings) for seed in seeds],
            )
            for line in lines
        },
        split="test",
        utterances=len(test),
        seeds=list(seeds),
        lr_factors=dict(factors),
        experts=expert_usage(_gates(decoded, seeds), {}),
        environment=environment(runs["mixture", seeds[0]]),
        decoding=decoded["mixture", seeds[0]].decoding,
    )
    results = replace(results, verdict=judge_ladder(results))
    report = RunDir(ladder.path).report("test")
    results.save(report.results_file)
    write_report(runs["mixture", seeds[0]], report, results, utterances, texts)
    print_ladder(results)
    print(f"results: {report.results_file}   report: {report.page_file}")


def _all_seeds(line: Rung, decoded: Mapping[tuple[str, int], Decoded], seeds: Sequence[int]) -> dict[str, str]:
    """Transcripts of a system for all seeds, with the seed in the utterance id."""
    return {
        _seeded(id_, seed): text for seed in seeds for id_, text in decoded[line.row, seed].systems[line.system].items()
    }


def _gates(decoded: Mapping[tuple[str, int], Decoded], seeds: Sequence[int]) -> dict[str, list[float]]:
    """Gates of the first seed: experts of different seeds are not related."""
    return decoded["mixture", seeds[0]].gates


def _rate(test: Sequence[Utterance], texts: Mapping[str, str], seed: int, settings: ScoreSettings) -> float:
    one_seed = {utterance.id: texts[_seeded(utterance.id, seed)] for utterance in test}
    quick = replace(settings, num_resamples=100)
    return score_systems(test, {"one": one_seed}, settings=quick).systems["one"].rate


def _scores(
    scores: SystemScores,
    line: Rung,
    runs: Mapping[tuple[str, int], RunDir],
    decoded: Mapping[tuple[str, int], Decoded],
    seeds: Sequence[int],
) -> SystemScores:
    """Scores with the cost of the first seed, and the guard's findings over all."""
    trained = 0 if line.name == "backbone" else run_size(runs[line.row, seeds[0]]).num_trained
    costed = replace(decoded[line.row, seeds[0]].costed(scores, line.system), trained_parameters=trained)
    counts = [decoded[line.row, seed].counts(line.system) for seed in seeds]
    if None in counts:
        return replace(costed, loops=None, silenced=None)
    loops, silenced = (sum(of_seed) for of_seed in zip(*filter(None, counts), strict=True))
    return replace(costed, loops=loops, silenced=silenced)


def _seeded(id_: str, seed: int) -> str:
    return f"{id_}@{seed}"
