"""Speaker-disjoint train, dev and test splits."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from itertools import compress, zip_longest
from typing import TypeAlias, TypeVar

from moe_lightning.corpus.entry import Entry
from moe_lightning.data.audio import TOLERANCE
from moe_lightning.data.utterance import (
    ALLOW_SHARED_SPEAKERS,
    SPLITS,
    UNKNOWN_SPEAKER,
    Utterance,
    refuse_shared_speakers,
)
from moe_lightning.errors import InputError

Spoken = TypeVar("Spoken", Utterance, Entry)
Splits: TypeAlias = dict[str, list[Utterance]]

HELD_OUT = 0.1
"""Share of the training speakers for a missing dev or test split."""


def complete_splits(
    splits: Splits, seed: int, allow_shared_speakers: bool = False, stratify: str | None = None
) -> Splits:
    """All three splits; missing ones are made from the others, by speaker.

    Test is half of dev's speakers if dev has two or more. Otherwise a missing split gets a tenth of train's speakers,
    at least one. ``stratify`` names a field whose values keep their shares. With ``allow_shared_speakers`` a corpus
    with too few speakers is divided by utterance.

    Raises:
        InputError: No train split, a speaker or a stretch of audio in two splits, or too few speakers to divide.
    """
    if not splits.get("train"):
        found = ", ".join(split for split in SPLITS if splits.get(split)) or "nothing"
        raise InputError(
            "corpus.no-split", f"the corpus has no training utterances, only {found}; add a train split", "train"
        )
    splits = {split: list(utterances) for split, utterances in splits.items() if utterances}
    if not allow_shared_speakers:
        refuse_shared_speakers(splits)
    if "test" not in splits and _num_speakers(splits.get("dev", [])) >= 2:
        splits["test"], splits["dev"] = _hold_out(splits["dev"], 0.5, f"{seed} test of dev", True, stratify)
    missing = [split for split in SPLITS if split not in splits]
    by_speaker = _num_speakers(splits["train"]) > len(missing)
    if missing and not by_speaker and not allow_shared_speakers:
        raise InputError("corpus.few-speakers", _too_few_speakers(splits["train"], missing), missing)
    num_train = len({_key(utterance, by_speaker) for utterance in splits["train"]})
    if missing and num_train <= len(missing):
        raise InputError(
            "corpus.few-speakers",
            f"{num_train} training utterances are too few to carve {' and '.join(missing)} out of them",
            num_train,
        )
    for split in missing:
        share = HELD_OUT * num_train / len({_key(utterance, by_speaker) for utterance in splits["train"]})
        splits[split], splits["train"] = _hold_out(splits["train"], share, f"{seed} {split}", by_speaker, stratify)
    if not allow_shared_speakers and (shared := next(shared_stretches(splits), None)):
        first, second = shared
        raise InputError(
            "corpus.shared-recording",
            f"utterances {first.id!r} and {second.id!r} are the same stretch of {first.audio_file}, and in two splits;"
            f" remove one; {ALLOW_SHARED_SPEAKERS} accepts that",
            first.audio_file,
        )
    return {split: splits[split] for split in SPLITS}


def shared_stretches(splits: Splits) -> Iterator[tuple[Utterance, Utterance]]:
    """Pairs of utterances in different splits that are over half a second of the same audio."""
    by_file: dict[Hashable, list[tuple[float, str, Utterance]]] = defaultdict(list)
    for split, utterances in splits.items():
        for one in utterances:
            by_file[one.audio_file, one.channel].append((one.start, split, one))
    for stretches in by_file.values():
        if len({split for _, split, _ in stretches}) < 2:
            continue
        last: dict[str, Utterance] = {}
        for start, split, one in sorted(stretches, key=lambda stretch: stretch[:2]):
            others = (other for of_split, other in last.items() if of_split != split)
            yield from ((other, one) for other in others if other.start + other.duration - start > TOLERANCE)
            before = last.get(split)
            if before is None or before.start + before.duration < start + one.duration:
                last[split] = one


def sample_percent(utterances: Sequence[Utterance], percent: float, seed: int, field: str | None) -> list[Utterance]:
    """A seeded part of a split, in its order, at least one utterance.

    Args:
        percent: Over 0, up to 100.
        field: Keep the shares of this field's values (by largest remainder); None draws at random.
    """
    if not 0 < percent <= 100:
        raise InputError(
            "setting.range",
            f"--data-percent must be over 0 and at most 100, got {percent:g}",
            f"--data-percent {percent:g}",
        )
    total = max(1, round(len(utterances) * percent / 100))
    rows_of: dict[Hashable, list[int]] = defaultdict(list)
    for row, utterance in enumerate(utterances):
        rows_of[utterance.fields.get(field) if field else None].append(row)
    counts = largest_remainder([len(rows) for rows in rows_of.values()], total)
    rng = random.Random(f"{seed} percent")
    kept = [row for rows, count in zip(rows_of.values(), counts, strict=True) for row in rng.sample(rows, count)]
    return [utterances[row] for row in sorted(kept)]


def largest_remainder(sizes: Sequence[int], total: int) -> list[int]:
    """Seats of each group in proportion to its size; they sum to ``total``, at most ``sum(sizes)``."""
    exact = [size * total / sum(sizes) for size in sizes]
    counts = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda group: counts[group] - exact[group])
    for group in by_remainder[: total - sum(counts)]:
        counts[group] += 1
    return counts


def sample_handful(utterances: Sequence[Spoken], count: int, seed: int) -> list[Spoken]:
    """A small seeded sample of a split, in its order, from as many speakers as possible."""
    if count < 1:
        raise InputError(
            "setting.range",
            f"--max-utterances must be at least 1 for every split, got {count}",
            f"--max-utterances {count}",
        )
    rng = random.Random(f"{seed} handful")
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row in rng.sample(range(len(utterances)), len(utterances)):
        rows_of[utterances[row].speaker].append(row)
    turns = [row for turn in zip_longest(*rows_of.values()) for row in turn if row is not None]
    return [utterances[row] for row in sorted(turns[:count])]


def _hold_out(
    utterances: list[Utterance], share: float, seed: str, by_speaker: bool, stratify: str | None
) -> tuple[list[Utterance], list[Utterance]]:
    """Held-out utterances and the rest, both in order; neither is empty."""
    strata = _strata(utterances, by_speaker, stratify)
    num_keys = sum(len(keys) for keys in strata)
    count = min(max(1, round(share * num_keys)), num_keys - 1)
    counts = largest_remainder([len(keys) for keys in strata], count)
    rng = random.Random(seed)
    held_out = {key for keys, size in zip(strata, counts, strict=True) for key in rng.sample(keys, size)}
    is_held_out = [_key(utterance, by_speaker) in held_out for utterance in utterances]
    return list(compress(utterances, is_held_out)), [
        one for one, is_in in zip(utterances, is_held_out, strict=True) if not is_in
    ]


def _strata(utterances: Sequence[Utterance], by_speaker: bool, field: str | None) -> list[list[str]]:
    """Speakers (or ids) by their most frequent value of a field, everything in a fixed order."""
    values_of: dict[str, Counter[str]] = defaultdict(Counter)
    for utterance in utterances:
        values_of[_key(utterance, by_speaker)][str(utterance.fields.get(field)) if field else ""] += 1
    strata: dict[str, list[str]] = defaultdict(list)
    for key in sorted(values_of):
        strata[values_of[key].most_common(1)[0][0]].append(key)
    return [strata[value] for value in sorted(strata)]


def _key(utterance: Utterance, by_speaker: bool) -> str:
    return utterance.speaker if by_speaker else utterance.id


def _num_speakers(utterances: Sequence[Utterance]) -> int:
    return len({utterance.speaker for utterance in utterances})


def _too_few_speakers(train: Sequence[Utterance], missing: list[str]) -> str:
    names = Counter(utterance.speaker for utterance in train)
    unnamed = [name.removeprefix(UNKNOWN_SPEAKER) for name in names if name.startswith(UNKNOWN_SPEAKER)]
    if len(unnamed) == len(names):
        folders = f"{len(names)} folder{'s' * (len(names) > 1)}"
        return (
            f"the corpus names no speakers; each folder of recordings then counts as one, and {folders}"
            f" ({', '.join(unnamed[:3])}) are too few to hold out others for {' and '.join(missing)}; name the speakers"
            f" (the field speaker, or a folder for each), give {' and '.join(missing)} yourself, or divide by utterance"
            f" with {ALLOW_SHARED_SPEAKERS}"
        )
    who = f"{len(names)} speaker{'s' * (len(names) > 1)} ({', '.join(list(names)[:3])})"
    return (
        f"train has {who}, too few to hold out others for {' and '.join(missing)};"
        f" give {' and '.join(missing)} yourself, name the speakers, or divide by utterance with"
        f" {ALLOW_SHARED_SPEAKERS}"
    )
