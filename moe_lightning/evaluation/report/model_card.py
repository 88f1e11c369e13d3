"""``report/README.md``: a model card for the Hugging Face hub, from the same results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from moe_lightning.evaluation.fields import shown_fields
from moe_lightning.evaluation.system_lines import (
    COLUMNS,
    Column,
    group_name,
    interval_in_words,
    shown_columns,
    system_lines,
)
from moe_lightning.evaluation.system_names import label

_COLUMNS = (
    *COLUMNS,
    Column("95 % interval", lambda line: interval_in_words(line.interval)),
    Column(
        "trained parameters", lambda line: "-" if line.trained_parameters is None else f"{line.trained_parameters:,}"
    ),
)
_HUB_IDS = {"v2": "openai/whisper-large-v2", "v3": "openai/whisper-large-v3"}


def model_card(results: Mapping[str, Any], whisper_model: str, languages: Sequence[str], dataset: str) -> str:
    """The card: YAML front matter, then verdict, scores, groups, and usage."""
    comparison = next(iter(results["comparisons"].values()))
    front = yaml.safe_dump(_front_matter(results, comparison, whisper_model, languages, dataset), sort_keys=False)
    said = results["verdict"]
    notes = "\n".join(f"- {_plain(detail)}" for detail in said["details"])
    environment = results["environment"]
    trained = results["systems"][comparison["system"]]["trained_parameters"]
    versions = ", ".join(f"{name} {number}" for name, number in environment["versions"].items())
    return f"""---
{front}---

# Mixture of experts for {_plain(dataset)}

{_plain(said["sentence"])}

{notes}

A gate reads an utterance's embedding by the frozen speech model ({_plain(whisper_model)}) and mixes
{len(results["experts"]["usage"])} low-rank experts (LoRA); {trained:,} parameters were trained.

Scores are of the {results["split"]} split: {results["utterances"]} utterances of {results["speakers"]} speakers.
Intervals hold with 95 %, by bootstrap over {comparison["over"]}. Texts are normalised:
{_plain(results["normaliser"]["name"])}.

{_score_table(results)}
{_group_table(results, comparison)}
## Use

```bash
moe-lightning transcribe recording.wav --run-dir PATH_OF_THIS_RUN
```

## Limits

It was tested on the speakers of one corpus; other voices, rooms and languages may be served differently. Groups that
got worse are named above.

## Made with

{_plain(versions)}; seed {environment["seed"]}; git revision {environment["git_revision"] or "unknown"}.
"""


def _front_matter(
    results: Mapping[str, Any], comparison: Mapping[str, Any], model: str, languages: Sequence[str], dataset: str
) -> dict[str, Any]:
    scores = results["systems"][comparison["system"]]
    metrics = [{"type": kind, "name": kind.upper(), "value": round(100 * scores[kind], 2)} for kind in ("wer", "cer")]
    source = {"name": dataset, "type": "audiofolder", "split": results["split"]}
    task = {"type": "automatic-speech-recognition", "name": "Automatic Speech Recognition"}
    base = _HUB_IDS.get(model, model)
    return {
        "language": list(languages),
        "library_name": "moe_lightning",
        "pipeline_tag": task["type"],
        "tags": ["mixture-of-experts", "lora"],
        **({"base_model": base} if base.count("/") == 1 and not Path(base).exists() else {}),
        "metrics": ["wer", "cer"],
        "model-index": [
            {"name": f"mixture for {dataset}", "results": [{"task": task, "dataset": source, "metrics": metrics}]}
        ],
    }


def _score_table(results: Mapping[str, Any]) -> str:
    systems = system_lines(results)
    columns = shown_columns(_COLUMNS, systems)
    lines = [_row("system", *(column.head for column in columns)), "|---" * (len(columns) + 1) + "|"]
    lines += [_row(_cell(line.name), *(_cell(column.cell(line)) for column in columns)) for line in systems]
    return "\n".join(lines) + "\n"


def _group_table(results: Mapping[str, Any], comparison: Mapping[str, Any]) -> str:
    before, after = (results["systems"][comparison[side]] for side in ("baseline", "system"))
    names = [_cell(label(comparison[side])) for side in ("baseline", "system")]
    rate = results["metric"]["short"]
    heads = ("group", results["metric"]["units"], *(f"{rate} % of {name}" for name in names), "95 % interval")
    lines = [_row(*heads), "|---" * len(heads) + "|"]
    for field in shown_fields(before["groups"]):
        for value, group in before["groups"][field].items():
            then = after["groups"][field][value]
            rates = (f"{100 * one['rate']:.1f}" for one in (group, then))
            name = f"{_cell(field)} {_cell(group_name(value, group, before))}"
            lines.append(_row(name, str(group["length"]), *rates, interval_in_words(then["interval"])))
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """A text on one line, with markup escaped."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("`", "'").replace("[", "\\[")


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")
