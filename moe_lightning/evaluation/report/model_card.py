"""``report/README.md``: a model card for the Hugging Face hub, from the same results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from moe_lightning.evaluation.fields import shown_fields
from moe_lightning.evaluation.system_lines import (
    COLUMNS,
    Column,
    group_name,
    interval_in_words,
    label,
    system_table,
)
from moe_lightning.models.backbones.names import SHORT_NAMES
from moe_lightning.reports.pages import render
from moe_lightning.reports.results import Comparison, Results

_COLUMNS = (
    *COLUMNS,
    Column("95 % interval", lambda one: interval_in_words(one.interval)),
    Column(
        "trained parameters",
        lambda one: "-" if one.trained_parameters is None else f"{one.trained_parameters:,}",
    ),
)


def model_card(
    results: Results, whisper_model: str, languages: Sequence[str], dataset: str, license: str | None = None
) -> str:
    """The card: YAML front matter, then verdict, scores, groups, and usage.

    Args:
        license: Of the trained model, by the Hub's name; None leaves it out.
    """
    comparison = results.headline
    environment = results.environment
    front = _front_matter(results, comparison, whisper_model, languages, dataset)
    front = {**front, "license": license} if license else front
    return render(
        "model_card.md.j2",
        front=yaml.safe_dump(front, sort_keys=False),
        dataset=dataset,
        verdict=results.judged,
        whisper_model=whisper_model,
        num_experts=len(results.experts.usage),
        trained=f"{results.systems[comparison.system].trained_parameters:,}",
        split=results.split,
        num_utterances=results.utterances,
        num_speakers=results.speakers,
        over=comparison.over,
        normaliser=results.normaliser.name,
        scores=_score_table(results),
        groups=_group_table(results, comparison),
        versions=", ".join(f"{name} {number}" for name, number in environment.versions.items()),
        seed=environment.seed,
        git_revision=environment.git_revision or "unknown",
    )


def _front_matter(
    results: Results, comparison: Comparison, model: str, languages: Sequence[str], dataset: str
) -> dict[str, Any]:
    scores = results.systems[comparison.system]
    rates = {"wer": scores.wer, "cer": scores.cer}
    metrics = [{"type": kind, "name": kind.upper(), "value": round(100 * rate, 2)} for kind, rate in rates.items()]
    source = {"name": dataset, "type": "audiofolder", "split": results.split}
    task = {"type": "automatic-speech-recognition", "name": "Automatic Speech Recognition"}
    base = model if Path(model).exists() else SHORT_NAMES.get(model.removeprefix("whisper-"), model)
    return {
        "language": list(languages),
        "library_name": "moe_lightning",
        "pipeline_tag": task["type"],
        "tags": ["mixture-of-experts", "lora"],
        **({"base_model": base, "base_model_relation": "adapter"} if _is_of_the_hub(base) else {}),
        "metrics": ["wer", "cer"],
        "model-index": [
            {"name": f"mixture for {dataset}", "results": [{"task": task, "dataset": source, "metrics": metrics}]}
        ],
    }


def _is_of_the_hub(name: str) -> bool:
    return name.count("/") == 1 and not Path(name).exists()


def _score_table(results: Results) -> list[list[str]]:
    head, rows = system_table(results, _COLUMNS)
    return [head, *rows]


def _group_table(results: Results, comparison: Comparison) -> list[list[str]]:
    before, after = (results.systems[name] for name in (comparison.baseline, comparison.system))
    names = [label(name) for name in (comparison.baseline, comparison.system)]
    rate = results.metric.short
    rows = [["group", results.metric.units, *(f"{rate} % of {name}" for name in names), "95 % interval"]]
    for field in shown_fields(before.groups):
        for value, group in before.groups[field].items():
            then = after.groups[field][value]
            rates = (f"{100 * one.rate:.1f}" for one in (group, then))
            name = f"{field} {group_name(value, group, before)}"
            rows.append([name, str(group.length), *rates, interval_in_words(then.interval)])
    return rows if len(rows) > 1 else []
