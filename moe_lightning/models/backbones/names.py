"""Names of speech models and revisions of their weights; no heavy imports."""

import hashlib
from functools import lru_cache
from pathlib import Path

from moe_lightning.errors import InputError

_SIZES = ("tiny", "base", "small", "medium")
SHORT_NAMES = {
    "v2": "openai/whisper-large-v2",
    "v3": "openai/whisper-large-v3",
    "large": "openai/whisper-large-v3",
    "turbo": "openai/whisper-large-v3-turbo",
    "large-v1": "openai/whisper-large",
    **{name: f"openai/whisper-{name}" for name in ("large-v2", "large-v3", "large-v3-turbo")},
    **{f"{size}{language}": f"openai/whisper-{size}{language}" for size in _SIZES for language in ("", ".en")},
}
"""As OpenAI's package and others call them, to hub ids."""
NANO_DIR = Path(__file__).parent / "nano" / "weights"


def resolve_name(whisper_model: str) -> str:
    """Hub id or folder of a name: one of `SHORT_NAMES` (also as ``whisper-base``), nano, a hub id, a folder.

    Raises:
        InputError: It is none of these.
    """
    if whisper_model == "nano":
        return str(NANO_DIR)
    if Path(whisper_model).is_dir():
        return whisper_model
    name = SHORT_NAMES.get(whisper_model.removeprefix("whisper-"), whisper_model)
    if "/" not in name:  # as every id of a speech model on the hub has
        raise InputError(
            "model.unknown",
            f"there is no speech model {whisper_model!r}: it is no folder here, and no name of a Whisper"
            f" ({', '.join(SHORT_NAMES)}, nano); a hub id has the form owner/name",
            whisper_model,
        )
    return name


def model_revision(whisper_model: str) -> str | None:
    """Identity of a model's weights, to tell apart models of one name.

    Returns:
        For a folder, ``sha256:`` and a digest of its config and weights. For a hub id, the commit in this
        machine's cache. None if neither is found.
    """
    name = resolve_name(whisper_model)
    if Path(name).is_dir():
        files = sorted([*Path(name).glob("config.json"), *Path(name).glob("*.safetensors")])
        stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return _digest(tuple(stamps)) if files else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        file = try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # no hub id either
        return None
    return Path(file).parent.name if isinstance(file, str) else None


@lru_cache(maxsize=4)
def _digest(stamps: tuple[tuple[str, int, int], ...]) -> str:
    """Digest of files, cached by their size and modification time: a process reads gigabytes once."""
    digest = hashlib.sha256()
    for name, _, _ in stamps:
        digest.update(Path(name).name.encode())
        with open(name, "rb") as contents:
            digest.update(hashlib.file_digest(contents, "sha256").digest())
    return f"sha256:{digest.hexdigest()[:32]}"
