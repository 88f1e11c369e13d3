"""The command ``moe-lightning``: one word, then the command of that name with its own flags."""

import os
import sys

from moe_lightning import __version__
from moe_lightning.run.stages import STAGES, info

_OTHERS = {
    "ladder": ("evaluation.ladder", "does the mixture beat one LoRA of equal size, random clusters, the oracles?"),
    "verify": ("run.verify", "is a run still as its stages have made it? files, inputs, weights, scores"),
    "transcribe": ("inference", "text of audio files, by a finished run"),
}
COMMANDS = {
    "pipeline": ("run.pipeline", "all stages in order; a second run goes on where the first one stopped"),
    **{info(stage).command: (stage, f"stage {n}: {info(stage).help}") for n, stage in enumerate(STAGES)},
    **_OTHERS,
}
"""Module and explanation of each command."""


def main() -> None:
    """Replace this process by the named command: DDP starts its other processes with the same command line."""
    name, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name in ("-h", "--help"):
        print("usage: moe-lightning COMMAND ...   (moe-lightning COMMAND --help shows its flags)\n")
        print("\n".join(f"  {command:<12}{words}" for command, (_, words) in COMMANDS.items()))
        return
    if name == "--version":
        print(f"moe_lightning {__version__}")
        return
    if name not in COMMANDS:
        print(f"error: {name!r} is no command; there are {', '.join(COMMANDS)} [setting.unknown]", file=sys.stderr)
        sys.exit(2)
    module = COMMANDS[name][0]
    if module in STAGES and info(module).is_trained and arguments in (["-h"], ["--help"]):
        from moe_lightning.settings.training_help import training_help

        print(training_help(module))
        return
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", f"moe_lightning.{module}", *arguments])


if __name__ == "__main__":
    main()
