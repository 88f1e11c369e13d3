"""Checks of `moe-lightning verify` on a corpus: manifests and recordings."""

from collections.abc import Iterator

from moe_lightning.data.manifest import read_manifest
from moe_lightning.data.recordings import changed_recordings
from moe_lightning.data.utterance import SPLITS
from moe_lightning.errors import InputError
from moe_lightning.run.finding import Finding, make_again
from moe_lightning.run.folder import RunDir


def check_corpus(run: RunDir) -> Iterator[Finding]:
    """Manifests are readable, their ids are unique, and the recordings are unchanged."""
    way_out = make_again(run, "corpus")
    seen: set[str] = set()
    for split in SPLITS:
        file = run.manifest_file(split)
        try:
            ids = [utterance.id for utterance in read_manifest(file)]
        except InputError as error:
            yield Finding("corpus", file, f"cannot be used ({error})", way_out)
            continue
        repeated = seen & set(ids)
        if repeated or len(set(ids)) != len(ids):
            yield Finding("corpus", file, f"has an id that comes more than once: {[*repeated, *ids][0]!r}", way_out)
        seen |= set(ids)
    try:
        for path, rule in changed_recordings(run.stage_dir("corpus")):
            yield Finding("corpus", path, rule, f"put the recording back that the run was made of, or {way_out}")
    except InputError as error:
        yield Finding("corpus", run.stage_dir("corpus"), str(error), way_out)
