"""Fields that file a recording away are told from those that say who speaks, and how."""

import pytest

from moe_lightning.data.utterance import bookkeeping_fields, is_bookkeeping
from tests.corpora import utterances_of


@pytest.mark.parametrize(
    "name",
    ["license", "licence", "licenseName", "source", "data_source", "path", "audio_filepath", "fileName", "URL",
     "audioURL", "sentence_id", "id", "client_id", "uuid", "sha256", "SHA256", "md5sum_hash", "accent_raw", "text_raw",
     "text", "split", "up_votes", "recordingDate", "created-at", "timestamp"],
)  # fmt: skip
def test_a_name_tells_a_field_of_bookkeeping(name: str) -> None:
    assert is_bookkeeping(name, ["a", "b"])


@pytest.mark.parametrize(
    "name",
    ["accent", "accents", "etiology", "Etiology", "severity", "gender", "age", "domain", "sentence_domain", "language",
     "locale", "source_language", "device", "microphone", "room", "session", "kind", "population", "valid", "identity"],
)  # fmt: skip
def test_a_name_tells_a_population(name: str) -> None:
    assert not is_bookkeeping(name, ["north", "U.S.", "England/Wales", "3", None, ""])


@pytest.mark.parametrize(
    "value",
    ["http://host/a", "s3://bucket/a", "/data/a", "./a", "C:\\audio\\a", "audio/a.wav", "a.flac",
     "0123456789abcdef0123", "123e4567-e89b-12d3-a456-426614174000", "2026-11-30", "2026-11-30T10:00:00Z"],
)  # fmt: skip
def test_the_shape_of_the_values_tells_it_whatever_the_name(value: str) -> None:
    assert is_bookkeeping("x", [value] * 19 + ["other"])
    assert not is_bookkeeping("x", [value] + ["other"] * 19)


def test_fields_of_utterances_are_sorted_out() -> None:
    fields = {"accent": "north", "license": "CC0", "note": "see /a/b", "where": "audio/b.wav"}
    assert bookkeeping_fields(utterances_of({"ann": 3, "bob": 3}, **fields)) == {"license", "where"}
