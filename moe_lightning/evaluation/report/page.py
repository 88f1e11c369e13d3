"""``report/index.html``: a single file with all contents embedded."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from moe_lightning.evaluation.report.examples import Example, example_section
from moe_lightning.evaluation.report.sections import (
    cost_section,
    environment_section,
    groups_section,
    head_section,
    routing_section,
    systems_section,
    training_section,
)
from moe_lightning.reports.curves import Chart
from moe_lightning.reports.pages import render_page
from moe_lightning.reports.results import Results


class RunFacts(NamedTuple):
    """Contents of the page besides the results."""

    examples: Mapping[str, Example]
    """Utterances shown word by word, by id."""
    charts: Mapping[str, Sequence[Chart]]
    cluster_report: Mapping[str, Any] | None
    cluster_picture: bytes | None
    cluster_address: str


def page(results: Results, facts: RunFacts) -> str:
    """The whole page.

    Args:
        results: Any number of systems; the first comparison is the headline.
    """
    return render_page(
        "evaluation.html.j2",
        ["style.css", "evaluation.css"],
        title=results.judged.sentence[:80],
        head=head_section(results),
        systems=systems_section(results),
        groups=groups_section(results),
        routing=routing_section(results),
        cluster_report=facts.cluster_report,
        cluster_picture=facts.cluster_picture,
        cluster_address=facts.cluster_address,
        training=training_section(facts.charts),
        examples=example_section(results, facts.examples),
        cost=cost_section(results),
        environment=environment_section(results),
    )
