"""Cost of a mixture: training steps and decoding, beside transformers, one LoRA of peft, and adapters in turns.

    python benchmarks/mixture.py [--whisper-model FOLDER] [--window 15] [--quick] [--json FILE] [--plot FILE.png]

One process; all systems share one backbone and take turns, so that what else the machine does disturbs each
alike. Weights are those of a folder, or random ones of a shape (base on a CPU; large-v2 on a GPU, in bfloat16).
A CPU's clock is the process's own: with one thread its seconds are those of a machine at rest. A GPU's is the
wall's. `generate` of transformers reads 30 s, whatever the window of the others.

The arithmetic limit is the time that a step's operations (matrix products and attention, as torch counts them)
would take at the speed of the largest matrix products of the model, measured at the start and the end.
"""

import argparse
import copy
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mixture_report import BACKBONE, GENERATE, IN_TURNS, ONE_LORA, TOP_K, figures, mixture_name, plot, print_table
from peft import LoraConfig, get_peft_model
from random_whisper import random_whisper
from timing import System, measure, timed
from torch import Tensor, nn

from moe_lightning.models.backbones.base import SpeechBackbone
from moe_lightning.models.backbones.decoding import DecodeOptions
from moe_lightning.models.backbones.pretrained import load_whisper
from moe_lightning.models.backbones.whisper import WhisperBackbone
from moe_lightning.models.backbones.window import LONGEST
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.models.experts import SpeechExperts
from moe_lightning.training.optimizer import ExpertAdamW

RANK, SEED = 16, 0
NUMBERS, QUICK_NUMBERS = (2, 4, 8, 16, 32, 64), (8, 64)
SIZES = {
    "base": {"seconds": 5.0, "batch": 8, "tokens": 24},
    "large-v2": {"seconds": 5.0, "batch": 16, "tokens": 24},
}
QUICK = {"seconds": 2.0, "batch": 3, "tokens": 8}
TEXT = "the quick brown fox jumps over the lazy dog again and again"


class Speech(NamedTuple):
    """A batch of noise with transcripts."""

    waveforms_BL: Tensor
    num_samples_B: Tensor
    texts: list[str]
    languages: list[str | None]


def main() -> None:
    """Measure, print a table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small batches, few rounds, under 50 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="cost against the number of experts, as a PNG")
    parser.add_argument("--rounds", type=int, metavar="N", help="turns of each system; default 7, 2 with --quick")
    parser.add_argument("--whisper-model", help="folder or hub id of a Whisper model; its weights, not random ones")
    parser.add_argument("--shape", choices=tuple(SIZES), help="of random weights: default base; large-v2 with a GPU")
    parser.add_argument("--window", default="auto", help="auto (30 s), real (5 s here), or seconds")
    parser.add_argument("--batch", type=int, metavar="N", help="utterances; default 8 for base, 16 for large-v2")
    parser.add_argument("--experts", type=int, nargs="+", help=f"default {' '.join(map(str, NUMBERS))}")
    args = parser.parse_args()
    has_gpu = torch.cuda.is_available()
    name = args.shape or ("large-v2" if has_gpu else "base")
    shape: dict[str, Any] = SIZES[name] | (QUICK if args.quick else {}) | {"shape": name, "window": args.window}
    shape |= {"batch": args.batch or shape["batch"], "model": args.whisper_model}
    bench = Bench(shape, torch.device("cuda" if has_gpu else "cpu"))
    speed = bench.matrix_speed()
    systems = bench.systems(tuple(args.experts or (QUICK_NUMBERS if args.quick else NUMBERS)), not args.quick)
    rows = measure(systems, args.rounds or (2 if args.quick else 7), has_gpu)
    print_table(rows, shape, max(speed, bench.matrix_speed()))
    if args.json:
        args.json.write_text(json.dumps(figures(rows) | {"shape": shape, "systems": rows}, indent=1) + "\n")
    if args.plot:
        plot(rows, args.plot)


class Bench:
    """Makes the systems: each a view of the same backbone with adapters of its own."""

    def __init__(self, shape: dict[str, Any], device: torch.device):
        torch.manual_seed(SEED)
        self.shape, self.device = shape, device
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.model, self.tokenizer = load_whisper(shape["model"] or "nano")
        if not shape["model"]:
            self.model = random_whisper(shape["shape"], self.tokenizer)
        nn.Module.to(self.model, device, self.dtype).requires_grad_(False)
        samples = int(shape["seconds"] * 16_000)
        self.speech = Speech(
            0.1 * torch.randn(shape["batch"], samples, device=device),
            torch.full((shape["batch"],), samples, device=device),
            [TEXT] * shape["batch"],
            ["en"] * shape["batch"],
        )

    def systems(self, numbers: tuple[int, ...], are_all: bool) -> list[System]:
        """Transformers, bare backbone, one LoRA, mixtures of so many experts, and adapters in turns."""
        mixtures = [self.mixture(number, TOP_K) for number in numbers]
        merged = [self.mixture(number, number) for number in numbers if number in ((8, 64) if are_all else (8,))]
        in_turns = [self.in_turns(8), *([self.in_turns(8, TOP_K)] if are_all else [])]
        return [self.generate(), self.bare(), self.one_lora(), *mixtures, *merged, *in_turns]

    def matrix_speed(self) -> float:
        """Operations a second of the feed-forward network's matrix product over a window of frames."""
        width = self.model.config.d_model
        frames_TD = torch.randn(int(50 * LONGEST), width, device=self.device, dtype=self.dtype)
        weight_DF = torch.randn(width, 4 * width, device=self.device, dtype=self.dtype)
        fastest = min(timed(lambda: frames_TD @ weight_DF, self.device.type == "cuda")[0] for _ in range(20))
        return 2.0 * frames_TD.numel() * weight_DF.shape[1] / fastest

    def backbone(self) -> WhisperBackbone:
        """A backbone with modules of its own and the weights of all."""
        shared = {id(tensor): tensor for tensor in (*self.model.parameters(), *self.model.buffers())}
        backbone = WhisperBackbone(copy.deepcopy(self.model, shared), self.tokenizer, self.shape["window"])
        backbone.tokens.suppressed = [backbone.tokens.end]  # all systems write as many tokens
        return backbone

    def generate(self) -> System:
        """The bare model as transformers decodes it."""
        backbone, tokens = self.backbone().eval(), self.shape["tokens"]
        asked = {"language": "en", "task": "transcribe"} if backbone.detects_languages else {}

        @torch.no_grad()
        def decode() -> None:
            features = backbone.features(self.speech.waveforms_BL, self.speech.num_samples_B, LONGEST).values_BMT
            limits = {"max_new_tokens": tokens, "min_new_tokens": tokens}
            backbone.model.generate(features.to(self.dtype), do_sample=False, num_beams=1, **limits, **asked)

        return System(GENERATE, 0, None, decode, 0.0)

    def bare(self) -> System:
        backbone = self.backbone().eval()

        def decode() -> None:
            self.decode_with(backbone)

        def loss() -> None:
            with torch.no_grad():
                self.loss_of(backbone)

        return System(BACKBONE, 0, loss, decode, 0.0)

    def one_lora(self) -> System:
        backbone = self.backbone()
        get_peft_model(backbone.model, lora())
        optimizer = torch.optim.AdamW(adapters_of(backbone), lr=1e-4)

        def train() -> None:
            backbone.train()
            optimizer.zero_grad()
            self.loss_of(backbone).backward()
            optimizer.step()

        return System(ONE_LORA, 1, train, lambda: self.decode_with(backbone.eval()), megabytes(backbone))

    def in_turns(self, num_experts: int, num_kept: int | None = None) -> System:
        """Adapters one after another: each over the whole batch, or over the utterances that keep it."""
        backbone = self.backbone()
        model = get_peft_model(backbone.model, lora(), adapter_name="0")
        for expert in range(1, num_experts):
            model.add_adapter(str(expert), lora())
        optimizer = torch.optim.AdamW(adapters_of(backbone), lr=1e-4)
        gate_BE = self.gates(num_experts, num_kept or num_experts)

        def train() -> None:
            backbone.train()
            optimizer.zero_grad()
            for expert in range(num_experts):
                rows = gate_BE[:, expert].nonzero().flatten().tolist()
                if rows:
                    model.set_adapter(str(expert))
                    self.loss_of(backbone, rows).backward()
            optimizer.step()

        name = IN_TURNS if num_kept is None else f"{IN_TURNS}, {num_kept} an utterance"
        return System(name, num_experts, train, None, megabytes(backbone))

    def mixture(self, num_experts: int, num_kept: int) -> System:
        experts = SpeechExperts(self.backbone(), ExpertConfig(num_experts, RANK)).to(self.device)
        for layer in experts.layers.values():
            layer.to(self.dtype)
        optimizer = ExpertAdamW([experts.parameter_group()])
        gate_BE = self.gates(num_experts, num_kept)

        def train() -> None:
            experts.train()
            optimizer.zero_grad()
            experts.loss(*self.speech, gate_BE).backward()
            optimizer.step()

        def decode() -> None:
            with torch.no_grad(), experts.eval().gated(gate_BE):
                self.decode_with(experts.backbone)

        size = sum(parameter.nbytes for parameter in experts.expert_parameters()) / 2**20
        return System(mixture_name(num_kept, num_experts), num_experts, train, decode, size)

    def gates(self, num_experts: int, num_kept: int) -> Tensor:
        """Random experts of each utterance, with random shares."""
        generator = torch.Generator().manual_seed(SEED)
        logits_BE = torch.randn(self.shape["batch"], num_experts, generator=generator)
        probs_BK, experts_BK = logits_BE.softmax(dim=1).topk(num_kept, dim=1)
        shares_BK = probs_BK / probs_BK.sum(dim=1, keepdim=True)
        return torch.zeros_like(logits_BE).scatter(1, experts_BK, shares_BK).to(self.device)

    def loss_of(self, backbone: WhisperBackbone, rows: list[int] | None = None) -> Tensor:
        chosen = slice(None) if rows is None else rows
        texts = self.speech.texts if rows is None else [self.speech.texts[row] for row in rows]
        features = backbone.features(self.speech.waveforms_BL[chosen], self.speech.num_samples_B[chosen])
        frames = backbone.encode(features._replace(values_BMT=features.values_BMT.to(self.dtype)))
        loss = backbone.token_loss(frames, backbone.targets(texts, self.speech.languages[: len(texts)]))
        return loss.sum_B.sum() / loss.num_tokens_B.sum()

    @torch.no_grad()
    def decode_with(self, backbone: SpeechBackbone) -> None:
        features = backbone.features(self.speech.waveforms_BL, self.speech.num_samples_B)
        frames = backbone.encode(features._replace(values_BMT=features.values_BMT.to(self.dtype)))
        backbone.decode(frames, self.speech.languages, options=DecodeOptions(self.shape["tokens"], guard=False))


def lora() -> LoraConfig:
    return LoraConfig(r=RANK, lora_alpha=32, lora_dropout=0.05, target_modules=["q_proj", "v_proj"], bias="none")


def adapters_of(backbone: WhisperBackbone) -> list[nn.Parameter]:
    return [parameter for name, parameter in backbone.named_parameters() if ".lora_" in name]


def megabytes(backbone: WhisperBackbone) -> float:
    return sum(parameter.nbytes for parameter in adapters_of(backbone)) / 2**20


if __name__ == "__main__":
    main()
