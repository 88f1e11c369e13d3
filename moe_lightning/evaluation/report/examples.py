"""Utterances that two systems wrote most differently, with their alignments and their sound."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from moe_lightning.evaluation.verdict import label

NUM_EXAMPLES = 5
"""Of each kind: where the system is better, and where it is worse."""


def example_ids(comparison: Mapping[str, Any]) -> dict[str, list[str]]:
    """Ids to show, by the heading that they stand under."""
    name, other = label(comparison["system"]), label(comparison["baseline"])
    return {
        f"Where {name} is better than {other}": comparison["most_improved"][:NUM_EXAMPLES],
        f"Where {name} is worse than {other}": comparison["most_worsened"][:NUM_EXAMPLES],
    }


def example_section(
    comparison: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, Any]],
    fields: Mapping[str, str],
    clips: Mapping[str, str],
) -> str:
    """The most different utterances, words in colour.

    Args:
        rows: Lines of the hypotheses' file by utterance id.
        fields: What is known of each of these utterances, in words, by its id.
        clips: Address of the sound of some of them.
    """
    systems = (comparison["baseline"], comparison["system"])
    parts = [
        "<h2>Examples</h2>\n"
        '<p class="soft">Normalised texts. <span class="S">Written wrongly</span> (with what was said behind it),'
        ' <span class="D">missing</span>, <span class="I">too much</span>.</p>'
    ]
    for heading, ids in example_ids(comparison).items():
        shown = [_example(rows[id_], systems, fields.get(id_, ""), clips.get(id_)) for id_ in ids if id_ in rows]
        parts.append(f"<h3>{escape(heading)}</h3>" + ("\n".join(shown) or "<p>Nowhere.</p>"))
    return "\n".join(parts)


def _example(row: Mapping[str, Any], systems: Sequence[str], known: str, clip: str | None) -> str:
    sound = f'<audio controls preload="none" src="{escape(clip)}"></audio>' if clip else ""
    texts = "".join(
        f"<dt>{escape(label(system).removeprefix('the '))}</dt><dd>{alignment_html(row['alignments'][system])}</dd>"
        for system in systems
    )
    return (
        f'<div class="example"><div class="head"><span>{escape(row["id"])}</span><span>{escape(known)}</span>'
        f"<span>expert {row['expert']}</span>{sound}</div>"
        f"<dl><dt>reference</dt><dd>{escape(row['reference'])}</dd>{texts}</dl></div>"
    )


def alignment_html(pairs: Sequence[Sequence[str]]) -> str:
    """The words of a hypothesis, errors marked.

    Args:
        pairs: Kind, word of the reference, word of the hypothesis.
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
