"""A small mixture that tests of the joint stage look at."""

from pathlib import Path

import pytest
import torch

from moe_lightning.data.batches import SpeechBatch
from moe_lightning.models.backbones.whisper import WhisperBackbone
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.models.experts import SpeechExperts

NUM_EXPERTS = 4


@pytest.fixture(scope="module")
def experts(tiny_whisper: Path) -> SpeechExperts:
    """Four experts that differ, in evaluation mode."""
    torch.manual_seed(0)
    backbone = WhisperBackbone.load(str(tiny_whisper))
    experts = SpeechExperts(backbone, ExpertConfig(NUM_EXPERTS, rank=4, alpha=64.0, dropout=0.5)).eval()
    for parameter in experts.expert_parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    return experts


@pytest.fixture(scope="module")
def batch() -> SpeechBatch:
    """Three utterances of noise, of different lengths."""
    generator = torch.Generator().manual_seed(1)
    lengths = (8_000, 12_345, 6_400)
    waveforms_BL = torch.zeros(3, max(lengths))
    for row, length in enumerate(lengths):
        waveforms_BL[row, :length] = 0.1 * torch.randn(length, generator=generator)
    return SpeechBatch(
        ids=["a", "b", "c"],
        waveforms_BL=waveforms_BL,
        num_samples_B=torch.tensor(lengths),
        texts=["one", "deux mots", "and three"],
        languages=["en", "fr", "de"],
        soft_labels_BE=torch.full((3, NUM_EXPERTS), 1 / NUM_EXPERTS),
        embeddings_BD=torch.randn(3, 5, generator=generator),
    )
