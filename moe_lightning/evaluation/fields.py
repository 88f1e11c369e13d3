"""Groups for scoring: manifest fields, speakers, lengths."""

from collections.abc import Mapping, Sequence

from moe_lightning.data.utterance import Utterance, bookkeeping_fields
from moe_lightning.errors import InputError

MIN_UTTERANCES = 3
"""A field whose values have fewer utterances on average (such as a sentence number) makes no groups."""
DURATION = "duration slot"
DURATION_SLOTS = ((2.0, "under 2 s"), (5.0, "2 to 5 s"), (10.0, "5 to 10 s"), (20.0, "10 to 20 s"))
"""Upper bound in seconds, and the slot's name; longer utterances are in `LAST_SLOT`."""
LAST_SLOT = "20 s and more"
OWN_FIELDS = ("cluster", "expert", DURATION)
"""Groups that are not manifest fields."""
UNKNOWN = "unknown"
TELLING_FIELDS = ("etiology", "accent", "dialect", "population", "domain", "language", "gender", "age")
"""Fields that describe a group, most informative first; shown before others."""
MOST_VALUES = 16
"""A field with more values (such as speakers) is in results.json, but not in tables and figures."""
MOST_FIELDS = 3

Columns = dict[str, list[str]]
"""One value per utterance, by field name."""


def group_columns(utterances: Sequence[Utterance], by: Sequence[str] = ()) -> Columns:
    """Fields for scoring, each with one value per utterance.

    Args:
        by: Fields to use, whatever their values. If empty: each field with at least two values and enough utterances,
            except bookkeeping (a licence, a path).

    Raises:
        InputError: A field in ``by`` is in no utterance.
    """
    columns = _all_columns(utterances)
    unknown = [name for name in by if name not in columns]
    if unknown:
        raise InputError(
            "corpus.no-field",
            f"--by {unknown[0]}: no utterance has such a field; there are {', '.join(sorted(columns))}"
            " (`moe-lightning corpus check` lists a corpus's fields and their values)",
            unknown[0],
        )
    if by:
        return {name: columns[name] for name in by}
    most = len(utterances) / MIN_UTTERANCES
    filed = bookkeeping_fields(utterances)
    return {name: values for name, values in columns.items() if 2 <= len(set(values)) <= most and name not in filed}


def duration_slot(seconds: float) -> str:
    """Slot for an utterance's length.

    >>> duration_slot(3.5)
    '2 to 5 s'
    """
    return next((name for bound, name in DURATION_SLOTS if seconds < bound), LAST_SLOT)


def shown_fields(groups: Mapping[str, Mapping[str, object]]) -> list[str]:
    """The most informative fields that fit on a page, speakers only without any other; results.json has all."""
    short = [name for name, values in groups.items() if name not in OWN_FIELDS and len(values) <= MOST_VALUES]
    ranks = {name: rank for rank, name in enumerate(TELLING_FIELDS)}
    short.sort(key=lambda name: (ranks.get(name.lower(), len(ranks)), len(groups[name])))
    return [name for name in short if name != "speaker"][:MOST_FIELDS] or short


def _all_columns(utterances: Sequence[Utterance]) -> Columns:
    names = sorted({name for utterance in utterances for name in utterance.fields})
    columns = {name: [_text(utterance.fields.get(name)) for utterance in utterances] for name in names}
    columns["speaker"] = [utterance.speaker for utterance in utterances]
    columns[DURATION] = [duration_slot(utterance.duration) for utterance in utterances]
    return columns


def _text(value: object) -> str:
    return UNKNOWN if value is None or value == "" else str(value)
