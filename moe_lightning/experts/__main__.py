"""`python -m moe_lightning.experts fit --config configs/experts.yaml`, and `add`, `drop`, `merge`, `join`."""

import sys
from collections.abc import Sequence

from moe_lightning.cli import stage_command
from moe_lightning.errors import InputError, exits_cleanly
from moe_lightning.experts import life_command
from moe_lightning.experts.module import ExpertModule
from moe_lightning.speech_data import SpeechDataModule

train = stage_command("experts", ExpertModule, SpeechDataModule)


TRAINING = ("fit", "validate")
"""Commands of LightningCLI; the others belong to `life_command`."""


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Train experts, or change those of a finished run."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] in life_command.COMMANDS:
        life_command.main(arguments)
    elif arguments and not arguments[0].startswith("-") and arguments[0] not in TRAINING:
        known = ", ".join((*TRAINING, *life_command.COMMANDS))
        raise InputError(f"{arguments[0]!r} is no command of the experts; there are {known}")
    else:
        if arguments and arguments[0] in ("-h", "--help"):
            changes = ", ".join(life_command.COMMANDS)
            print(f"{changes}: change the experts of a finished run, see `moe-lightning experts add --help`\n")
        train(argv)


if __name__ == "__main__":
    main()
