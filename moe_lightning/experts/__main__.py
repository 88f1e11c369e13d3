"""`python -m moe_lightning.experts fit --config configs/experts.yaml`, and `add`, `drop`, `merge`, `join`."""

import sys
from collections.abc import Sequence

from moe_lightning.errors import InputError
from moe_lightning.experts import edit_command
from moe_lightning.experts.data import ExpertDataModule
from moe_lightning.experts.module import ExpertModule
from moe_lightning.system.exits import exits_cleanly
from moe_lightning.training.stage_cli import stage_command

train = stage_command("experts", ExpertModule, ExpertDataModule)


TRAINING = ("fit", "validate")
"""Commands of LightningCLI; the others belong to `edit_command`."""


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Train experts, or change those of a finished run."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] in edit_command.COMMANDS:
        edit_command.main(arguments)
    elif arguments and not arguments[0].startswith("-") and arguments[0] not in TRAINING:
        known = ", ".join((*TRAINING, *edit_command.COMMANDS))
        raise InputError(
            "setting.unknown", f"{arguments[0]!r} is no command of the experts; there are {known}", arguments[0]
        )
    else:
        if arguments and arguments[0] in ("-h", "--help"):
            changes = ", ".join(edit_command.COMMANDS)
            print(f"{changes}: change the experts of a finished run, see `moe-lightning experts add --help`\n")
        train(argv)


if __name__ == "__main__":
    main()
