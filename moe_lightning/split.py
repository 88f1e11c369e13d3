"""A run's splits with the language of every utterance, from the manifest or else from the run."""

from dataclasses import dataclass, field, replace

from moe_lightning.corpus import Utterance, read_manifest
from moe_lightning.from_json import from_json
from moe_lightning.json_files import read_json_object
from moe_lightning.run_dir import RunDir


@dataclass(frozen=True)
class SettledLanguages:
    """Languages of utterances whose manifest names none; the embedding stage writes them."""

    given: str | None = None
    """One language for all of them."""
    detected: dict[str, str] = field(default_factory=dict)
    """Code by utterance id, detected by the speech model."""
    made_with: dict[str, str | None] = field(default_factory=dict)
    """Language setting, speech model and corpus; empty in a file by an older version."""

    def of(self, utterance: Utterance) -> str | None:
        """The language of an utterance; None if unknown."""
        return utterance.language or self.detected.get(utterance.id) or self.given


def read_split(run: RunDir, split: str) -> list[Utterance]:
    """Utterances of a split; the field ``language`` is filled from the run if the manifest names none.

    Raises:
        MissingInputError: The run has no such manifest.
        InputError: A file is damaged.
    """
    utterances = read_manifest(run.manifest_file(split))
    settled = read_languages(run)
    return [_named(utterance, settled) for utterance in utterances]


def read_languages(run: RunDir) -> SettledLanguages:
    """Languages that the run has settled; none if no model needed them."""
    file = run.languages_file
    return from_json(SettledLanguages, read_json_object(file, "moe-lightning embed"), file) if file.exists() else _NONE


_NONE = SettledLanguages()


def _named(utterance: Utterance, settled: SettledLanguages) -> Utterance:
    language = settled.of(utterance)
    if language is None or utterance.language:
        return utterance
    return replace(utterance, fields={**utterance.fields, "language": language})
