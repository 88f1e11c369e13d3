"""Checks of ids, speakers and splits."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from moe_lightning.corpus.checking.finding import Finding, finding, findings_of
from moe_lightning.corpus.entry import Entry
from moe_lightning.corpus.splits import complete_splits, shared_stretches
from moe_lightning.data.utterance import SPLITS, UNKNOWN_SPEAKER, Utterance
from moe_lightning.errors import InputError


def check_splits(
    entries: Sequence[Entry], splits: Mapping[str, list[Utterance]], allow_shared_speakers: bool
) -> list[Finding]:
    """Findings about ids, speakers and splits."""
    return findings_of(
        finding("repeated id", "Every utterance needs an id of its own.", _repeated_ids(entries), stops_training=True),
        finding(
            "speaker in two splits",
            "A test on voices of the training says too much; --allow-shared-speakers accepts that.",
            _shared(splits, lambda utterance: utterance.speaker, "speaker"),
            stops_training=not allow_shared_speakers,
        ),
        finding(
            "recording in two splits",
            "A test on recordings of the training says too much; --allow-shared-speakers accepts that.",
            ((two.id, f"the same stretch as {one.id}") for one, two in shared_stretches(dict(splits))),
            stops_training=not allow_shared_speakers,
        ),
        finding(
            "no splits",
            "Train, dev and test cannot be made of this corpus.",
            _impossible_splits(splits, allow_shared_speakers),
            stops_training=True,
        ),
        finding(
            "text in two splits",
            "Sentences of the training that are tested on can be known by heart.",
            _shared(splits, lambda utterance: utterance.text.casefold(), "text"),
        ),
        finding(
            "unnamed speaker",
            "The folder of the recording counts as the speaker.",
            ((one.id, one.speaker) for one in entries if one.speaker.startswith(UNKNOWN_SPEAKER)),
        ),
    )


def _repeated_ids(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    origins: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        origins[entry.id].append(entry.origin)
    return [(id_, " and ".join(places)) for id_, places in origins.items() if len(places) > 1]


def _shared(
    splits: Mapping[str, list[Utterance]], key: Callable[[Utterance], str], what: str
) -> Iterator[tuple[str, str]]:
    """Utterances whose speaker (or text) is in several splits."""
    splits_of: dict[str, list[str]] = defaultdict(list)
    for split, utterances in splits.items():
        for name in {key(utterance) for utterance in utterances}:
            splits_of[name].append(split)
    for utterance in (utterance for utterances in splits.values() for utterance in utterances):
        name = key(utterance)
        if len(splits_of[name]) > 1 and not name.startswith(UNKNOWN_SPEAKER):
            yield utterance.id, f"{what} {name[:60]!r} is in {', '.join(splits_of[name])}"


def _impossible_splits(splits: Mapping[str, list[Utterance]], allow_shared_speakers: bool) -> list[tuple[str, str]]:
    try:
        complete_splits(dict(splits), seed=0, allow_shared_speakers=True)
        missing = [split for split in SPLITS if split not in splits]
        if missing and not allow_shared_speakers:
            complete_splits({split: list(splits[split]) for split in splits}, seed=0)
    except InputError as error:
        return [] if error.code in ("corpus.shared-speakers", "corpus.shared-recording") else [("", str(error))]
    return []
