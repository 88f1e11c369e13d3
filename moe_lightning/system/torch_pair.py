"""Check that torch and torchaudio load together; a mismatch is reported with the command that fixes it.

transformers and peft import torchaudio if it is installed, so any command may fail on it.
"""

import sys
import traceback
from collections.abc import Iterator

LOADS = {"2.11": "2.11.0", "2.13": "2.11.1", "2.14": "2.11.1", "2.15": "2.11.1"}
"""Tested torchaudio version for each torch release."""
LOCKED = "torch==2.11.0 torchaudio==2.11.0"
"""The versions in constraints.txt."""


def torchaudio_complaint(error: BaseException) -> str | None:
    """Error text for a failed import of torchaudio: both versions, the reason, the command that fixes it.

    Returns:
        None if torchaudio is loaded, or has no part in the error.
    """
    if "torchaudio" in sys.modules:  # a failed import leaves no entry
        return None
    failed = next((one for one in _with_causes(error) if _passed_torchaudio(one)), None)
    if failed is None:
        return None
    torch, torchaudio = _version("torch"), _version("torchaudio")
    reason = [*_with_causes(failed)][-1]
    return (
        f"torchaudio {torchaudio} does not load beside torch {torch}, and no speech model loads without it; run"
        f" `{mending_command(torch, torchaudio)}` ({reason})"
    )


def told_with_causes(error: BaseException) -> str:
    """The error's message and those of its causes: the last one often holds a library's own message."""
    words = [str(one).strip() or type(one).__name__ for one in _with_causes(error)]
    return "; ".join(word for number, word in enumerate(words) if word not in words[:number])


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _passed_torchaudio(error: BaseException) -> bool:
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(str(frame.f_globals.get("__name__")).split(".")[0] == "torchaudio" for frame in frames)


def mending_command(torch: str, torchaudio: str) -> str:
    """The pip command; it keeps torch if possible."""
    partner = LOADS.get(".".join(torch.split(".")[:2]))
    if partner is None:
        return f"pip install {LOCKED}"
    if torch.endswith("+cpu") or partner == torchaudio.partition("+")[0]:  # the index has it for CUDA only; or damaged
        return f"pip install --force-reinstall {LOCKED}"
    return f"pip install torchaudio=={partner}"


def _version(package: str) -> str:
    from importlib import metadata  # takes a tenth of a second

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "of unknown version"
