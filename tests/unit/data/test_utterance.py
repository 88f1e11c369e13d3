from dataclasses import replace
from pathlib import Path

import pytest

from moe_lightning.data.utterance import Utterance
from moe_lightning.errors import InputError

GOOD = Utterance("ann/1", Path("/a.wav"), 0.0, 1.5, "hello", "ann", {"language": "en"})


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"id": ""}, "id"),
        ({"id": "a\nb"}, "id"),
        ({"text": "  "}, "no transcript"),
        ({"speaker": ""}, "no speaker"),
        ({"speaker": "a\x1b[2J"}, "speaker must be a printable text"),
        ({"start": -1.0}, "start"),
        ({"start": float("nan")}, "start"),
        ({"duration": 0.0}, "duration"),
        ({"duration": float("inf")}, "duration"),
    ],
)
def test_an_utterance_is_checked_when_it_is_made(change, rule):
    with pytest.raises(InputError, match=rule):
        replace(GOOD, **change)


def test_the_language_is_a_field_that_may_be_missing():
    assert GOOD.language == "en"
    assert replace(GOOD, fields={}).language is None
    assert replace(GOOD, fields={"language": 3}).language is None
