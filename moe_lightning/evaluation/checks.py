"""Checks before a split is scored."""

from moe_lightning.data.manifest import read_manifest
from moe_lightning.data.utterance import refuse_shared_speakers
from moe_lightning.errors import InputError
from moe_lightning.run.folder import RunDir
from moe_lightning.system.json_files import read_json_object


def check_split(run: RunDir, split: str) -> int:
    """Refuse a split with speakers from training, unless the corpus was made with that accepted.

    Returns:
        Number of shared speakers, if accepted; else 0.

    Raises:
        InputError: Speakers are shared, or the split is empty.
    """
    train, held_out = read_manifest(run.manifest_file("train")), read_manifest(run.manifest_file(split))
    if not held_out:
        raise InputError(
            "corpus.no-split",
            f"the {split} split of {run.path} has no utterance; make one with `moe-lightning corpus`",
            split,
        )
    shared = {utterance.speaker for utterance in train} & {utterance.speaker for utterance in held_out}
    if _accepts_shared_speakers(run):
        return len(shared)
    try:
        refuse_shared_speakers({"train": train, split: held_out})
    except InputError as error:
        raise InputError(
            error.code,
            f"{error}; a test on known voices says too much: split by speaker with `moe-lightning corpus`, or accept"
            " it with `moe-lightning pipeline --allow-shared-speakers`, in another --run-dir",
            error.value,
        ) from error
    return 0


def _accepts_shared_speakers(run: RunDir) -> bool:
    record = read_json_object(run.record_file("corpus"), "moe-lightning corpus", {"settings": dict})
    return bool(record["settings"].get("allow_shared_speakers"))
