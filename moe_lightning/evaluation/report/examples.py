"""Utterances with the largest differences between two systems, with alignments and audio."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from moe_lightning.evaluation.system_names import called

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


def example_ids(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """Ids to show, by heading."""
    comparison = next(iter(results["comparisons"].values()))
    name, other = (called(results, comparison[side]) for side in ("system", "baseline"))
    return {
        f"Where {name} is better than {other}": comparison["most_improved"][:NUM_EXAMPLES],
        f"Where {name} is worse than {other}": comparison["most_worsened"][:NUM_EXAMPLES],
    }


def example_section(results: Mapping[str, Any], examples: Mapping[str, Example]) -> str:
    """The examples with the largest differences, errors coloured."""
    parts = [
        "<h2>Examples</h2>\n"
        '<p class="soft">Normalised texts. <span class="S">Written wrongly</span> (with what was said behind it),'
        ' <span class="D">missing</span>, <span class="I">too much</span>.</p>'
    ]
    for heading, ids in example_ids(results).items():
        shown = [_example(id_, examples[id_], results) for id_ in ids if id_ in examples]
        parts.append(f"<h3>{escape(heading)}</h3>" + ("\n".join(shown) or "<p>Nowhere.</p>"))
    return "\n".join(parts)


def _example(id_: str, example: Example, results: Mapping[str, Any]) -> str:
    sound = f'<audio controls preload="none" src="{escape(example.clip)}"></audio>' if example.clip else ""
    texts = "".join(
        f"<dt>{escape(called(results, system).removeprefix('the '))}</dt><dd>{alignment_html(pairs)}</dd>"
        for system, pairs in example.alignments.items()
    )
    return (
        f'<div class="example"><div class="head"><span>{escape(id_)}</span><span>{escape(example.known)}</span>'
        f"{sound}</div><dl><dt>reference</dt><dd>{escape(example.reference)}</dd>{texts}</dl></div>"
    )


def alignment_html(pairs: Sequence[Sequence[str]]) -> str:
    """The words of a hypothesis, errors marked.

    Args:
        pairs: Kind, reference word, hypothesis word.
    """
    words = []
    for kind, said, written in pairs:
        if kind == "=":
            words.append(f"<span>{escape(written)}</span>")
        elif kind == "S":
            words.append(f'<span class="S">{escape(written)}<small>{escape(said)}</small></span>')
        else:
            words.append(f'<span class="{"D" if kind == "D" else "I"}">{escape(said or written)}</span>')
    return " ".join(words) or '<span class="soft">(nothing)</span>'
