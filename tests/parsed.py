"""Commands of the stages that train, parsed and not run."""

from lightning.pytorch import LightningDataModule, LightningModule

from moe_lightning.experts.data import ExpertDataModule
from moe_lightning.experts.module import ExpertModule
from moe_lightning.gating.data import GatingDataModule
from moe_lightning.gating.module import GatingModule
from moe_lightning.moe.data import MoEDataModule
from moe_lightning.moe.module import MoEASRModule
from moe_lightning.run.stages import Stage
from moe_lightning.training.stage_cli import StageCLI

TRAINED: dict[Stage, tuple[type[LightningModule], type[LightningDataModule]]] = {
    "gating": (GatingModule, GatingDataModule),
    "experts": (ExpertModule, ExpertDataModule),
    "moe": (MoEASRModule, MoEDataModule),
}


class Parsed(StageCLI):
    """A stage's command that has parsed its arguments, and does not run."""

    def __init__(self, stage: Stage, arguments: list[str]):
        super().__init__(stage, *TRAINED[stage], arguments)
        self.parser_of_fit = self._parser("fit")

    def instantiate_classes(self) -> None:
        pass

    def _run_subcommand(self, subcommand: str) -> None:
        pass
