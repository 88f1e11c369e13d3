"""Every reader, as a function of bytes: it reads them, or raises an InputError. Anything else is a find.

The bytes are written where the reader looks for them, beside whatever else it needs, which is in order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.robustness.fuzz import corpora, runs
from tests.robustness.fuzz.corpora import Read
from tests.robustness.fuzz.seeds import (
    CLUSTERER,
    COST,
    CUT,
    ELAN,
    GATE,
    GRID,
    INFO,
    KALDI,
    KALDI_FILES,
    MAPPED,
    MIXTURE,
    PERSON,
    RECORD,
    ROW,
    SEPARATOR,
    SHARD,
    SPOKEN,
    VERIFIED,
    array_bytes,
    clusterer_arrays,
    lines,
    sounds,
)


@dataclass(frozen=True)
class Target:
    """A reader and inputs to begin with."""

    prepare: Callable[[Path], Read]
    """Given a folder of its own."""
    seeds: Sequence[bytes]
    is_json: bool = True
    """Whether lines of it are mutated as JSON too."""
    share: int = 6
    """Of all inputs, beside the other readers'; those that take longer an input get less."""


TARGETS: dict[str, Target] = {
    "jsonl": Target(
        corpora.corpus("train.jsonl"), [lines(ROW), lines({**ROW, "tags": ["x"], "split": "train"})], share=4
    ),
    "table": Target(
        corpora.corpus("train.csv"),
        [
            b'path,text,speaker,start,end,channel\na.wav,"hello, there",ann,0.0,0.1,0\n',
            b"file;sentence;locale\na.wav;hello;fr_FR\n",
            b"a|in 1455|in fourteen fifty-five\n",
        ],
        is_json=False,
        share=4,
    ),
    "paired": Target(corpora.corpus("a.txt"), [b"hello\n there\n"], is_json=False, share=2),
    "textgrid": Target(corpora.corpus("a.TextGrid"), [GRID], is_json=False, share=1),
    "elan": Target(corpora.corpus("a.eaf"), [ELAN], is_json=False, share=1),
    "sound": Target(corpora.sound, sounds(), is_json=False, share=2),
    "guide": Target(corpora.corpus("Train/ann/ann.json"), [lines(PERSON)], share=4),
    "lhotse": Target(corpora.corpus("cuts_train.jsonl"), [lines(CUT)], share=4),
    "kaldi": Target(
        corpora.several(KALDI_FILES), [KALDI, SEPARATOR.join([b"a flac -c -d a.wav |", b"a b"])], is_json=False, share=1
    ),
    "common-voice": Target(
        corpora.several(("clips/x", "train.tsv")),
        [SEPARATOR + b"client_id\tpath\tsentence\tage\nann\t../a.wav\thello\t3\n"],
        is_json=False,
        share=1,
    ),
    "librispeech": Target(
        corpora.several(("train-clean/14/208/14-208.trans.txt", "SPEAKERS.TXT")),
        [b"14-208-0000 HELLO\na HI\n" + SEPARATOR + b"; x\n14 | F | train-clean\n"],
        is_json=False,
        share=1,
    ),
    "manifest": Target(corpora.manifest, [lines(CUT), lines({**CUT, "channel": [0, 1], "type": "MultiCut"})]),
    "mapping.json": Target(runs.store("mapping.json"), [lines([MAPPED, {**MAPPED, "id": "b", "row": 1}])], share=4),
    "store.json": Target(runs.store("store.json"), [lines(INFO)], share=1),
    "shard index": Target(runs.store("embeddings_00000.json"), [lines(SHARD)], share=1),
    "shard": Target(runs.store("embeddings_00000.npy"), [array_bytes()], is_json=False, share=1),
    "soft labels": Target(
        runs.labels("soft"), [lines([{"id": "a", "probs": [0.5, 0.5]}, {"id": "b", "probs": [1, 0]}])]
    ),
    "labels": Target(runs.labels("hard"), [lines([{"id": "a", "label": 0}, {"id": "b", "label": -1}])]),
    "clusterer.json": Target(runs.clusterer("clusterer.json"), [lines(CLUSTERER)]),
    "clusterer arrays": Target(runs.clusterer("clusterer.safetensors"), [clusterer_arrays()], is_json=False),
    "stage.json": Target(runs.stage_record, [lines(RECORD), lines({**RECORD, "settings": {"a.b": "x"}})], share=1),
    "verified record": Target(runs.verified_record, [lines(VERIFIED)], share=4),
    "recordings.json": Target(runs.recordings, [lines([{"path": "a.wav", "bytes": 3, "sha256_of_ends": "0a"}])]),
    "mixture.json": Target(runs.run_json("mixture"), [MIXTURE]),
    "best.json": Target(runs.best, [lines({"best": 0.5, "epoch": 1})]),
    "gate config": Target(runs.run_json("gate"), [lines(GATE)]),
    "refinement.json": Target(runs.run_json("refinement"), [lines([{"round": 1, "epoch": 0}])]),
    "hypotheses": Target(runs.hypotheses, [lines(SPOKEN) + SEPARATOR + lines(COST)]),
    "config": Target(runs.config, [b"seed: 1\nset: {moe.model.rank: 8}\n", b"seed: &a [1]\nset: *a\n"], is_json=False),
}
