"""Languages of a corpus, checked, given, or detected by the speech model before the embedding."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import torch

from moe_lightning.data.manifest import read_manifest
from moe_lightning.data.utterance import SPLITS, Utterance
from moe_lightning.embedding.data import default_seconds, embedding_loader
from moe_lightning.errors import InputError
from moe_lightning.models.backbones.base import SpeechBackbone
from moe_lightning.models.backbones.names import model_revision
from moe_lightning.models.device import choose_device
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import SettledLanguages, read_languages
from moe_lightning.run.record import is_first_process
from moe_lightning.settings.embedding import EmbeddingSettings
from moe_lightning.system.json_files import read_json_object, write_json
from moe_lightning.system.terminal import progress

NUM_SHOWN = 5
"""Number of detected languages to print."""


def settle_languages(run: RunDir, backbone: SpeechBackbone, settings: EmbeddingSettings) -> None:
    """Settle the language of every utterance: check the manifests' languages, write a file for all others.

    A file made with the same language setting, speech model and corpus is kept, so that a resumed embedding has the
    same languages.

    Args:
        settings: Options of `moe-lightning embed`; ``language`` is a code, or ``auto``.

    Raises:
        InputError: The model cannot write the language of some utterances, or can detect none. There are embeddings
            whose languages were made with other settings.
    """
    utterances = [one for split in SPLITS if _exists(run, split) for one in read_manifest(run.manifest_file(split))]
    _check_named(backbone, utterances)
    nameless = [utterance for utterance in utterances if not utterance.language]
    given = backbone.asked_language(settings.language)
    made_with = _made_with(run, given, settings.whisper_model)
    if not nameless or _is_settled(run, made_with, settings.whisper_model) or not is_first_process():
        return
    if given is None and backbone.detects_languages:
        detected = _detect(backbone, nameless, settings)
        print(_told(detected, len(utterances)), flush=True)
        settled = SettledLanguages(detected=detected, made_with=made_with)
    else:
        settled = SettledLanguages(given, made_with=made_with)
    write_json(run.languages_file, asdict(settled))


def _made_with(run: RunDir, given: str | None, whisper_model: str) -> dict[str, str | None]:
    """Everything that the languages depend on."""
    corpus = read_json_object(run.record_file("corpus"), "moe-lightning corpus")
    return {
        "language": given or "auto",
        "whisper_model": whisper_model,
        "model revision": model_revision(whisper_model),
        "corpus": str(corpus.get("hash", "")),
    }


def _is_settled(run: RunDir, made_with: dict[str, str | None], whisper_model: str) -> bool:
    """True if the run's languages can be kept, False if none are settled or a refused attempt left them.

    Raises:
        InputError: The speech model's store has shards, and the languages were made with other settings.
    """
    if not run.languages_file.exists():
        return False
    before = read_languages(run).made_with
    if before == made_with:
        return True
    folder = run.embedding_dir(whisper_model)
    if not any(folder.glob("**/*.npy")):
        return False
    if before:
        pairs = [(name, before.get(name), now) for name, now in made_with.items() if before.get(name) != now]
        words = ", ".join(f"{name} was {then}, now {now}" for name, then, now in pairs)
        raise InputError(
            "run.other-settings",
            f"{run.languages_file} has the languages of the embeddings in {folder}, made with other settings: {words};"
            " choose another --run-dir, or remove that folder to make it again",
            folder,
        )
    return True  # by an older version


def _exists(run: RunDir, split: str) -> bool:
    return run.manifest_file(split).exists()


def _check_named(backbone: SpeechBackbone, utterances: Sequence[Utterance]) -> None:
    """Refuse a language that the model cannot write, before hours of work."""
    counts = Counter(utterance.language for utterance in utterances if utterance.language)
    for language, count in sorted(counts.items()):
        try:
            backbone.check_language(language)
        except InputError as error:
            raise InputError(error.code, f"{count} of {len(utterances)} utterances: {error}", error.value) from error


@torch.no_grad()
def _detect(backbone: SpeechBackbone, utterances: Sequence[Utterance], settings: EmbeddingSettings) -> dict[str, str]:
    """Language of each utterance by its id, detected over the model's training window."""
    device = choose_device(settings.accelerator)
    seconds = settings.max_seconds or default_seconds(device.type)
    window = backbone.own_window
    loader = embedding_loader(utterances, settings.batch_size, seconds, settings.num_workers, window=window)
    backbone.to(device)
    found: dict[str, str] = {}
    for batch in progress(loader, "detecting languages"):
        waveforms_BL, num_samples_B = (part.to(device) for part in batch.waveforms)
        frames = backbone.encode(backbone.features(waveforms_BL, num_samples_B, window))
        found |= zip(batch.ids, (one.language for one in backbone.detect_languages(frames)), strict=True)
    return found


def _told(detected: dict[str, str], num_utterances: int) -> str:
    counts = Counter(detected.values()).most_common()
    shares = ", ".join(f"{code} {100 * count / len(detected):.0f} %" for code, count in counts[:NUM_SHOWN])
    return (
        f"{len(detected)} of {num_utterances} utterances name no language; the speech model detected {shares}"
        f"{' ...' if len(counts) > NUM_SHOWN else ''}; where that is wrong, give --language CODE in another --run-dir"
    )
