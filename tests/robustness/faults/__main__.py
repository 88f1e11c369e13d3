"""`make faults`: stop runs of a tiny pipeline in every way and at many moments; print and write what they survived."""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from moe_lightning.system.json_files import write_json
from tests.robustness.faults.campaign import DAMAGES, Campaign
from tests.robustness.faults.mounts import CannotMount
from tests.robustness.faults.tiny_pipeline import STAGES, VARIANTS, Fault, Forks, write_corpus_and_model

KILLS = {"plain": 16, "workers": 10, "accumulation": 12, "two_ranks": 6, "two_ranks_every_step": 6}
"""SIGKILLs of all ranks, by variant: 50."""
SIGNALS = {"accumulation": 10, "workers": 6, "two_ranks_every_step": 4}
FAULTS_OF_A_RUN = 5
DAMAGED = {
    "moe": (
        "asr/checkpoints/last.ckpt",
        "asr/checkpoints/best.ckpt",
        "asr/stage.json.begun",
        "experts/experts.safetensors",
        "experts/stage.json",
        "gating_model/best.pt",
        "gating_model/gating_pretrain_config.json",
        "clustered/Spectral_soft.json",
        "corpus/train.jsonl.gz",
    ),
    "embedding": ("embeddings/*/embeddings_00000.npy", "embeddings/*/embeddings_00000.json"),
    "gating": ("embeddings/*/mapping.json", "embeddings/*/embeddings_00001.npy", "clustered/clusterer.safetensors"),
}
"""Files that are damaged once a stage has been killed near its end."""
Outcome = tuple[str, str, int, int, str]
"""Kind, variant, faults injected, faults survived, words."""


class Faults:
    """All of them, and their count.

    Args:
        share: Of the numbers above; less than 1 for a quick look.
    """

    def __init__(self, folder: Path, seed: int, share: float):
        self.folder, self.rng, self.share = folder, random.Random(seed), share
        self.forks = Forks()
        self.corpus, self.model = write_corpus_and_model(folder)
        self.campaigns: dict[str, Campaign] = {}

    def all(self) -> Iterator[Outcome]:
        """One kind after another."""
        for kinds, numbers in ((("SIGKILL",), KILLS), (("SIGTERM", "SIGINT"), SIGNALS)):
            for name, number in numbers.items():
                yield self._signals(name, round(number * self.share), kinds)
        yield self._lost_ranks(round(4 * self.share))
        yield self._mounted("full disk", [self._full_disk] * round(6 * self.share))
        yield self._mounted("read-only folder", [self._read_only] * round(4 * self.share))
        yield from self._damages()

    def _campaign(self, name: str) -> Campaign:
        if name not in self.campaigns:
            self.campaigns[name] = Campaign(
                self.forks, VARIANTS[name], self.corpus, self.model, self.folder / "runs" / name
            )
        return self.campaigns[name]

    def _signals(self, name: str, number: int, kinds: tuple[str, ...]) -> Outcome:
        injected = survived = 0
        words: list[str] = []
        while injected < number and not words:
            faults = self._campaign(name).faults(self.rng, min(FAULTS_OF_A_RUN, number - injected), kinds)
            try:
                came = len(self._campaign(name).survived(faults))
                injected, survived = injected + came, survived + came
            except AssertionError as error:
                injected, words = injected + len(faults), [str(error)]
        return " or ".join(kinds), name, injected, survived, " ".join(words)

    def _lost_ranks(self, number: int) -> Outcome:
        campaign, results = self._campaign("two_ranks"), []
        for _ in range(number):
            stage = self.rng.choice(("embedding", "experts", "moe"))
            after = self.rng.uniform(0.3, 0.9) * campaign.stages[stage]["seconds"]
            fault = Fault(stage, after=after, rank=self.rng.randrange(2), only_rank=True)
            results.append(_attempt(partial(campaign.survived, [fault])))
        return _summary("one rank killed", "two_ranks", results)

    def _mounted(self, kind: str, attempts: list[Callable[[], None]]) -> Outcome:
        try:
            return _summary(kind, "plain", [_attempt(attempt) for attempt in attempts])
        except CannotMount as reason:
            return kind, "plain", 0, 0, f"skipped: {reason}"

    def _full_disk(self) -> None:
        self._campaign("plain").survives_full_disk(self.rng.uniform(0.05, 0.9))

    def _read_only(self) -> None:
        stage = self.rng.choice(STAGES[1:])
        self._campaign("plain").survives_read_only(Fault(stage, event=self.rng.randint(3, 20)))

    def _damages(self) -> Iterator[Outcome]:
        for damage in DAMAGES:
            ends: list[str] = []
            files = [(stage, name) for stage, names in DAMAGED.items() for name in names]
            files = files[: max(1, round(len(files) * self.share))]
            results = [_attempt(partial(self._damage, name, damage, stage, ends)) for stage, name in files]
            words = ", ".join(
                f"{ends.count(end)} {end}" for end in ("mended", "refused", "told", "not read") if end in ends
            )
            *counts, failed = _summary(f"file {damage}", "plain", results)
            yield counts[0], counts[1], counts[2], counts[3], f"{words} {failed}".strip()

    def _damage(self, name: str, damage: str, stage: str, ends: list[str]) -> None:
        file = name.replace("*", f"whisper_{self.model.name}_embeddings")
        plain = self._campaign("plain")
        ends.append(plain.survives_damage(file, damage, plain.late(stage)))


def _attempt(act: Callable[[], object]) -> str:
    """What went wrong, "" for nothing."""
    try:
        act()
    except AssertionError as error:
        return str(error) or "an assertion failed"
    return ""


def _summary(kind: str, variant: str, results: list[str]) -> Outcome:
    return kind, variant, len(results), results.count(""), " | ".join(filter(None, results))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the faults; default 1, all")
    parser.add_argument("--json", type=Path, default=Path("results/faults.json"), help="default results/faults.json")
    options = parser.parse_args()
    started, outcomes = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="faults") as folder:
        print(f"{'fault':<20}{'variant':<24}{'injected':>8}{'survived':>10}", flush=True)
        for kind, variant, injected, survived, words in Faults(Path(folder), options.seed, options.share).all():
            print(f"{kind:<20}{variant:<24}{injected:>8}{survived:>10}  {words[:4000]}", flush=True)
            outcomes.append(
                {"fault": kind, "variant": variant, "injected": injected, "survived": survived, "words": words}
            )
            write_json(options.json, {"seed": options.seed, "share": options.share, "faults": outcomes})
    total = [sum(int(str(one[name])) for one in outcomes) for name in ("injected", "survived")]
    print(f"{'all':<44}{total[0]:>8}{total[1]:>10}  {time.monotonic() - started:.0f} s; {options.json}")
    raise SystemExit(total[0] != total[1])


if __name__ == "__main__":
    main()
