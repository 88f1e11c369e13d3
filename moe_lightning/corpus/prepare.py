"""The corpus stage: a corpus on disk -> the three manifests of a run."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from moe_lightning.corpus.channels import choose_channels, with_channel
from moe_lightning.corpus.entry import Entry
from moe_lightning.corpus.probe import TOO_LONG, UNALIGNED, LeftOut, probe_entries, refuse_faults
from moe_lightning.corpus.readers import read_corpus
from moe_lightning.corpus.readers.columns import NO_TEXT, parse_columns
from moe_lightning.corpus.readers.hub import download
from moe_lightning.corpus.splits import Splits, complete_splits, sample_handful, sample_percent
from moe_lightning.data.audio import TOLERANCE
from moe_lightning.data.manifest import write_manifest
from moe_lightning.data.recordings import Fingerprint, write_recordings
from moe_lightning.data.utterance import SPLITS, UNKNOWN_SPEAKER
from moe_lightning.errors import InputError, printable
from moe_lightning.run.folder import LEFT_OUT_FILE
from moe_lightning.settings.corpus import DEMO, HUB, CorpusSettings
from moe_lightning.system.json_files import write_json

OPEN_ALL = 20_000
"""Up to this number, all recordings are opened even for a small sample: it takes seconds."""
STRATIFY_FIELD = "etiology"
"""Field used for stratified sampling by default, if the corpus has it."""


_KINDS = {TOO_LONG: "over 30 s", UNALIGNED: "stretches that no text fits"}
"""Of what is left out without a fault, by its code."""


@dataclass(frozen=True)
class PreparedCorpus:
    """Result of the corpus stage."""

    splits: Splits
    """train, dev and test, none of them empty."""
    left_out: list[LeftOut]
    warnings: list[str]


def prepare_corpus(settings: CorpusSettings, audio_dir: Path) -> PreparedCorpus:
    """Read, check and split a corpus; writes nothing except the audio from archives and tables.

    Args:
        audio_dir: Folder for that audio; removed again if the corpus is refused.

    Raises:
        InputError: An error in the corpus or the settings; the message names the file and the rule.
    """
    was_there = audio_dir.exists()
    try:
        return _prepare(settings, audio_dir)
    except InputError:
        if not was_there:
            shutil.rmtree(audio_dir, ignore_errors=True)
        raise


def _prepare(settings: CorpusSettings, audio_dir: Path) -> PreparedCorpus:
    entries = read_corpus(
        _root(settings),
        settings.layout,
        audio_dir,
        columns=(*parse_columns(settings.columns), *((NO_TEXT,) if settings.no_transcripts else ())),
        allow_outside_root=settings.allow_outside_root,
    )
    stratify = _stratify_field(entries, settings)
    entries = _candidates(entries, settings)
    if settings.channel.isdecimal():
        entries = with_channel(entries, int(settings.channel))
    probed = probe_entries(entries, settings.num_workers, needs_text=not settings.no_transcripts)
    if not settings.skip_bad_audio:
        refuse_faults(probed.left_out)
    if settings.segment:
        from moe_lightning.corpus.segmenting.corpus import segment_corpus  # torch: not for a corpus without

        probed = segment_corpus(entries, probed, settings.segment, audio_dir.with_name("segments"))
    if not probed.splits:
        raise InputError(
            "audio.unusable",
            f"none of {len(entries)} utterances can be used; {probed.left_out[0].reason}{_hint(probed.left_out[0])}",
            len(entries),
        )
    _refuse_emptied_splits(entries, probed.splits)
    splits = complete_splits(probed.splits, settings.seed, settings.allow_shared_speakers, stratify)
    splits, told = _channels(_sampled(splits, settings, stratify), settings)
    told += _short_durations(splits)
    return PreparedCorpus(splits, probed.left_out, [*_warnings(entries, settings), *told])


def _hint(one: LeftOut) -> str:
    return "; --segment base cuts it at pauses" if one.code == TOO_LONG and not one.is_fault else ""


def _channels(splits: Splits, settings: CorpusSettings) -> tuple[Splits, list[str]]:
    """The splits with the channels to read, and warnings."""
    if settings.channel != "auto":
        return splits, []
    chosen, told = choose_channels([one for split in splits.values() for one in split], settings.num_workers)
    by_id = {one.id: one for one in chosen}
    return {name: [by_id[one.id] for one in split] for name, split in splits.items()}, told


def save_corpus(corpus: PreparedCorpus, folder: Path) -> None:
    """Write the manifests ``<split>.jsonl.gz``, ``left_out.json`` and ``recordings.json``."""
    for split in SPLITS:
        write_manifest(corpus.splits[split], folder / f"{split}.jsonl.gz")
    write_json(folder / LEFT_OUT_FILE, [asdict(one) for one in corpus.left_out])
    found = write_recordings((utterance for split in SPLITS for utterance in corpus.splits[split]), folder)
    _warn_of_copies(corpus.splits, found)


def _warn_of_copies(splits: Splits, fingerprints: Mapping[str, Fingerprint]) -> None:
    """Say which files of two splits have the same bytes, whatever their names."""
    first: dict[Fingerprint, tuple[str, Path]] = {}
    copies: list[tuple[Path, Path]] = []
    for split in SPLITS:
        for path in dict.fromkeys(one.audio_file for one in splits[split]):
            known = first.setdefault(fingerprints[os.path.abspath(path)], (split, path))
            copies += [(known[1], path)] if known[0] != split and known[1] != path else []
    if copies:
        some = printable(f"{copies[0][1]} is {copies[0][0]}")
        print(
            f"warning: {len(copies)} recordings are in two splits under two names: {some}; a test on recordings of the"
            " training says too much",
            file=sys.stderr,
        )


def _root(settings: CorpusSettings) -> Path:
    if settings.dataset_root.startswith(HUB):
        return download(settings.dataset_root)
    if settings.dataset_root != DEMO:
        return Path(settings.dataset_root).expanduser()
    from moe_lightning.corpus.demo import demo_corpus  # needs espeak-ng only for the demo

    if settings.demo_utterances is None:
        return demo_corpus(seed=settings.demo_seed)
    num_train, num_dev, num_test = settings.demo_utterances
    return demo_corpus(seed=settings.demo_seed, num_train=num_train, num_dev=num_dev, num_test=num_test)


def _candidates(entries: list[Entry], settings: CorpusSettings) -> list[Entry]:
    """The recordings to open: for a small sample of a large corpus, fifty times the sample from each split."""
    if settings.max_utterances is None or len(entries) <= OPEN_ALL:
        return entries
    by_split: dict[str, list[Entry]] = {}
    for entry in entries:
        by_split.setdefault(entry.split, []).append(entry)
    count = 50 * max(settings.max_utterances)
    return [one for of_split in by_split.values() for one in sample_handful(of_split, count, settings.seed)]


def _refuse_emptied_splits(entries: Sequence[Entry], splits: Splits) -> None:
    for split in dict.fromkeys(entry.split for entry in entries):
        if not splits.get(split):
            raise InputError(
                "audio.unusable",
                f"no utterance of the {split} split can be used; repair it, or remove the whole split",
                split,
            )


def _stratify_field(entries: Sequence[Entry], settings: CorpusSettings) -> str | None:
    field = settings.stratify or STRATIFY_FIELD
    if any(field in entry.fields for entry in entries):
        return field
    if settings.stratify:
        names = sorted({name for entry in entries for name in entry.fields})
        raise InputError(
            "corpus.no-field",
            f"--stratify {field}: no utterance has this field; there are {', '.join(names) or 'no fields'}",
            field,
        )
    return None


def _sampled(splits: Splits, settings: CorpusSettings, stratify: str | None) -> Splits:
    if settings.data_percent != 100:
        splits = {
            split: sample_percent(utterances, settings.data_percent, settings.seed, stratify)
            for split, utterances in splits.items()
        }
    if settings.max_utterances:
        splits = {
            split: sample_handful(splits[split], count, settings.seed)
            for split, count in zip(SPLITS, settings.max_utterances, strict=True)
        }
    return splits


def _warnings(entries: Sequence[Entry], settings: CorpusSettings) -> list[str]:
    unnamed = Counter(entry.speaker for entry in entries if entry.speaker.startswith(UNKNOWN_SPEAKER))
    if not unnamed:
        return []
    return [
        f"{unnamed.total()} of {len(entries)} utterances name no speaker; each of their {len(unnamed)} folders counts"
        " as one speaker, so a person in two folders may be in two splits"
    ]


def _short_durations(splits: Splits) -> list[str]:
    """A warning of recordings that are longer than the only utterance in them says."""
    utterances = [one for split in splits.values() for one in split]
    uses = Counter(one.audio_file for one in utterances)
    short = [
        one
        for one in utterances
        if one.audio and uses[one.audio_file] == 1 and not one.start and one.audio.seconds - one.duration > TOLERANCE
    ]
    if not short:
        return []
    first = short[0]
    return [
        f"{len(short)} recordings are longer than their durations say, and only so much of them is read; the first is"
        f" {first.audio_file}: {first.duration:.2f} of {first.audio.seconds if first.audio else 0:.2f} s"
    ]


def print_corpus(corpus: PreparedCorpus, folder: Path) -> None:
    """Print warnings, the number of omitted recordings, and a split table."""
    from rich.console import Console
    from rich.table import Table

    for warning in corpus.warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)
    if corpus.left_out:
        counts = Counter("faulty" if one.is_fault else _KINDS[one.code] for one in corpus.left_out)
        kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        print(f"left out: {kinds}; listed in {folder / LEFT_OUT_FILE}")
        if any(one.code == TOO_LONG for one in corpus.left_out):
            print("--segment base cuts recordings over 30 s at pauses, each piece with its part of the transcript")
    table = Table("split", *(("utterances", "speakers", "hours")))
    for split in SPLITS:
        utterances = corpus.splits[split]
        hours = sum(one.duration for one in utterances) / 3600
        table.add_row(split, f"{len(utterances):,}", f"{len({one.speaker for one in utterances}):,}", f"{hours:.3f}")
    Console().print(table)
