"""A run is verified whole, and each kind of damage is named with its file, the rule and the way out."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from moe_lightning.evaluation.__main__ import main as evaluate
from moe_lightning.experts.__main__ import main as change_experts
from moe_lightning.models.weights import read_metadata
from moe_lightning.run.folder import RunDir
from moe_lightning.run.record import renew_record
from moe_lightning.run.stages import STAGES, Stage
from moe_lightning.run.verify import main
from moe_lightning.system.json_files import read_json, write_json
from tests.stage_runs import fit

Verify = Callable[[Path], tuple[int, str, list[str]]]


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Verify:
    """Exit code, output, and the lines that name what is wrong."""

    def run_it(path: Path) -> tuple[int, str, list[str]]:
        capsys.readouterr()
        code = 0
        try:
            main([str(path)])
        except SystemExit as ended:
            code = int(ended.code or 0)
        output = capsys.readouterr()
        return code, output.out, [line for line in output.err.splitlines() if line.strip()]

    return run_it


@pytest.fixture
def run(evaluated_run: RunDir, tmp_path: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(evaluated_run.path, tmp_path / "run")))


def test_a_run_that_nobody_touched_is_as_made(evaluated_run: RunDir, verify: Verify) -> None:
    code, table, wrong = verify(evaluated_run.path)
    assert (code, wrong) == (0, [])
    assert table.count("as made") == len(STAGES)


def test_a_run_may_be_moved_and_an_unfinished_one_is_as_made_so_far(
    pretrained_run: Path, tmp_path: Path, verify: Verify
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(pretrained_run, moved)
    code, table, wrong = verify(moved)
    assert (code, wrong) == (0, [])
    assert table.count("not begun") == 2


def test_what_mends_a_moved_run_mends_it_where_it_lies_now(run: RunDir, verify: Verify) -> None:
    run.log_file.write_text(
        "[3/7] python -m moe_lightning.clustering --embedding-dir logs/a/embeddings/x --output-dir logs/a/clustered\n"
        "[4/7] python -m moe_lightning.gating fit --config logs/abc.yaml --run_dir logs/a --seed_everything 42\n"
    )
    run.gate_file.unlink()
    run.clusterer_file.unlink()
    lines = "\n".join(verify(run.path)[2])
    assert (
        f"python -m moe_lightning.gating fit --config logs/abc.yaml --run_dir {run.path} --seed_everything 42" in lines
    )
    assert f"--embedding-dir {run.path}/embeddings/x --output-dir {run.path}/clustered" in lines


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    contents = bytearray(file.read_bytes())
    contents[-3] ^= 1
    file.write_bytes(contents)


FILES: dict[str, Stage] = {
    "corpus/train.jsonl.gz": "corpus",
    "corpus/recordings.json": "corpus",
    "embeddings/*/embeddings_00000.npy": "embedding",
    "embeddings/*/mapping.json": "embedding",
    "embeddings/*/store.json": "embedding",
    "clustered/Spectral_soft.json": "clustering",
    "clustered/Spectral.json": "clustering",
    "clustered/clusterer.json": "clustering",
    "clustered/clusterer.safetensors": "clustering",
    "gating_model/best.pt": "gating",
    "gating_model/gating_pretrain_config.json": "gating",
    "gating_model/checkpoints/last.ckpt": "gating",
    "experts/experts.safetensors": "experts",
    "experts/checkpoints/best.ckpt": "experts",
    "asr/mixture.safetensors": "moe",
    "asr/mixture.json": "moe",
    "asr/gating_model.pt": "moe",
    "asr/expert_1/adapter_model.safetensors": "moe",
    "asr/checkpoints/last.ckpt": "moe",
    "report/hypotheses.jsonl": "evaluation",
    "report/index.html": "evaluation",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_cut_off_or_changed_is_named(name: str, run: RunDir, verify: Verify) -> None:
    (file,) = run.path.glob(name)
    whole = file.read_bytes()
    damages = ((flip, ("has changed", "cannot be read")), (cut, ("is cut off",)), (Path.unlink, ("is missing",)))
    for damage, rules in damages:
        damage(file)
        code, _, wrong = verify(run.path)
        own = [line for line in wrong if line.startswith(f"wrong: {file}: ")]
        assert code == 1
        assert len(own) == 1, wrong
        assert any(rule in own[0] for rule in rules), own[0]
        assert f"then the `moe-lightning pipeline` command of {run.path}" in own[0]
        file.write_bytes(whole)
    assert verify(run.path)[0] == 0


def test_a_file_that_no_stage_has_written_is_named(run: RunDir, verify: Verify) -> None:
    for stage in STAGES:
        (run.stage_dir(stage) / "notes.txt").write_text("mine")
    code, _, wrong = verify(run.path)
    assert code == 1
    assert len(wrong) == len(STAGES)
    assert all("is not of this run" in line and "move it away" in line for line in wrong)


def test_clusters_that_were_made_anew_make_what_was_trained_on_them_wrong(run: RunDir, verify: Verify) -> None:
    file = run.soft_labels_file("spectral")
    rows = read_json(file, "")
    write_json(file, [{**row, "probs": row["probs"][::-1]} for row in rows])
    renew_record(run, "clustering")
    code, _, wrong = verify(run.path)
    assert code == 1
    assert [line.split(":")[1].split("/")[-2] for line in wrong] == ["gating_model", "experts", "asr", "report"]
    for line in wrong:
        assert "is made from another clustering than is there now: clustered/Spectral_soft.json was made anew" in line
        assert "rm -r" in line


def test_soft_labels_that_are_no_distributions_or_of_other_utterances_are_named(run: RunDir, verify: Verify) -> None:
    file = run.soft_labels_file("spectral")
    rows = read_json(file, "")
    for changed, words in (([{**rows[0], "probs": [0.5, 0.6]}, *rows[1:]], "sum to 1"), (rows[1:], "lacks")):
        write_json(file, changed)
        for stage in STAGES:  # as if it had been written so
            renew_record(run, stage)
        code, _, wrong = verify(run.path)
        assert code == 1
        assert len(wrong) == 1
        assert words in wrong[0]


def test_weights_of_another_shape_or_not_finite_are_named(run: RunDir, verify: Verify) -> None:
    state = load_file(run.pretrained_experts_file)
    name = next(iter(state))
    config = read_json(run.mixture_config_file, "")
    write_json(run.mixture_config_file, {**config, "experts": {**config["experts"], "rank": 5}})
    gate = torch.load(run.gate_file, weights_only=True)
    torch.save({**gate, "output.bias": torch.zeros(3)}, run.gate_file)
    metadata = read_metadata(run.pretrained_experts_file, "")
    save_file({**state, name: state[name] * torch.nan}, run.pretrained_experts_file, metadata=metadata)
    for stage in STAGES:
        renew_record(run, stage)
    code, _, wrong = verify(run.path)
    assert code == 1
    by_file = {line.split(": ")[1]: line for line in wrong}
    assert "output.bias is (3,) here, (2,) in its config" in by_file[str(run.gate_file)]
    assert "holds a value that is not finite" in by_file[str(run.pretrained_experts_file)]
    assert "2 experts of rank 5" in by_file[str(run.mixture_file)]


def test_a_checkpoint_of_other_experts_is_named(run: RunDir, verify: Verify) -> None:
    file = run.checkpoint_dir("experts") / "last.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    name = next(key for key in checkpoint["state_dict"] if key.endswith("down_RD"))
    checkpoint["state_dict"][name] = checkpoint["state_dict"][name][:-1]
    torch.save(checkpoint, file)
    renew_record(run, "experts")
    code, _, wrong = verify(run.path)
    assert code == 1
    assert len(wrong) == 1
    assert f"{file}: cannot be loaded" in wrong[0]
    assert "in the exported weights" in wrong[0]


def test_scores_that_the_transcripts_do_not_come_to_are_named(run: RunDir, verify: Verify) -> None:
    results = read_json(run.results_file, "")
    results["systems"]["mixture"]["rate"] = 0.01
    write_json(run.results_file, results)
    renew_record(run, "evaluation")
    code, _, wrong = verify(run.path)
    assert code == 1
    assert "says rate 0.01 of the system mixture, its transcripts come to" in wrong[0]
    assert f"moe-lightning evaluate --run-dir {run.path} --split test --rescore" in wrong[0]
    evaluate(["--run-dir", str(run.path), "--rescore", "--num-resamples", "100"])
    assert verify(run.path)[0] == 0, "the command that is named mends it"


def test_transcripts_of_other_references_are_named(run: RunDir, verify: Verify) -> None:
    rows = [json.loads(line) for line in run.hypotheses_file.read_text().splitlines()]
    rows[0]["reference"] = "something else"
    run.hypotheses_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    renew_record(run, "evaluation")
    code, _, wrong = verify(run.path)
    assert code == 1
    assert "is not the transcript that the manifest has" in wrong[0]


def test_a_recording_that_was_cut_off_replaced_or_lost_is_named(run: RunDir, tmp_path: Path, verify: Verify) -> None:
    file = run.stage_dir("corpus") / "recordings.json"
    rows = read_json(file, "")
    copies = []
    for row in rows[:3]:
        copies.append(Path(shutil.copy(row["path"], tmp_path / Path(row["path"]).name)))
        row["path"] = str(copies[-1])
    write_json(file, rows)
    renew_record(run, "corpus")
    for stage in STAGES[1:]:
        renew_record(run, stage)
    assert verify(run.path)[0] == 0
    cut(copies[0])
    flip(copies[1])
    copies[2].unlink()
    _, _, wrong = verify(run.path)
    rules = ("bytes, the corpus stage found", "has the size that it had, and other contents", "cannot be read (No such")
    assert len(wrong) == 3
    for line, path, rule in zip(wrong, copies, rules, strict=True):
        assert line.startswith(f"wrong: {path}: ")
        assert rule in line


def test_a_manifest_packed_again_is_the_same_manifest(run: RunDir, verify: Verify) -> None:
    file = run.manifest_file("train")
    contents = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(contents, 1))
    assert verify(run.path)[0] == 0


def test_a_record_that_is_cut_off_is_named(run: RunDir, verify: Verify) -> None:
    cut(run.record_file("gating"))
    code, _, wrong = verify(run.path)
    assert code == 1
    assert any(f"{run.record_file('gating')}: is no record of a stage" in line for line in wrong)


@pytest.mark.parametrize("files", [[], {"a": 1}, {"a": {"bytes": "many", "sha256": ""}}, None])
def test_a_record_of_another_form_is_named(files: object, run: RunDir, verify: Verify) -> None:
    write_json(run.record_file("gating"), {**read_json(run.record_file("gating"), ""), "files": files})
    code, _, wrong = verify(run.path)
    assert code == 1
    assert any(f"{run.record_file('gating')}: is no record of a stage" in line for line in wrong)


@pytest.mark.parametrize(
    ("is_old", "setting", "value"),
    [
        (False, "fast_dev_run", True),
        (False, "limit_val_batches", "1 batch"),
        (True, "fast_dev_run", True),
        (True, "limit_train_batches", 1.0),
        (True, "overfit_batches", 0.5),
    ],
)
def test_a_training_that_was_cut_short_is_named(
    is_old: bool, setting: str, value: object, run: RunDir, verify: Verify
) -> None:
    """Today's debug runs leave no record; older ones kept what was given in their defaults."""
    record = read_json(run.record_file("experts"), "")
    given = {f"trainer.{setting}": value}
    record |= {name: {**record[name], **given} for name in ("settings", "defaults" if is_old else "resolved")}
    if is_old:
        del record["resolved"]
    write_json(run.record_file("experts"), record)
    code, _, wrong = verify(run.path)
    assert code == 1
    assert [line for line in wrong if f"trainer.{setting}" in line and str(run.record_file("experts")) in line] == wrong


def test_a_folder_without_a_run_is_refused(tmp_path: Path, verify: Verify) -> None:
    code, _, lines = verify(tmp_path)
    assert code == 2
    assert "holds no finished stage of a run" in lines[0]


def test_all_runs_of_a_ladder_are_verified_and_a_shared_stage_is_named_in_each(
    run: RunDir, tmp_path: Path, verify: Verify
) -> None:
    first = tmp_path / "ladder" / "runs" / "mixture" / "lr_x1" / "seed_42"
    shutil.move(run.path, first)
    second = first.parents[2] / "random" / "lr_x1" / "seed_42"
    second.mkdir(parents=True)
    for stage in STAGES:
        folder = RunDir(second).stage_dir(stage)
        if stage in ("corpus", "embedding", "clustering"):
            folder.symlink_to(RunDir(first).stage_dir(stage))
        else:
            shutil.copytree(RunDir(first).stage_dir(stage), folder)
    code, table, wrong = verify(tmp_path / "ladder")
    assert (code, wrong) == (0, [])
    assert table.count("as made") == 2 * len(STAGES)
    cut(RunDir(first).soft_labels_file("spectral"))
    code, _, wrong = verify(tmp_path / "ladder")
    assert code == 1
    assert [line.split(": ")[1] for line in wrong] == [
        str(RunDir(path).soft_labels_file("spectral")) for path in (first, second)
    ]
    assert "shared, a link to" in wrong[1]


def test_a_run_with_other_experts_is_as_made_and_leaves_the_old_clusters_out(
    run: RunDir, tmp_path: Path, verify: Verify
) -> None:
    output = RunDir(tmp_path / "smaller")
    change_experts(["drop", "1", "--run-dir", str(run.path), "--output-dir", str(output.path)])
    code, _, wrong = verify(output.path)
    assert (code, wrong) == (0, [])
    assert sorted(file.name for file in output.stage_dir("clustering").iterdir()) == [
        "Spectral.json",
        "Spectral_soft.json",
        "stage.json",
    ]
    assert read_json(output.gate_config_file, "")["num_experts"] == 1


def test_an_expert_that_was_trained_alone_is_verified_by_its_own_record(
    clustered_run: Path, tiny_whisper: Path, tmp_path: Path, verify: Verify
) -> None:
    run = RunDir(Path(shutil.copytree(clustered_run, tmp_path / "run")))
    alone = ["--data.expert", "0", "--model.shared_rank", "0", "--model.assignment", "hard"]
    fit("experts", run.path, tiny_whisper, "--trainer.max_epochs", "1", *alone)
    code, table, wrong = verify(run.path)
    assert (code, wrong) == (0, [])
    assert "expert 0 alone" in table
    flip(RunDir(run.path, 0).pretrained_experts_file)
    code, _, wrong = verify(run.path)
    assert code == 1
    assert "has changed since its stage wrote it" in wrong[0]
