from dataclasses import replace
from pathlib import Path

import pytest

from moe_lightning.data.utterance import Utterance
from tests.refusals import refuses

GOOD = Utterance("ann/1", Path("/a.wav"), 0.0, 1.5, "hello", "ann", {"language": "en"})


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"id": ""}, ("corpus.bad-row", "id=")),
        ({"id": "a\nb"}, ("corpus.bad-row", "id=a\nb")),
        ({"speaker": ""}, ("corpus.bad-row", "speaker=")),
        ({"speaker": "a\x1b[2J"}, ("corpus.bad-row", "speaker=a\x1b[2J")),
        ({"start": -1.0}, ("corpus.bad-row", "start=-1.0")),
        ({"start": float("nan")}, ("corpus.bad-row", "start=nan")),
        ({"duration": 0.0}, ("corpus.bad-row", "duration=0.0")),
        ({"duration": float("inf")}, ("corpus.bad-row", "duration=inf")),
    ],
)
def test_an_utterance_is_checked_when_it_is_made(change, refusal: tuple[str, ...]):
    with refuses(*refusal):
        replace(GOOD, **change)


def test_the_language_is_a_field_that_may_be_missing():
    assert GOOD.language == "en"
    assert replace(GOOD, fields={}).language is None
    assert replace(GOOD, fields={"language": 3}).language is None
