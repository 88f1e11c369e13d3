"""`python -m moe_lightning.experts fit --config configs/experts.yaml`."""

from moe_lightning.cli import stage_command
from moe_lightning.experts.module import ExpertModule
from moe_lightning.speech_data import SpeechDataModule

main = stage_command("experts", ExpertModule, SpeechDataModule)

if __name__ == "__main__":
    main()
