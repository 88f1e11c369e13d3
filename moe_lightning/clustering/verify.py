"""Checks of `moe-lightning verify` on labels and clusterer."""

from collections.abc import Iterator

from moe_lightning.clustering.clusterer import Clusterer
from moe_lightning.data.soft_labels import HardLabels, SoftLabels
from moe_lightning.errors import InputError
from moe_lightning.run.finding import Finding, make_again
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import manifest_ids


def check_clustering(run: RunDir) -> Iterator[Finding]:
    """Soft labels are distributions over the experts, for the manifests' utterances; the clusterer is readable."""
    way_out = make_again(run, "clustering")
    files = run.all_soft_labels_files()
    if not files:
        yield Finding("clustering", run.stage_dir("clustering"), "holds no soft labels", way_out)
    ids = manifest_ids(run)
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


def _check_same_ids(labels: SoftLabels | HardLabels, ids: list[str]) -> None:
    odd = sorted(set(labels.ids) ^ set(ids))
    if odd:
        where = "lacks" if odd[0] in set(ids) else "has"
        raise InputError(
            "run.inconsistent", f"it {where} {odd[0]!r} and {len(odd) - 1} more, unlike the manifests", odd[0]
        )
