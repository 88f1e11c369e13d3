"""Score a finished run on its test split and write the results."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from moe_lightning.backbone.device import choose_device
from moe_lightning.backbone.normaliser import NORMALISER, normalise
from moe_lightning.corpus import Utterance, read_manifest
from moe_lightning.errors import InputError
from moe_lightning.evaluation.decode import Decoded, decode
from moe_lightning.evaluation.scores import score, score_groups
from moe_lightning.evaluation.table import print_results
from moe_lightning.json_files import read_json, write_json
from moe_lightning.moe.model import MixtureASR
from moe_lightning.run_dir import RunDir
from moe_lightning.run_inputs import RunInputs
from moe_lightning.speech_loaders import SpeechLoaders

SYSTEMS = ("backbone", "mixture")
MIN_UTTERANCES = 3
"""A field whose values have fewer utterances on average (a sentence number, say) makes no groups."""


def evaluate(run: RunDir, batch_size: int, num_workers: int, accelerator: str) -> None:
    """Decode the test split, write ``report/results.json`` and the hypotheses, print the table."""
    device = choose_device(accelerator)
    mixture = MixtureASR.load(run, device)
    inputs = RunInputs.load(run, mixture.config.whisper_model)
    utterances = {utterance.id: utterance for utterance in read_manifest(run.manifest_file("test"))}
    loader = SpeechLoaders(run, inputs, batch_size, num_workers).fixed("test")
    decoded = sorted(decode(mixture, loader, device), key=lambda row: row.id)
    results = score_systems(decoded, [utterances[row.id] for row in decoded], inputs)
    _write_hypotheses(run, decoded, utterances)
    write_json(run.results_file, results)
    best = read_json(run.best_file, "moe-lightning pipeline")
    summary = {name: {key: results["systems"][name][key] for key in ("wer", "cer", "words")} for name in SYSTEMS}
    write_json(run.best_file, {**best, "test": summary})
    print_results(results)
    print(f"results: {run.results_file}   hypotheses: {run.hypotheses_file}")


def score_systems(decoded: Sequence[Decoded], utterances: Sequence[Utterance], inputs: RunInputs) -> dict[str, Any]:
    """The contents of ``results.json``; rates are fractions.

    Raises:
        InputError: No test utterance has a word in its reference.
    """
    kept = [row for row, utterance in enumerate(utterances) if normalise(utterance.text)]
    if not kept:
        raise InputError("no transcript of the test split has a word; check the texts of its manifest")
    num_left_out = len(utterances) - len(kept)
    decoded, utterances = [decoded[row] for row in kept], [utterances[row] for row in kept]
    references = [normalise(utterance.text) for utterance in utterances]
    clusters = inputs.soft_labels.of([row.id for row in decoded]).argmax(axis=1)
    fields = {"cluster": [str(cluster) for cluster in clusters], **manifest_fields(utterances)}
    systems = {}
    for name in SYSTEMS:
        hypotheses = [normalise(getattr(row, name)) for row in decoded]
        groups = score_groups(references, hypotheses, fields)
        systems[name] = {**score(references, hypotheses)._asdict(), "groups": groups}
    counts = Counter(row.expert for row in decoded)
    usage = [counts[expert] / len(decoded) for expert in range(inputs.soft_labels.num_experts)]
    return {
        "systems": systems,
        "experts": {"usage": [round(share, 6) for share in usage]},
        "test_utterances": len(decoded),
        "left_out_without_words": num_left_out,
        "normaliser": NORMALISER,
    }


def manifest_fields(utterances: Sequence[Utterance]) -> dict[str, list[str]]:
    """Speaker and extra fields with at least two values that make groups, each with the value of every utterance."""
    names = sorted({name for utterance in utterances for name in utterance.fields})
    fields = {name: [str(utterance.fields.get(name, "unknown")) for utterance in utterances] for name in names}
    fields["speaker"] = [utterance.speaker for utterance in utterances]
    return {
        name: values for name, values in fields.items() if 2 <= len(set(values)) <= len(utterances) / MIN_UTTERANCES
    }


def _write_hypotheses(run: RunDir, decoded: Sequence[Decoded], utterances: dict[str, Utterance]) -> None:
    run.hypotheses_file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({**row._asdict(), "reference": utterances[row.id].text}, ensure_ascii=False) for row in decoded]
    run.hypotheses_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
