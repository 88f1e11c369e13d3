"""`python -m moe_lightning.moe fit --config configs/moe.yaml`."""

from moe_lightning.cli import stage_command
from moe_lightning.moe.module import MoEASRModule
from moe_lightning.speech_data import SpeechDataModule

main = stage_command("moe", MoEASRModule, SpeechDataModule)

if __name__ == "__main__":
    main()
