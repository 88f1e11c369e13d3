"""`python -m moe_lightning.experts fit --config configs/experts.yaml`, and `add`, `drop`, `merge`, `join`."""

import sys
from collections.abc import Sequence

from moe_lightning.errors import InputError
from moe_lightning.settings import expert_changes
from moe_lightning.system.exits import exits_cleanly

TRAINING = ("fit", "validate")
"""Commands of LightningCLI; the others change the experts of a finished run."""


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Train experts, or change those of a finished run."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in expert_changes.COMMANDS:
        options = expert_changes.parser().parse_args(arguments)
        from moe_lightning.experts.edit_command import change_experts  # torch: not for --help

        change_experts(options)
    elif arguments and not arguments[0].startswith("-") and arguments[0] not in TRAINING:
        known = ", ".join((*TRAINING, *expert_changes.COMMANDS))
        raise InputError(
            "setting.unknown", f"{arguments[0]!r} is no command of the experts; there are {known}", arguments[0]
        )
    else:
        if arguments and arguments[0] in ("-h", "--help"):
            changes = ", ".join(expert_changes.COMMANDS)
            print(f"{changes}: change the experts of a finished run, see `moe-lightning experts add --help`\n")
        _train(argv)


def _train(argv: Sequence[str] | None) -> None:
    from moe_lightning.experts.data import ExpertDataModule
    from moe_lightning.experts.module import ExpertModule
    from moe_lightning.training.stage_cli import stage_command

    stage_command("experts", ExpertModule, ExpertDataModule)(argv)


if __name__ == "__main__":
    main()
