"""Checks of the transcripts."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from moe_lightning.corpus.checking.finding import Finding, finding, findings_of
from moe_lightning.data.languages import language_code
from moe_lightning.data.utterance import Utterance

MAX_TOKENS = 448
"""Whisper's decoder positions, the task tokens included."""
RATE_DEVIATIONS = 4.0
"""Robust standard deviations of log characters per second; a rate further from the median is an outlier."""
_MIN_RATE_SPREAD = 0.1
FEWEST_TEXTS = 30
"""Minimum number of transcripts in a language to conclude that it writes numbers in words."""
_UNKNOWN_LANGUAGE = "a language that no field names"
_BRACKETED = re.compile(r"\([^()]*\w[^()]*\)|\[[^\[\]]*\w[^\[\]]*\]|<[^<>]*\w[^<>]*>")
RARE_SCRIPT = 0.001
"""A script with a smaller share of all letters counts as foreign."""


def check_texts(utterances: Sequence[Utterance], count_tokens: Callable[[str], int] | None) -> list[Finding]:
    """Findings about transcripts.

    Args:
        count_tokens: Token counter of the model to be trained; None for an estimate by bytes, an upper bound
            for any byte-level tokenizer.
    """
    return findings_of(
        _token_finding(utterances, count_tokens),
        finding(
            "odd speaking rate",
            f"Characters per second over {RATE_DEVIATIONS:.0f} robust deviations from the median: a text that is not"
            " what was said, or a recording that is cut off.",
            _odd_rates(utterances),
        ),
        finding(
            "odd characters",
            "Digits and symbols can be read in several ways; control characters and foreign letters are mostly slips.",
            _odd_characters(utterances),
        ),
        _figures_finding(utterances),
        finding(
            "words in brackets",
            "The normaliser takes what is in brackets for a remark, and no score counts it; words that are said there"
            " need no brackets.",
            ((one.id, found[0]) for one in utterances if (found := _BRACKETED.search(one.text))),
        ),
        finding(
            "repeated text",
            "Transcripts that come more than once; a model can learn them by heart.",
            _repeated_texts(utterances),
        ),
    )


def _token_finding(utterances: Sequence[Utterance], count_tokens: Callable[[str], int] | None) -> Finding | None:
    if count_tokens:
        counts = [(utterance, count_tokens(utterance.text)) for utterance in utterances]
        lines = ((one.id, f"{count} tokens") for one, count in counts if count > MAX_TOKENS)
        return finding(
            "too many tokens", f"Over {MAX_TOKENS} tokens, the decoder's length.", lines, stops_training=True
        )
    sizes = [(utterance, len(utterance.text.encode())) for utterance in utterances]
    return finding(
        "perhaps too many tokens",
        f"Over {MAX_TOKENS} bytes, so perhaps over {MAX_TOKENS} tokens; --tokenizer counts them.",
        ((one.id, f"{size} bytes") for one, size in sizes if size > MAX_TOKENS),
    )


def _odd_rates(utterances: Sequence[Utterance]) -> list[tuple[str, str]]:
    if len(utterances) < 10:  # no distribution to stand out from
        return []
    rates_N = np.array([len(utterance.text) / utterance.duration for utterance in utterances])
    distances_N = np.log(rates_N) - np.median(np.log(rates_N))
    spread = max(1.4826 * float(np.median(np.abs(distances_N))), _MIN_RATE_SPREAD)
    odd = np.flatnonzero(np.abs(distances_N) > RATE_DEVIATIONS * spread).tolist()
    return [
        (utterances[row].id, f"{rates_N[row]:.1f} characters/s: {utterances[row].text[:60]!r} in"
         f" {utterances[row].duration:.1f} s")
        for row in odd
    ]  # fmt: skip


def _odd_characters(utterances: Sequence[Utterance]) -> Iterator[tuple[str, str]]:
    rows_of = Counter(character for utterance in utterances for character in set(utterance.text))
    scripts: Counter[str] = Counter()
    for character, rows in rows_of.items():
        if character.isalpha():
            scripts[_script(character)] += rows
    foreign = {script for script, rows in scripts.items() if rows < RARE_SCRIPT * scripts.total()}
    odd = {
        character
        for character in rows_of
        if unicodedata.category(character)[0] in "CSN" or (character.isalpha() and _script(character) in foreign)
    }
    for utterance in utterances:
        found = sorted(odd & set(utterance.text))
        if found:
            names = (f"{character!r} {unicodedata.name(character, 'without a name').lower()}" for character in found)
            yield utterance.id, ", ".join(names)


def _figures_finding(utterances: Sequence[Utterance]) -> Finding | None:
    """Languages other than English without digits in their transcripts, one line each."""
    by_language: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        by_language[utterance.language or _UNKNOWN_LANGUAGE].append(utterance)
    found = {
        language: those
        for language, those in sorted(by_language.items())
        if language_code(language) != "en" and len(those) >= FEWEST_TEXTS and not any(map(_has_figures, those))
    }
    if not found:
        return None
    return Finding(
        "no figures",
        False,
        "Every number of these languages is written in words. Whisper was trained to write figures, and outside of"
        " English no normaliser makes the two alike: until it has learnt to write words, each number counts as an error"
        " though it was heard, and learning that looks like a gain. Write numbers as the model does, or mind the count"
        " that an evaluation puts beside its scores.",
        tuple(one.id for those in found.values() for one in those),
        tuple(f"{language}: no figure in {len(those):,} transcripts" for language, those in found.items()),
    )


def _has_figures(utterance: Utterance) -> bool:
    return any(character.isdecimal() for character in utterance.text)


def _script(letter: str) -> str:
    """First word of a letter's Unicode name: ``LATIN``, ``CYRILLIC``, ``CJK`` ..."""
    return unicodedata.name(letter, "").split(" ")[0]


def _repeated_texts(utterances: Sequence[Utterance]) -> list[tuple[str, str]]:
    by_text: dict[str, list[str]] = defaultdict(list)
    for utterance in utterances:
        by_text[utterance.text.casefold()].append(utterance.id)
    return [(id_, f"{len(ids)} times {text[:60]!r}") for text, ids in by_text.items() if len(ids) > 1 for id_ in ids]
