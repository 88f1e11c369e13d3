"""Experts for the true groups, in a run clustered by a manifest field."""

from collections import Counter
from collections.abc import Sequence

from moe_lightning.data.manifest import read_manifest
from moe_lightning.data.soft_labels import HardLabels
from moe_lightning.data.utterance import Utterance
from moe_lightning.errors import InputError
from moe_lightning.run.folder import RunDir
from moe_lightning.system.json_files import read_json_object


def true_experts(run: RunDir, utterances: Sequence[Utterance]) -> dict[str, int]:
    """Expert by utterance id, from the run's clustering field.

    Raises:
        InputError: The run was not clustered by a field, or an utterance has a value that is not in training.
    """
    clusterer = read_json_object(run.clusterer_file, "moe-lightning cluster", {"settings": dict})
    field = clusterer["settings"].get("label_field")
    if not field:
        raise InputError(
            f"--systems label needs a run clustered by a field, and {run.path} is not; make one with"
            " --clustering-algorithm label --label-field FIELD"
        )
    labels = HardLabels.load(run.labels_file("label"))
    expert_of = dict(zip(labels.ids, labels.labels_N.tolist(), strict=True))
    votes: dict[str, Counter[int]] = {}
    for one in read_manifest(run.manifest_file("train")):
        if field in one.fields and one.id in expert_of:
            votes.setdefault(str(one.fields[field]), Counter())[expert_of[one.id]] += 1
    experts = {value: counts.most_common(1)[0][0] for value, counts in votes.items()}
    unknown = [one for one in utterances if str(one.fields.get(field)) not in experts]
    if unknown:
        raise InputError(
            f"{len(unknown)} utterances have no {field} that training had, the first is {unknown[0].id!r}"
            f" ({unknown[0].fields.get(field)!r}); --systems label needs it of every one"
        )
    return {one.id: experts[str(one.fields[field])] for one in utterances}
