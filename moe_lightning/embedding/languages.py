"""Languages of a corpus, checked, given, or detected by the speech model before the embedding."""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import torch

from moe_lightning.backbone.device import choose_device
from moe_lightning.backbone.speech import SpeechBackbone
from moe_lightning.corpus import SPLITS, Utterance, read_manifest
from moe_lightning.embedding.data import default_seconds, embedding_loader
from moe_lightning.errors import InputError
from moe_lightning.json_files import write_json
from moe_lightning.progress import progress
from moe_lightning.run_dir import RunDir
from moe_lightning.split import SettledLanguages
from moe_lightning.stage_record import is_first_process

NUM_SHOWN = 5
"""Number of detected languages to print."""


def settle_languages(run: RunDir, backbone: SpeechBackbone, options: argparse.Namespace) -> None:
    """Settle the language of every utterance: check the manifests' languages, write a file for all others.

    Args:
        options: Options of `moe-lightning embed`; ``language`` is a code, or ``auto``.

    Raises:
        InputError: The model cannot write the language of some utterances, or can detect none.
    """
    utterances = [one for split in SPLITS if _exists(run, split) for one in read_manifest(run.manifest_file(split))]
    _check_named(backbone, utterances)
    nameless = [utterance for utterance in utterances if not utterance.language]
    given = backbone.asked_language(options.language)
    if not nameless or run.languages_file.exists() or not is_first_process():
        return
    if given is None and backbone.detects_languages:
        detected = _detect(backbone, nameless, options)
        print(_told(detected, len(utterances)), flush=True)
        settled = SettledLanguages(detected=detected)
    else:
        settled = SettledLanguages(given)
    write_json(run.languages_file, asdict(settled))


def _exists(run: RunDir, split: str) -> bool:
    return run.manifest_file(split).exists()


def _check_named(backbone: SpeechBackbone, utterances: Sequence[Utterance]) -> None:
    """Refuse a language that the model cannot write, before hours of work."""
    counts = Counter(utterance.language for utterance in utterances if utterance.language)
    for language, count in sorted(counts.items()):
        try:
            backbone.check_language(language)
        except InputError as error:
            raise InputError(f"{count} of {len(utterances)} utterances: {error}") from error


@torch.no_grad()
def _detect(backbone: SpeechBackbone, utterances: Sequence[Utterance], options: argparse.Namespace) -> dict[str, str]:
    """Language of each utterance by its id, detected over the model's training window."""
    device = choose_device(options.accelerator)
    seconds = options.max_seconds or default_seconds(device.type)
    window = backbone.own_window
    loader = embedding_loader(utterances, options.batch_size, seconds, options.num_workers, window=window)
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
        f"{len(detected)} of {num_utterances} utterances name no language; the speech model has heard {shares}"
        f"{' ...' if len(counts) > NUM_SHOWN else ''}; where that is wrong, give --language CODE in another --run-dir"
    )
