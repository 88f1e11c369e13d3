"""What more experts add to a mixture: their own adapters, and the gate's rows for them; counted, not measured."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from moe_lightning.data.batches import SpeechBatch
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.models.mixture import MixtureASR
from moe_lightning.models.mixture_config import MixtureConfig
from moe_lightning.training.optimizer import ExpertAdamW

RANK, SHARED_RANK, HIDDEN = 4, 3, 8
NUMBERS = (1, 2, 8, 32)
BATCH = SpeechBatch(
    ids=["a", "b"],
    waveforms_BL=0.1 * torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0)),
    num_samples_B=torch.tensor([16_000, 12_000]),
    texts=["one", "two"],
    languages=["en", "en"],
    soft_labels_BE=torch.ones(2, 1),
    embeddings_BD=torch.randn(2, 32, generator=torch.Generator().manual_seed(1)),
)


def mixture_of(num_experts: int, model: Path) -> MixtureASR:
    torch.manual_seed(0)
    config = ExpertConfig(num_experts, rank=RANK, shared_rank=SHARED_RANK, dropout=0.0)
    return MixtureASR(MixtureConfig(str(model), 32, config, hidden_dim=HIDDEN, top_k=min(2, num_experts)))


@pytest.fixture(scope="module", params=["whisper", "ctc"])
def mixtures(request: pytest.FixtureRequest, tiny_whisper: Path, tiny_ctc: Path) -> dict[int, MixtureASR]:
    model = {"whisper": tiny_whisper, "ctc": tiny_ctc}[request.param]
    return {number: mixture_of(number, model) for number in NUMBERS}


def num_trained(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def test_trained_weights_are_those_of_each_expert_the_shared_one_and_the_gate(
    mixtures: dict[int, MixtureASR],
) -> None:
    layers = mixtures[1].experts.layers.values()
    one_rank = sum(layer.in_features + layer.out_features for layer in layers)
    for number, mixture in mixtures.items():
        of_gate = 32 * HIDDEN + HIDDEN + (HIDDEN + 1) * number
        assert num_trained(mixture) == (number * RANK + SHARED_RANK) * one_rank + of_gate


def test_no_other_tensor_of_the_model_grows_with_the_number_of_experts(mixtures: dict[int, MixtureASR]) -> None:
    shapes = {}
    for number, mixture in mixtures.items():
        tensors = dict([*mixture.named_parameters(), *mixture.named_buffers()])
        grown = {name for name in tensors if name.endswith(("down_RD", "up_RD")) or name.startswith("gate.output.")}
        shapes[number] = {name: tensor.shape for name, tensor in tensors.items() if name not in grown}
        assert not any(
            tensor.requires_grad for name, tensor in tensors.items() if ".backbone." in name and name not in grown
        )
    assert all(others == shapes[1] for others in shapes.values())


def kept_for_the_gradient(mixture: MixtureASR) -> int:
    """Bytes that a training pass keeps for its gradient, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in mixture.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = mixture.train().loss(BATCH, mixture.route(mixture.gate.head(BATCH.embeddings_BD))).a_token
    loss.backward()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_a_training_pass_keeps_as_much_of_many_experts_as_of_a_few(mixtures: dict[int, MixtureASR]) -> None:
    """Two of 8 or of 32 run; beside them there are the gates themselves, a number for each rank of an expert."""
    few, many = (kept_for_the_gradient(mixtures[number]) for number in (8, 32))
    of_gates = 4 * len(BATCH.ids) * (32 - 8) * RANK
    assert 0 <= many - few <= 20 * of_gates
    for number in (8, 32):
        mixtures[number].rule = mixtures[number].rule._replace(mode="merge")
    few, many = (kept_for_the_gradient(mixtures[number]) for number in (8, 32))
    for number in (8, 32):
        mixtures[number].rule = mixtures[number].rule._replace(mode="top_k")
    assert many - few > 200 * of_gates, "merged, all of them run: what is counted can grow"


def test_the_optimizer_keeps_two_moments_of_what_is_trained(mixtures: dict[int, MixtureASR]) -> None:
    for number in (2, 32):
        mixture = mixtures[number]
        optimizer = ExpertAdamW([mixture.experts.parameter_group(), {"params": list(mixture.gate.parameters())}])
        for parameter in mixture.parameters():
            parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
        optimizer.step()
        states = [part for state in optimizer.state.values() for kind in state.values() for part in kind.items()]
        assert sum(tensor.numel() for name, tensor in states if name != "step") == 2 * num_trained(mixture)
