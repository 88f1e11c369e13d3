"""`python -m moe_lightning.experts fit --config configs/experts.yaml`, and `add`, `drop`, `merge`, `join`."""

import sys
from collections.abc import Sequence

from moe_lightning.cli import stage_command
from moe_lightning.experts import life_command
from moe_lightning.experts.module import ExpertModule
from moe_lightning.speech_data import SpeechDataModule

train = stage_command("experts", ExpertModule, SpeechDataModule)


def main(argv: Sequence[str] | None = None) -> None:
    """Train experts, or change those of a finished run."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] in life_command.COMMANDS:
        life_command.main(arguments)
    else:
        train(argv)


if __name__ == "__main__":
    main()
