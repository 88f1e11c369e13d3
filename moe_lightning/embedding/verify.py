"""Checks of `moe-lightning verify` on embeddings."""

from collections.abc import Iterator

from moe_lightning.data.embedding_store import MAPPING_FILE, EmbeddingStore
from moe_lightning.data.store_info import GRADIENTS_DIR
from moe_lightning.errors import InputError
from moe_lightning.run.finding import Finding, make_again
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import manifest_ids


def check_embedding(run: RunDir) -> Iterator[Finding]:
    """Every utterance has a finite embedding, every training utterance a gradient if gradients are stored."""
    way_out = make_again(run, "embedding")
    ids = manifest_ids(run)
    folders = run.embedding_dirs()
    if not folders:
        yield Finding("embedding", run.stage_dir("embedding"), "holds no embeddings", way_out)
    for folder in folders:
        wanted = {folder: ids}
        if (folder / GRADIENTS_DIR / MAPPING_FILE).exists():  # without it, gradients were begun, but are not required
            wanted[folder / GRADIENTS_DIR] = manifest_ids(run, ("train",))
        for store, of_store in wanted.items():
            try:
                EmbeddingStore.load(store).of(of_store)
            except InputError as error:
                yield Finding("embedding", store, f"cannot be used ({error})", way_out)
