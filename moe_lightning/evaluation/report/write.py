"""Collect the contents of page and model card from a run, and write both."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moe_lightning.data.normaliser import Normaliser
from moe_lightning.data.utterance import Utterance
from moe_lightning.evaluation.alignment import align
from moe_lightning.evaluation.fields import shown_fields
from moe_lightning.evaluation.report.examples import Example, example_ids
from moe_lightning.evaluation.report.model_card import model_card
from moe_lightning.evaluation.report.page import RunFacts, page
from moe_lightning.reports.clips import audio_clips
from moe_lightning.reports.curves import training_charts
from moe_lightning.reports.results import Results
from moe_lightning.run.folder import ReportDir, RunDir
from moe_lightning.system.atomic_file import write_text
from moe_lightning.system.json_files import read_json_object


def write_report(
    run: RunDir,
    report: ReportDir,
    results: Results,
    utterances: Sequence[Utterance],
    systems: Mapping[str, Mapping[str, str]],
) -> None:
    """Write ``index.html`` beside the results.

    Args:
        run: Source of clusters and training curves.
        results: With a verdict; experts, decoding and the costs of systems are shown if present.
        utterances: Scored utterances.
        systems: Transcripts by utterance id, by system name.
    """
    facts = RunFacts(
        examples=_examples(results, utterances, systems),
        charts=training_charts(run),
        cluster_report=_cluster_report(run),
        cluster_picture=_cluster_picture(run),
        cluster_address=os.path.relpath(run.cluster_report_file, report.path),
    )
    write_text(report.page_file, page(results, facts))


def write_model_card(
    run: RunDir, report: ReportDir, results: Results, utterances: Sequence[Utterance], license: str | None = None
) -> None:
    """Write ``README.md`` beside the results: the card of the run's mixture."""
    needed = {"whisper_model": str}
    config = read_json_object(run.mixture_config_file, "moe-lightning pipeline", needed)
    languages = sorted({one.language for one in utterances if one.language})
    name = Path(str(results.environment.stages["corpus"].settings.get("dataset_root", "a corpus"))).name
    write_text(report.model_card_file, model_card(results, config["whisper_model"], languages, name, license))


def _examples(
    results: Results,
    utterances: Sequence[Utterance],
    systems: Mapping[str, Mapping[str, str]],
) -> dict[str, Example]:
    comparison = results.headline
    ids = {id_ for some in example_ids(results).values() for id_ in some}
    shown = [utterance for utterance in utterances if utterance.id in ids]
    clips = audio_clips(shown)
    fields = shown_fields(results.systems[comparison.system].groups)
    wanted = ("backbone", comparison.baseline, comparison.system)
    names = [name for name in dict.fromkeys(wanted) if name in systems]
    units = Normaliser(results.normaliser.choice).units
    return {
        one.id: Example(
            reference=one.text,
            known=_known(one, fields),
            alignments={
                name: align(units(one.text, one.language), units(systems[name][one.id], one.language)) for name in names
            },
            clip=clips.get(one.id),
        )
        for one in shown
    }


def _known(utterance: Utterance, fields: Sequence[str]) -> str:
    facts = [f"{name} {utterance.fields[name]}" for name in fields if utterance.fields.get(name) is not None]
    return ", ".join([*facts, f"speaker {utterance.speaker}", f"{utterance.duration:.1f} s"])


def _cluster_report(run: RunDir) -> Any:
    file = run.cluster_report_data_file
    return (
        read_json_object(file, "moe-lightning cluster") if file.exists() and run.cluster_report_file.exists() else None
    )


def _cluster_picture(run: RunDir) -> bytes | None:
    """The clustering's plot; the newest if there are several."""
    plots = sorted(run.stage_dir("clustering").glob("*.png"), key=lambda file: file.stat().st_mtime)
    return plots[-1].read_bytes() if plots else None
