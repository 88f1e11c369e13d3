"""Names of speech models, and which weights a name stands for today; nothing heavy is imported."""

import hashlib
from functools import lru_cache
from pathlib import Path

SHORT_NAMES = {"v2": "openai/whisper-large-v2", "v3": "openai/whisper-large-v3"}
NANO_DIR = Path(__file__).parent / "nano" / "weights"


def resolve_name(whisper_model: str) -> str:
    """The hub id or the folder that a name stands for: v2, v3, nano, a hub id, a folder."""
    if whisper_model == "nano":
        return str(NANO_DIR)
    return SHORT_NAMES.get(whisper_model, whisper_model)


def model_revision(whisper_model: str) -> str | None:
    """What tells a model's weights from others of the same name.

    Returns:
        A folder: ``sha256:`` and a digest of its config and weights. A hub id: the commit in this machine's
        cache. None where it is neither.
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
    """Of files, given with size and time of change, so that a process reads gigabytes once."""
    digest = hashlib.sha256()
    for name, _, _ in stamps:
        digest.update(Path(name).name.encode())
        with open(name, "rb") as contents:
            digest.update(hashlib.file_digest(contents, "sha256").digest())
    return f"sha256:{digest.hexdigest()[:32]}"
