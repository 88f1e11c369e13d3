"""``report/index.html``: a single file with all contents embedded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from moe_lightning.evaluation.report.curves import Chart
from moe_lightning.evaluation.report.examples import Example, example_section
from moe_lightning.evaluation.report.groups_section import groups_section
from moe_lightning.evaluation.report.run_sections import (
    cluster_section,
    cost_section,
    routing_section,
    snapshot_section,
    training_section,
)
from moe_lightning.evaluation.report.scores_section import head_section, systems_section
from moe_lightning.reports.html_page import document

_STYLE_FILE = Path(__file__).with_name("report.css")


class RunFacts(NamedTuple):
    """Contents of the page besides the results."""

    examples: Mapping[str, Example]
    """Utterances shown word by word, by id."""
    charts: Mapping[str, Sequence[Chart]]
    cluster_report: Mapping[str, Any] | None
    cluster_picture: bytes | None
    cluster_address: str


def page(results: Mapping[str, Any], facts: RunFacts) -> str:
    """The whole page.

    Args:
        results: As in ``results.json``: any number of systems, the first comparison is the headline.
    """
    sections = [
        head_section(results),
        systems_section(results),
        groups_section(results),
        routing_section(results),
        cluster_section(facts.cluster_report, facts.cluster_picture, facts.cluster_address),
        training_section(facts.charts),
        example_section(results, facts.examples),
        cost_section(results),
        snapshot_section(results),
    ]
    title = f"Report: {results['verdict']['sentence'][:80]}"
    return document(title, sections, _STYLE_FILE.read_text(encoding="utf-8"))
