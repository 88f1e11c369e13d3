"""Decode a finished run's split, score it, write the report."""

from collections.abc import Sequence
from dataclasses import replace

from moe_lightning.data.normaliser import Normaliser
from moe_lightning.data.utterance import Utterance
from moe_lightning.evaluation.checks import check_split
from moe_lightning.evaluation.environment import environment
from moe_lightning.evaluation.fields import MOST_VALUES, group_columns
from moe_lightning.evaluation.hypotheses import Decoded
from moe_lightning.evaluation.report.write import write_model_card, write_report
from moe_lightning.evaluation.systems import check_same_utterances, score_systems
from moe_lightning.evaluation.table import print_results
from moe_lightning.evaluation.usage import expert_usage, true_experts
from moe_lightning.evaluation.verdict import judge
from moe_lightning.reports.results import Groups, Results
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import RunInputs, read_split
from moe_lightning.run.record import check_inputs, renew_record
from moe_lightning.settings.evaluation import EvaluationSettings, GateBy, ScoreSettings
from moe_lightning.system.json_files import read_json_object, write_json

HEADLINE = ("mixture", "backbone")


def evaluate(run: RunDir, settings: EvaluationSettings) -> Results:
    """Decode a split by all systems, score them, write and print the results."""
    num_shared = check_split(run, settings.split)
    utterances = read_split(run, settings.split)
    group_columns(utterances, settings.by)  # an unknown field fails now, not after decoding
    decode_split(run, utterances, settings)
    return score_split(run, settings.split, settings, num_shared)


def rescore(run: RunDir, settings: EvaluationSettings) -> Results:
    """Score earlier transcripts with other settings; no model runs."""
    check_inputs(run, "evaluation")
    results = score_split(run, settings.split, settings, check_split(run, settings.split))
    if settings.split == "test":
        renew_record(run, "evaluation")  # a finished stage has new files now
    return results


def decode_split(run: RunDir, utterances: Sequence[Utterance], settings: EvaluationSettings) -> None:
    """Write the hypotheses of a split, aligned with the references."""
    from moe_lightning.evaluation.decode import decode  # torch: scoring needs none
    from moe_lightning.models.backbones.decoding import DecodeOptions
    from moe_lightning.models.device import autocast, choose_device, deterministic
    from moe_lightning.models.mixture import MixtureASR
    from moe_lightning.training.speech_loaders import SpeechLoaders

    device = choose_device(settings.accelerator)
    experts = true_experts(run, utterances) if "label" in settings.system_names else None
    mixture = MixtureASR.load(run.mixture_files, device, settings.routing, settings.window)  # type: ignore[arg-type]
    options = DecodeOptions(guard=not settings.no_guard, num_beams=settings.num_beams)
    inputs = RunInputs.load(run, mixture.config.whisper_model)
    loader = SpeechLoaders(run, inputs, settings.batch_size, settings.num_workers).fixed(settings.split)
    speakers = gate_speakers(run, utterances, settings.gate_by)
    with deterministic(settings.deterministic), autocast(device, settings.precision):
        decoded = decode(mixture, loader, device, settings.system_names, experts, speakers, options)
    decoded.save(run.report(settings.split), utterances, Normaliser(settings.normaliser))


def gate_speakers(run: RunDir, utterances: Sequence[Utterance], gate_by: GateBy) -> dict[str, str] | None:
    """Speaker by utterance id, if the gate reads all of a speaker; else None.

    With ``auto``, the gate reads speakers if the clusters were made from speakers. A run with manually changed
    experts has no clusterer to look this up; its gate then reads utterances alone.
    """
    if gate_by == "auto" and not run.clusterer_file.exists():
        gate_by = "utterance"
    elif gate_by == "auto":
        clusterer = read_json_object(run.clusterer_file, "moe-lightning cluster", {"settings": dict})
        gate_by = "speaker" if clusterer["settings"].get("pool_speakers") else "utterance"
    return {one.id: one.speaker for one in utterances} if gate_by == "speaker" else None


def score_split(run: RunDir, split: str, settings: ScoreSettings, num_shared: int = 0) -> Results:
    """Score the stored hypotheses of a split, and write all results."""
    report = run.report(split)
    decoded = Decoded.load(report)
    utterances = sorted(read_split(run, split), key=lambda utterance: utterance.id)
    check_same_utterances([utterance.id for utterance in utterances], decoded.systems)
    columns = _run_columns(run, decoded)
    results = score_systems(utterances, decoded.systems, [HEADLINE], columns, settings)
    shown = _usage_columns(utterances, results.systems[HEADLINE[0]].groups, columns)
    results = replace(
        results,
        systems={name: decoded.costed(scores, name) for name, scores in results.systems.items()},
        split=split,
        shared_speakers=num_shared,
        experts=expert_usage(decoded.gates, shown),
        decoding=decoded.decoding,
        environment=environment(run),
    )
    results = replace(results, verdict=judge(results))
    decoded.save(report, utterances, Normaliser(settings.normaliser))  # the scored alignments
    results.save(report.results_file)
    if split == "test":
        _add_to_best(run, results)
    print_results(results)
    write_report(run, report, results, utterances, decoded.systems)
    write_model_card(run, report, results, utterances, settings.license)
    print(f"report: {report.page_file}   results: {report.results_file}   hypotheses: {report.hypotheses_file}")
    return results


def _run_columns(run: RunDir, decoded: Decoded) -> dict[str, dict[str, str]]:
    """Cluster and most likely expert per utterance."""
    experts = decoded.experts()
    config = read_json_object(run.mixture_config_file, "moe-lightning pipeline", {"whisper_model": str})
    labels = RunInputs.load(run, config["whisper_model"]).soft_labels
    ids = list(experts)
    clusters = labels.of(ids).argmax(axis=1).tolist()
    return {
        "cluster": {id_: str(cluster) for id_, cluster in zip(ids, clusters, strict=True)},
        "expert": {id_: str(expert) for id_, expert in experts.items()},
    }


def _usage_columns(
    utterances: Sequence[Utterance], groups: Groups, columns: dict[str, dict[str, str]]
) -> dict[str, dict[str, str]]:
    """Values by utterance id, for each field whose values fit on a page."""
    ids = [utterance.id for utterance in utterances]
    named = group_columns(utterances, [field for field in groups if field not in columns])
    by_id = {field: dict(zip(ids, values, strict=True)) for field, values in named.items()}
    shown = {"cluster": columns["cluster"]} | by_id
    return {field: values for field, values in shown.items() if len(set(values.values())) <= MOST_VALUES}


def _add_to_best(run: RunDir, results: Results) -> None:
    best = read_json_object(run.best_file, "moe-lightning pipeline")
    kept = ("metric", "rate", "length", "wer", "cer")
    rates = {name: {key: getattr(one, key) for key in kept} for name, one in results.systems.items()}
    write_json(run.best_file, {**best, "test": rates})
