"""`python -m moe_lightning.gating fit --config configs/gating.yaml`."""

from moe_lightning.cli import stage_command
from moe_lightning.gating.data import GatingDataModule
from moe_lightning.gating.module import GatingModule

main = stage_command("gating", GatingModule, GatingDataModule)

if __name__ == "__main__":
    main()
