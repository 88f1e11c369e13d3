"""All experts in one file, passed from stage to stage."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from moe_lightning.backbone.names import model_revision
from moe_lightning.errors import InputError
from moe_lightning.experts.expert_config import ExpertConfig
from moe_lightning.experts.model import SpeechExperts
from moe_lightning.json_files import parse_json
from moe_lightning.training.weights import read_metadata, read_tensors

MADE_BY = "python -m moe_lightning.experts fit"
_SETTINGS = (
    *("num_experts", "rank", "shared_rank", "alpha", "target_modules"),
    *("adapt_from_layer", "rslora", "noop_expert", "window"),
)
"""Settings that must stay as in training; dropout may change."""


def save_experts(experts: SpeechExperts, file: Path, whisper_model: str) -> None:
    """Write the stacked deltas, their training config, and the revision of their backbone."""
    window = experts.backbone.window
    settings = {**asdict(experts.config), "revision": model_revision(whisper_model) or "", "window": window}
    # One key: safetensors writes several in random order, and equal trainings would differ in bytes.
    save_file(experts.expert_state(), file, metadata={"experts": json.dumps(settings)})


def load_experts(experts: SpeechExperts, file: Path, whisper_model: str) -> None:
    """Load the deltas of `save_experts`.

    Raises:
        InputError: They were trained on another backbone, even one of the same size, or with other settings:
            another alpha would rescale them all.
    """
    then = _saved_settings(file)
    revision = then.get("revision") or read_metadata(file, MADE_BY).get("revision")  # older files have it apart
    if revision and model_revision(whisper_model) not in (None, revision):
        raise InputError(
            f"the experts in {file} are deltas of a speech model with the revision {revision}, {whisper_model} has"
            f" {model_revision(whisper_model)}: on other weights they mean nothing; ask for the model that they were"
            " trained on"
        )
    now = json.loads(json.dumps({**asdict(experts.config), "window": experts.backbone.window}))
    for name in _SETTINGS:
        if name in then and then[name] != now[name]:
            raise InputError(f"{name} was {then[name]} when the experts were pre-trained, now {now[name]}")
    experts.load_expert_state(read_tensors(file, MADE_BY))


def read_expert_config(file: Path) -> ExpertConfig:
    """The config stored by `save_experts`."""
    return ExpertConfig.of(_saved_settings(file), file)


def read_window(file: Path) -> float:
    """Training window in seconds, stored by `save_experts`; 0 for real lengths."""
    window = _saved_settings(file).get("window")
    if not isinstance(window, int | float):
        raise InputError(f"{file} does not say the window of its experts; run `{MADE_BY}` again in another --run-dir")
    return float(window)


def _saved_settings(file: Path) -> dict[str, Any]:
    try:
        settings = parse_json(read_metadata(file, MADE_BY).get("experts", "{}"))
    except ValueError as error:
        raise InputError(f"{file} says no settings of its experts ({error}); run `{MADE_BY}` again") from error
    if not isinstance(settings, dict):
        raise InputError(f"{file} says no settings of its experts; run `{MADE_BY}` again")
    return settings
