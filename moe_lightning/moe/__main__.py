"""`python -m moe_lightning.moe fit --config configs/moe.yaml`."""

from moe_lightning.moe.data import MoEDataModule
from moe_lightning.moe.module import MoEASRModule
from moe_lightning.training.stage_cli import stage_command

main = stage_command("moe", MoEASRModule, MoEDataModule)

if __name__ == "__main__":
    main()
