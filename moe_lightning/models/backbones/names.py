"""Names of speech models and revisions of their weights; no heavy imports."""

import hashlib
from functools import lru_cache
from pathlib import Path

SHORT_NAMES = {"v2": "openai/whisper-large-v2", "v3": "openai/whisper-large-v3"}
NANO_DIR = Path(__file__).parent / "nano" / "weights"


def resolve_name(whisper_model: str) -> str:
    """Hub id or folder of a name: v2, v3, nano, a hub id, a folder."""
    if whisper_model == "nano":
        return str(NANO_DIR)
    return SHORT_NAMES.get(whisper_model, whisper_model)


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
