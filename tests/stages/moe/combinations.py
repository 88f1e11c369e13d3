"""Short joint trainings under every routing, each by a Lightning Trainer, alone or as a rank of several."""

import hashlib
import itertools
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor
from torch.utils.data import DataLoader

from moe_lightning.data.batches import SpeechBatch
from moe_lightning.models.backbones.loading import load_backbone
from moe_lightning.models.checkpoint import save_experts
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.models.experts import SpeechExperts
from moe_lightning.models.gate import Gate, GateConfig
from moe_lightning.models.routing import RoutingMode
from moe_lightning.moe.earlier_stages import EarlierStages
from moe_lightning.moe.module import MoEASRModule
from moe_lightning.run.folder import RunDir
from moe_lightning.system.terminal import quiet_libraries

NUM_EXPERTS = 4
NUM_BATCHES = 2
"""Of each rank; one step, or two where nothing is accumulated."""
EXPERTS = ExpertConfig(NUM_EXPERTS, rank=2, alpha=4.0, dropout=0.0, shared_rank=2)
LIKELIEST = ((0, 1), (1, 2))
"""The two likeliest experts of each rank's utterances; no utterance is for expert 3."""


class Combination(NamedTuple):
    """One training."""

    routing: RoutingMode
    backbone: str
    """``whisper`` or ``ctc``."""
    accumulation: int
    precision: Any

    def __str__(self) -> str:
        return "-".join(map(str, self))


class Outcome(NamedTuple):
    """What a rank saw of a training."""

    weighted: list[int]
    """Experts that the rank's utterances gave weight to."""
    changed: list[int]
    """Experts of which every delta differs from before."""
    touched: list[int]
    """Experts of which any delta differs from before."""
    missing: list[str]
    """Trained parameters that had no gradient at some step."""
    has_gate_changed: bool
    finds_unused: bool
    digest: str
    """Of all trained parameters, bit by bit."""


COMBINATIONS = [
    Combination(*parts)
    for parts in itertools.product(
        get_args(RoutingMode), ("whisper", "ctc"), (1, 2), ("32-true", "bf16-mixed", "16-mixed")
    )
]


GATE = GateConfig(NUM_EXPERTS, NUM_EXPERTS, hidden_dim=NUM_EXPERTS)


def write_stages_before(folder: Path, whisper_model: Path) -> None:
    """Gate and experts as the stages before leave them: the gate of `LIKELIEST`, experts that are not zero."""
    run = RunDir(folder)
    torch.manual_seed(0)
    gate = Gate(NUM_EXPERTS, NUM_EXPERTS, hidden_dim=NUM_EXPERTS)
    for layer in (gate.hidden, gate.output):
        torch.nn.init.eye_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    experts = SpeechExperts(load_backbone(str(whisper_model)), EXPERTS)
    for parameter in experts.expert_parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    for file in (run.gate_file, run.pretrained_experts_file):
        file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(gate.state_dict(), run.gate_file)
    save_experts(experts, run.pretrained_experts_file, str(whisper_model))


def batches(rank: int) -> list[SpeechBatch]:
    """Two utterances of noise a batch, with embeddings that are the gate's logits."""
    generator = torch.Generator().manual_seed(rank)
    first, second = LIKELIEST[rank]
    embeddings_BD = torch.zeros(2, NUM_EXPERTS)
    embeddings_BD[0, first], embeddings_BD[0, second] = 4.0, 3.0
    embeddings_BD[1, first], embeddings_BD[1, second] = 3.5, 3.0
    return [
        SpeechBatch(
            ids=[f"{rank}-{number}-a", f"{rank}-{number}-b"],
            waveforms_BL=0.1 * torch.randn(2, 4_800, generator=generator),
            num_samples_B=torch.tensor([4_800, 4_800]),
            texts=["one", "two"],
            languages=["en", "en"],
            soft_labels_BE=torch.full((2, NUM_EXPERTS), 1 / NUM_EXPERTS),
            embeddings_BD=embeddings_BD,
        )
        for number in range(NUM_BATCHES)
    ]


class Watch(Callback):
    """Notes the experts that were given weight, and the parameters without a gradient."""

    def __init__(self) -> None:
        self.weighted: set[int] = set()
        self.missing: set[str] = set()
        self.finds_unused = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        with torch.no_grad():
            gate_BE = pl_module.mixture.gates(pl_module.mixture.gate.head(batch.embeddings_BD))
        self.weighted |= set(gate_BE.sum(dim=0).nonzero().flatten().tolist())
        self.finds_unused |= bool(getattr(trainer.strategy.model, "find_unused_parameters", False))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.missing |= {name for name, one in _trained(pl_module).items() if one.grad is None}


def train(combination: Combination, folders: dict[str, Path], models: dict[str, Path], num_ranks: int) -> Outcome:
    """Train one combination; as one rank of several, this process must have its place in the environment."""
    torch.manual_seed(1)
    module = MoEASRModule(
        earlier=EarlierStages(
            str(models[combination.backbone]), EXPERTS, GATE, load_backbone(str(models[combination.backbone])).window
        ),
        run_dir=str(folders[combination.backbone]),
        routing=combination.routing,
    )
    module.setup("fit")
    before = {name: parameter.detach().clone() for name, parameter in _trained(module).items()}
    watch = Watch()
    trainer = Trainer(
        accelerator="cpu",
        devices=num_ranks,
        strategy="auto" if num_ranks == 1 else "ddp",
        **_precision(combination.precision),
        accumulate_grad_batches=combination.accumulation,
        gradient_clip_val=1.0,
        max_epochs=1,
        limit_val_batches=0,
        use_distributed_sampler=False,
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(batches(trainer.global_rank), batch_size=None, collate_fn=_as_it_is))
    assert trainer.global_step == NUM_BATCHES // combination.accumulation
    return _outcome(watch, before, {name: one.detach() for name, one in _trained(module).items()})


def train_all_on_a_rank(
    rank: int, num_ranks: int, port: int, folders: dict[str, Path], models: dict[str, Path], results: Path
) -> None:
    """Train every combination, one after another, as one rank of a group; write the outcomes."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_RANK": rank, "NODE_RANK": 0}
    os.environ.update({name: str(value) for name, value in {**place, "WORLD_SIZE": num_ranks}.items()})
    torch.set_num_threads(1)
    torch.save([tuple(one) for one in train_all(folders, models, num_ranks)], results / f"{rank}.pt")


def train_all(folders: dict[str, Path], models: dict[str, Path], num_ranks: int = 1) -> Sequence[Outcome]:
    """Outcome of every combination."""
    quiet_libraries()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [train(combination, folders, models, num_ranks) for combination in COMBINATIONS]


def _precision(precision: Any) -> dict[str, Any]:
    """For 16-mixed, which Lightning refuses a CPU, its plugin: half precision, and a scaler of gradients."""
    if precision != "16-mixed":
        return {"precision": precision}
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    return {"plugins": [MixedPrecision("16-mixed", "cpu", scaler=scaler)]}


def _trained(module: LightningModule) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _outcome(watch: Watch, before: dict[str, Tensor], after: dict[str, Tensor]) -> Outcome:
    deltas = [name for name in before if name.endswith(("down_RD", "up_RD"))]
    moved = {
        expert: [not torch.equal(before[name][rows], after[name][rows]) for name in deltas]
        for expert, rows in ((expert, EXPERTS.rows_of(expert)) for expert in range(NUM_EXPERTS))
    }
    gate = [name for name in before if name not in deltas]
    bits = b"".join(after[name].contiguous().numpy().tobytes() for name in sorted(after))
    return Outcome(
        weighted=sorted(watch.weighted),
        changed=[expert for expert, is_moved in moved.items() if all(is_moved)],
        touched=[expert for expert, is_moved in moved.items() if any(is_moved)],
        missing=sorted(watch.missing),
        has_gate_changed=any(not torch.equal(before[name], after[name]) for name in gate),
        finds_unused=watch.finds_unused,
        digest=hashlib.sha256(bits).hexdigest(),
    )


def _as_it_is(batch: SpeechBatch) -> SpeechBatch:
    return batch
