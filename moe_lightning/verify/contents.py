"""Check corpus, embedding and clustering: manifests, recordings, embeddings and labels of the same utterances."""

from collections.abc import Iterator, Sequence

from moe_lightning.clustering.clusterer import Clusterer
from moe_lightning.corpus import read_manifest
from moe_lightning.corpus.recordings import changed_recordings
from moe_lightning.errors import InputError
from moe_lightning.run_dir import SPLITS, RunDir
from moe_lightning.soft_labels import HardLabels, SoftLabels
from moe_lightning.store.embedding_store import GRADIENTS_DIR, MAPPING_FILE, EmbeddingStore
from moe_lightning.verify.finding import Finding, make_again


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


def check_embedding(run: RunDir) -> Iterator[Finding]:
    """Every utterance has a finite embedding, every training utterance a gradient if gradients are stored."""
    way_out = make_again(run, "embedding")
    ids = _ids(run)
    folders = run.embedding_dirs()
    if not folders:
        yield Finding("embedding", run.stage_dir("embedding"), "holds no embeddings", way_out)
    for folder in folders:
        wanted = {folder: ids}
        if (folder / GRADIENTS_DIR / MAPPING_FILE).exists():  # without it, gradients were begun, but are not required
            wanted[folder / GRADIENTS_DIR] = _ids(run, ("train",))
        for store, of_store in wanted.items():
            try:
                EmbeddingStore.load(store).of(of_store)
            except InputError as error:
                yield Finding("embedding", store, f"cannot be used ({error})", way_out)


def check_clustering(run: RunDir) -> Iterator[Finding]:
    """Soft labels are distributions over the experts, for the manifests' utterances; the clusterer is readable."""
    way_out = make_again(run, "clustering")
    files = run.all_soft_labels_files()
    if not files:
        yield Finding("clustering", run.stage_dir("clustering"), "holds no soft labels", way_out)
    ids = _ids(run)
    for file in files:
        try:
            labels = SoftLabels.load(file)
            _check_same_ids(labels, ids)
            hard = HardLabels.load(file.with_name(file.name.replace("_soft.json", ".json")))
            _check_same_ids(hard, ids)
        except InputError as error:
            yield Finding("clustering", file, f"cannot be used ({error})", way_out)
    if run.clusterer_file.exists():
        try:
            Clusterer.load(run.stage_dir("clustering"))
        except InputError as error:
            yield Finding("clustering", run.clusterer_file, f"cannot be used ({error})", way_out)


def _ids(run: RunDir, splits: Sequence[str] = SPLITS) -> list[str]:
    """Ids of all utterances in the splits; an unreadable manifest is a separate finding."""
    ids: list[str] = []
    for split in splits:
        try:
            ids += [utterance.id for utterance in read_manifest(run.manifest_file(split))]
        except InputError:
            continue
    return ids


def _check_same_ids(labels: SoftLabels | HardLabels, ids: list[str]) -> None:
    odd = sorted(set(labels.ids) ^ set(ids))
    if odd:
        where = "lacks" if odd[0] in set(ids) else "has"
        raise InputError(f"it {where} {odd[0]!r} and {len(odd) - 1} more, unlike the manifests")
