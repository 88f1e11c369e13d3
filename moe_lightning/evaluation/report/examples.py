"""Utterances with the largest differences between two systems, with alignments and audio."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from moe_lightning.evaluation.system_lines import called
from moe_lightning.reports.charts import alignment_html
from moe_lightning.reports.results import Results

NUM_EXAMPLES = 5
"""Per kind: system better, and system worse."""


class Example(NamedTuple):
    """An utterance with its reference and hypotheses."""

    reference: str
    known: str
    """Its fields, speaker and length, as text."""
    alignments: Mapping[str, Sequence[Sequence[str]]]
    """By system, in display order."""
    clip: str | None
    """Address of its audio."""


def example_ids(results: Results) -> dict[str, Sequence[str]]:
    """Ids to show, by heading."""
    comparison = results.headline
    name, other = (called(results, system) for system in comparison.pair)
    return {
        f"Where {name} is better than {other}": comparison.most_improved[:NUM_EXAMPLES],
        f"Where {name} is worse than {other}": comparison.most_worsened[:NUM_EXAMPLES],
    }


def example_section(results: Results, examples: Mapping[str, Example]) -> list[tuple[str, list[Any]]]:
    """The examples with the largest differences, errors coloured, by heading."""
    return [
        (heading, [_example(id_, examples[id_], results) for id_ in ids if id_ in examples])
        for heading, ids in example_ids(results).items()
    ]


def _example(id_: str, example: Example, results: Results) -> dict[str, Any]:
    texts = [
        (called(results, system).removeprefix("the "), alignment_html(pairs))
        for system, pairs in example.alignments.items()
    ]
    return {
        "id": id_,
        "known": example.known,
        "clip": example.clip,
        "reference": example.reference,
        "texts": texts,
    }
