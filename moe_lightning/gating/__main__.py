"""`python -m moe_lightning.gating fit --config configs/gating.yaml`."""

from moe_lightning.gating.data import GatingDataModule
from moe_lightning.gating.module import GatingModule
from moe_lightning.training.stage_cli import stage_command

main = stage_command("gating", GatingModule, GatingDataModule)

if __name__ == "__main__":
    main()
