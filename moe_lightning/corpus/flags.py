"""Flags of the commands that prepare a corpus, and their settings."""

import argparse

from moe_lightning.corpus.prepare import DEMO, CorpusSettings
from moe_lightning.corpus.readers import LAYOUTS


def add_corpus_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting in `CorpusSettings`."""
    parser.add_argument(
        "--dataset-root", default="Data/extracted_data", metavar="PATH",
        help=f"a corpus folder, a manifest, a prefix of manifests, or '{DEMO}'; --layout lists the forms",
    )  # fmt: skip
    parser.add_argument(
        "--allow-shared-speakers",
        action="store_true",
        help="accept speakers who are in two splits",
    )
    parser.add_argument(
        "--allow-outside-root",
        action="store_true",
        help="take recordings that a manifest names outside of the corpus's folder",
    )
    parser.add_argument("--skip-bad-audio", action="store_true", help="list faulty recordings and leave them out")
    parser.add_argument(
        "--data-percent", type=float, default=100.0, metavar="P",
        help="use P %% of each split, in proportion by the field etiology where there is one",
    )  # fmt: skip
    parser.add_argument(
        "--max-utterances", type=int, nargs=3, metavar=("TRAIN", "DEV", "TEST"), help="a handful of each split"
    )
    parser.add_argument(
        "--layout",
        choices=("auto", *LAYOUTS),
        default="auto",
        help="insist on a form of corpus; auto sees what is there",
    )
    parser.add_argument(
        "--stratify",
        metavar="FIELD",
        help="keep the shares of this field's values in splits and samples (default: etiology)",
    )
    parser.add_argument("--seed", type=int, default=42, help="of splits and samples")
    parser.add_argument(
        "--num-workers", type=int, metavar="N", help="recordings checked at a time (default: twice the cores)"
    )
    parser.add_argument("--demo-seed", type=int, default=0, help="another demo corpus")
    parser.add_argument(
        "--demo-utterances", type=int, nargs=3, metavar=("TRAIN", "DEV", "TEST"), help="size of the demo corpus"
    )


def corpus_settings(options: argparse.Namespace) -> CorpusSettings:
    """Settings from parsed flags; other flags of the command are ignored."""
    values = {name: value for name, value in vars(options).items() if name in CorpusSettings.__dataclass_fields__}
    for name in ("max_utterances", "demo_utterances"):
        values[name] = tuple(values[name]) if values[name] else None
    return CorpusSettings(**values)
