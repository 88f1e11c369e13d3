"""torch and torchaudio load as a pair; one that does not is named, with the command that mends it.

transformers and peft import torchaudio wherever it is installed, so any command may be the first to meet it.
"""

import sys
import traceback
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

LOADS = {"2.11": "2.11.0", "2.13": "2.11.1", "2.14": "2.11.1", "2.15": "2.11.1"}
"""The torchaudio that was run here beside each release of torch."""
LOCKED = "torch==2.11.0 torchaudio==2.11.0"
"""The pair of constraints.txt."""


def torchaudio_complaint(error: BaseException) -> str | None:
    """Both versions, the reason and the command that mends it, where an error comes of importing torchaudio.

    Returns:
        None where torchaudio is loaded, or has no part in the error.
    """
    if "torchaudio" in sys.modules:  # an import that fails leaves none
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
    """What an error says, then what it says of its causes: a library's own words often lie in the last."""
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
    """The command that leaves torch alone where it can."""
    partner = LOADS.get(".".join(torch.split(".")[:2]))
    if partner is None:
        return f"pip install {LOCKED}"
    if torch.endswith("+cpu") or partner == torchaudio.partition("+")[0]:  # the index has it for CUDA only; or damaged
        return f"pip install --force-reinstall {LOCKED}"
    return f"pip install torchaudio=={partner}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"
