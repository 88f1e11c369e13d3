"""Speaker-disjoint splits of recorded people, large enough to decide between systems.

`python -m recipes.people.splits --corpus DIR --output-dir DIR`. The corpus is a folder with ``train.jsonl``,
``train_extra.jsonl``, ``dev.jsonl`` and ``test.jsonl``, each line with ``id``, ``audio_filepath``, ``text``,
``speaker``, ``language``, ``domain`` and ``kind``. Its test speakers stay in the test, its dev speakers never
train. The rest of both comes from the other speakers, in proportion within each domain.
"""

import argparse
import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from moe_lightning.data.utterance import SPLITS
from moe_lightning.errors import InputError
from moe_lightning.system.atomic_file import write_text
from moe_lightning.system.exits import exits_cleanly

Row = dict[str, Any]
FILES = ("train", "train_extra", "dev", "test")
DOMAINS = {
    "en": ("en_native", "en_other", "en_zh_adult", "en_zh_child"),
    "languages": ("en_native", "en_other", "en_zh_adult", "en_zh_child", "fr", "de", "es"),
}
"""Domains of each benchmark."""
SMALL = ("en_zh_adult", "en_zh_child")
"""Groups that the imbalanced form makes rare in the training."""
TEST_SHARE, DEV_SHARE = 0.38, 0.15
"""Of the speakers of a domain."""
FIELDS = ("id", "text", "speaker", "duration", "language", "domain", "accent", "gender", "age")
FEWEST_SPEAKERS, FEWEST_UTTERANCES = 150, 1200
"""Of the test: with fewer, the intervals are wider than the differences between good systems."""


def read_rows(corpus: Path, domains: Sequence[str]) -> dict[str, list[Row]]:
    """Sentences of these domains, by the corpus's own split; paths are absolute, fields of bookkeeping left out."""
    found: dict[str, list[Row]] = {}
    for name in FILES:
        file = corpus / f"{name}.jsonl"
        if not file.is_file():
            raise InputError("file.missing", f"{file} is missing; --corpus is a folder with {', '.join(FILES)}", file)
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        kept = [row for row in rows if row["domain"] in domains and row["kind"] == "sentence"]
        found[name] = [
            {key: row[key] for key in FIELDS if key in row}
            | {"audio_filepath": os.path.abspath(corpus / row["audio_filepath"])}
            for row in kept
        ]
    return found


def split_speakers(rows: Mapping[str, Sequence[Row]], seed: int) -> dict[str, str]:
    """Split of each speaker."""
    own = {name: {row["speaker"] for row in rows[name]} for name in FILES}
    domain_of = {row["speaker"]: row["domain"] for name in FILES for row in rows[name]}
    by_domain: dict[str, list[str]] = defaultdict(list)
    for speaker, domain in sorted(domain_of.items()):
        by_domain[domain].append(speaker)
    found: dict[str, str] = {}
    for domain, speakers in by_domain.items():
        test = [one for one in speakers if one in own["test"]]
        dev = [one for one in speakers if one in own["dev"] and one not in own["test"]]
        free = [one for one in speakers if one not in own["test"] | own["dev"]]
        random.Random(f"{seed} {domain}").shuffle(free)
        num_test = max(0, round(TEST_SHARE * len(speakers)) - len(test))
        num_dev = max(0, round(DEV_SHARE * len(speakers)) - len(dev))
        found |= dict.fromkeys([*test, *free[:num_test]], "test")
        found |= dict.fromkeys([*dev, *free[num_test : num_test + num_dev]], "dev")
        found |= dict.fromkeys(free[num_test + num_dev :], "train")
    return found


def make_rare(rows: Sequence[Row], share: float, seed: int) -> list[Row]:
    """The training rows with as many speakers of the small groups as make this share of the utterances.

    Raises:
        InputError: The share is more than they have.
    """
    small = [row for row in rows if row["domain"] in SMALL]
    others = [row for row in rows if row["domain"] not in SMALL]
    wanted = round(share / (1 - share) * len(others))
    if wanted > len(small):
        raise InputError(
            "setting.range",
            f"--small-share must be at most {len(small) / len(rows):.2f}, the share of these groups, got {share}",
            f"--small-share {share}",
        )
    speakers = sorted({row["speaker"] for row in small})
    random.Random(f"{seed} rare").shuffle(speakers)
    kept: list[Row] = []
    for speaker in speakers:
        own = [row for row in small if row["speaker"] == speaker]
        kept += own[: max(0, wanted - len(kept))]
    ids = {row["id"] for row in kept}
    return [row for row in rows if row["domain"] not in SMALL or row["id"] in ids]


def summary(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    """Utterances, speakers and hours by domain."""
    counts, seconds, speakers = Counter[str](), Counter[str](), defaultdict[str, set[str]](set)
    for row in rows:
        counts[row["domain"]] += 1
        seconds[row["domain"]] += row["duration"]
        speakers[row["domain"]].add(row["speaker"])
    return {
        domain: {
            "utterances": count,
            "speakers": len(speakers[domain]),
            "hours": round(seconds[domain] / 3600, 3),
        }
        for domain, count in sorted(counts.items())
    }


def make(corpus: Path, benchmark: str, small_share: float | None, seed: int) -> dict[str, list[Row]]:
    """Rows of each split.

    Raises:
        InputError: A file is missing, or the test is too small to decide.
    """
    rows = read_rows(corpus, DOMAINS[benchmark])
    split_of = split_speakers(rows, seed)
    found: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for name in FILES:
        for row in rows[name]:
            found[split_of[row["speaker"]]].append(row)
    if small_share is not None:
        found["train"] = make_rare(found["train"], small_share, seed)
    speakers = {row["speaker"] for row in found["test"]}
    if len(speakers) < FEWEST_SPEAKERS or len(found["test"]) < FEWEST_UTTERANCES:
        raise InputError(
            "corpus.few-speakers",
            f"the test would have {len(speakers)} speakers and {len(found['test'])} utterances, fewer than"
            f" {FEWEST_SPEAKERS} and {FEWEST_UTTERANCES}: no difference between good systems would show",
            len(speakers),
        )
    return found


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Write ``train.jsonl``, ``dev.jsonl`` and ``test.jsonl``, and print what is in them."""
    parser = argparse.ArgumentParser(prog="python -m recipes.people.splits", description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--benchmark", choices=DOMAINS, default="en", help="English, or English and other languages")
    parser.add_argument(
        "--small-share", type=float, metavar="P", help=f"of {' and '.join(SMALL)} in the training; default: all of them"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    found = make(options.corpus, options.benchmark, options.small_share, options.seed)
    for split, rows in found.items():
        lines = [json.dumps(row, ensure_ascii=False) for row in sorted(rows, key=lambda row: str(row["id"]))]
        write_text(options.output_dir / f"{split}.jsonl", "\n".join(lines) + "\n")
        for domain, one in summary(rows).items():
            counts = f"{one['utterances']:5} utterances {one['speakers']:4} speakers {one['hours']:6} h"
            print(f"{split:5} {domain:12} {counts}")


if __name__ == "__main__":
    main()
