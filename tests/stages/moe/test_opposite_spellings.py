"""Two populations say the same sounds and spell them the other way round: what is learnt sits in the experts."""

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from moe_lightning.data.batches import SpeechBatch
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.models.mixture import MixtureASR
from moe_lightning.models.mixture_config import MixtureConfig
from moe_lightning.models.routing import RoutingMode, balance_loss, soft_label_divergence
from moe_lightning.training.optimizer import ExpertAdamW

RATE = 16_000
SECONDS = 0.16
"""Of a sound."""
TONES = (700, 2200)
"""The two sounds, Hz."""
HUMS = (180, 330)
"""What tells the populations apart: a weak hum in their rooms, Hz."""
SPELLINGS = (("PA", "TI"), ("TI", "PA"))
"""Of the two sounds, in each population."""
SAYINGS = list(itertools.product((0, 1), repeat=3))
"""Three sounds one after another, in every order: 8 a population."""
POPULATIONS = [population for population in (0, 1) for _ in SAYINGS]
TEXTS = [" ".join(SPELLINGS[population][sound] for sound in saying) for population in (0, 1) for saying in SAYINGS]
OPPOSITE_TEXTS = TEXTS[len(SAYINGS) :] + TEXTS[: len(SAYINGS)]
LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense", "lm_head")
EVERY_LANGUAGE = [None] * len(TEXTS)


def recordings(hums: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    """All sayings of both populations, each population in its room, and their lengths."""
    generator = torch.Generator().manual_seed(seed)
    times_L = torch.arange(round(SECONDS * RATE)) / RATE
    sounds = [0.3 * torch.sin(2 * math.pi * tone * times_L) * torch.sin(math.pi * times_L / SECONDS) for tone in TONES]
    said_BL = torch.stack([torch.cat([sounds[sound] for sound in saying]) for saying in SAYINGS] * 2)
    times_L = torch.arange(said_BL.shape[1]) / RATE
    hums_BL = torch.stack([torch.sin(2 * math.pi * hums[population] * times_L) for population in POPULATIONS])
    noise_BL = torch.randn(said_BL.shape, generator=generator)
    return said_BL + 0.006 * hums_BL + 0.0003 * noise_BL, torch.full((len(said_BL),), said_BL.shape[1])


def new_mixture(tiny_ctc: Path, routing: RoutingMode) -> MixtureASR:
    torch.manual_seed(0)
    experts = ExpertConfig(2, rank=16, alpha=32.0, dropout=0.0, shared_rank=16, target_modules=LAYERS)
    config = MixtureConfig(str(tiny_ctc), embedding_dim=32, experts=experts, hidden_dim=32, routing=routing, top_k=2)
    return MixtureASR(config).eval()


def fit_gate(mixture: MixtureASR, embeddings_BD: Tensor, soft_labels_BE: Tensor) -> None:
    """As the stage gating does it."""
    mixture.gate.standardise(embeddings_BD)
    optimizer = torch.optim.AdamW(mixture.gate.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        soft_label_divergence(mixture.gate(embeddings_BD), soft_labels_BE).backward()
        optimizer.step()


def train(mixture: MixtureASR) -> None:
    """Gate and experts together; each saying is heard in either room, so that experts learn sounds and not hums."""
    own, other = recordings(HUMS, seed=0), recordings(HUMS[::-1], seed=1)
    with torch.no_grad():
        embeddings_BD = mixture.gate.pool(mixture.read_audio(*own).readable)
    soft_labels_BE = F.one_hot(torch.tensor(POPULATIONS), 2).float()
    fit_gate(mixture, embeddings_BD, soft_labels_BE)
    ids = [str(row) for row in range(len(TEXTS))]
    batches = [SpeechBatch(ids, *heard, TEXTS, EVERY_LANGUAGE, soft_labels_BE, embeddings_BD) for heard in (own, other)]
    gate = {"params": list(mixture.gate.parameters()), "lr": 3e-4}
    optimizer = ExpertAdamW([mixture.experts.parameter_group(), gate], lr=3e-3, weight_decay=0.0)
    for step in range(100):
        loss = mixture.loss(batches[step % 2], mixture.route(mixture.gate.head(embeddings_BD)))
        balance = balance_loss(mixture.gate(embeddings_BD))
        optimizer.zero_grad()
        (loss.sum_B.sum() / loss.num_tokens_B.sum() + 0.01 * balance).backward()
        optimizer.clip_experts(1.0)
        optimizer.step()


@pytest.mark.parametrize("routing", ["hard", "top_k", "posterior"])
def test_the_gate_chooses_the_spelling_and_the_experts_carry_it(routing: RoutingMode, tiny_ctc: Path) -> None:
    mixture = new_mixture(tiny_ctc, routing)
    train(mixture)
    heard = recordings(HUMS, seed=0)
    embeddings_BD = mixture.gate.pool(mixture.read_audio(*heard).readable)
    assert mixture.route(mixture.gate.head(embeddings_BD)).experts_BK[:, 0].tolist() == POPULATIONS
    assert mixture.hypotheses(*heard, EVERY_LANGUAGE).texts == TEXTS
    with torch.no_grad():
        for parameter in (mixture.gate.output.weight, mixture.gate.output.bias):
            parameter.copy_(parameter.flip(0))
    assert mixture.hypotheses(*heard, EVERY_LANGUAGE).texts == OPPOSITE_TEXTS
