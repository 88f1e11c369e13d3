"""Audio files in, one line of text each, by a run that was really trained."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from moe_lightning.data.audio import read_file
from moe_lightning.data.batches import pad_waveforms
from moe_lightning.inference.__main__ import main, newest_run
from moe_lightning.inference.transcribe import cut, read_speaker, transcribe_file
from moe_lightning.models.backbones.decoding import DecodeOptions
from moe_lightning.models.mixture import MixtureASR
from moe_lightning.models.routing import logits_by_speaker
from moe_lightning.run.folder import RunDir

RATE = 16_000
EXACT = DecodeOptions(guard=False)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).normal(size=round(seconds * RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def mixture(finished_run: Path) -> MixtureASR:
    return MixtureASR.load(RunDir(finished_run).mixture_files)


@pytest.mark.parametrize("seconds", [0.05, 29.9, 30.0, 30.05, 61.3, 100.0])
def test_no_part_exceeds_30_seconds_and_nothing_is_lost(seconds: float) -> None:
    waveform_L = noise(seconds)
    parts = cut(waveform_L)
    assert all(0 < len(part) <= 30 * RATE for part in parts)
    assert np.array_equal(np.concatenate(parts), waveform_L)
    assert (len(parts) == 1) == (seconds <= 30)


def test_long_audio_is_cut_at_its_quietest_place() -> None:
    waveform_L = noise(50)
    silence = slice(round(27.3 * RATE), round(27.7 * RATE))
    waveform_L[silence] = 0
    first, second = cut(waveform_L)
    assert silence.start <= len(first) <= silence.stop
    assert len(second) < 30 * RATE


def test_every_file_is_a_line_with_its_name(
    finished_run: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tiny_corpus / f"test_{number}.wav" for number in range(3)]  # the first is stereo at 44.1 kHz
    main([*map(str, files), "--run-dir", str(finished_run), "--no-guard"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(file) for file in files]
    assert all(line.count("\t") == 2 for line in lines)
    assert {line.split("\t")[1] for line in lines} <= set(LANGUAGES)  # detected, file by file


def test_a_file_gets_the_text_of_the_mixture_in_evaluation(mixture: MixtureASR, tiny_corpus: Path) -> None:
    file = tiny_corpus / "test_1.wav"
    waveform_BL = torch.from_numpy(read_file(file))[None]
    expected = mixture.hypotheses(waveform_BL, torch.tensor([waveform_BL.shape[1]]), ["en"], options=EXACT).texts
    transcript = transcribe_file(mixture, file, "en", options=EXACT)
    assert (transcript.text, transcript.language) == (expected[0], "en")
    assert transcript.expert in (0, 1)


def test_a_long_file_is_transcribed_part_by_part(mixture: MixtureASR, tmp_path: Path) -> None:
    waveform_L = noise(31)
    soundfile.write(tmp_path / "long.wav", waveform_L, RATE, subtype="FLOAT")
    transcript = transcribe_file(mixture, tmp_path / "long.wav", "en", options=EXACT)
    parts = [torch.from_numpy(part)[None] for part in cut(waveform_L)]
    lengths = [torch.tensor([part_BL.shape[1]]) for part_BL in parts]
    texts = [mixture.hypotheses(*part, ["en"], options=EXACT).texts[0] for part in zip(parts, lengths, strict=True)]
    assert len(texts) == 2
    assert transcript.text[:20] == " ".join(text for text in texts if text)[:20]


@pytest.mark.parametrize("num_samples", [100, RATE // 2, 10 * RATE])
def test_silence_and_noise_have_no_text_unless_the_guard_is_off(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], num_samples: int
) -> None:
    for name, level in (("silence", 0.0), ("noise", 1.0)):
        soundfile.write(tmp_path / f"{name}.wav", level * noise(num_samples / RATE), RATE)
    files = [str(tmp_path / f"{name}.wav") for name in ("silence", "noise")]
    command = [*files, "--run-dir", str(finished_run), "--language", "en"]
    main(command)
    assert capsys.readouterr().out.splitlines() == [f"{file}\ten\t" for file in files]
    main(command[:-2])
    assert capsys.readouterr().out.splitlines() == [f"{file}\t-\t" for file in files]
    main([*command, "--no-guard"])
    assert num_samples == 100 or all(line.split("\t")[2] for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("flags", [[], ["--same-speaker"]])
def test_files_that_cannot_be_read_are_told_at_the_end_and_the_others_are_done(
    flags: list[str],
    finished_run: Path,
    tiny_corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "text.wav").write_text("not audio")
    soundfile.write(tmp_path / "worn.flac", 0.1 * np.random.default_rng(0).standard_normal(64_000), 16_000)
    whole = (tmp_path / "worn.flac").read_bytes()
    (tmp_path / "worn.flac").write_bytes(whole[: len(whole) // 2] + bytes(4000) + whole[len(whole) // 2 + 4000 :])
    good = [str(tiny_corpus / f"test_{number}.wav") for number in range(2)]
    bad = [str(tmp_path / name) for name in ("text.wav", "missing.wav", "worn.flac")]
    bad = bad[:2] if flags else bad
    with pytest.raises(SystemExit) as ended:
        main([good[0], *bad, good[1], "--run-dir", str(finished_run), "--no-guard", *flags])
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert [line.split("\t")[0] for line in printed.out.splitlines()] == good
    errors = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert [line.partition(" is ")[0].partition(" cannot")[0].removeprefix("error: ") for line in errors] == bad
    assert not any("--skip-bad-audio" in line for line in errors), "a flag that this command lacks"


def test_without_a_run_the_newest_finished_one_is_taken(
    finished_run: Path, clustered_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished_run, tmp_path / "lightning_logs" / "good")
    shutil.copytree(clustered_run, tmp_path / "lightning_logs" / "later_but_not_finished")
    monkeypatch.chdir(tmp_path)
    assert newest_run().path == Path("lightning_logs/good")


def test_without_any_finished_run_the_command_to_run_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main([str(tiny_corpus / "test_0.wav")])
    assert "run `moe-lightning pipeline` first" in capsys.readouterr().err


def test_another_routing_than_the_trained_one_is_taken_when_it_is_asked_for(
    finished_run: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tiny_corpus / "test_1.wav"
    waveform_BL = torch.from_numpy(read_file(file))[None]
    hard = MixtureASR.load(RunDir(finished_run).mixture_files, routing="hard")
    assert (hard.rule.mode, hard.config.top_k) == ("hard", 2)
    assert MixtureASR.load(RunDir(finished_run).mixture_files).rule.mode == "top_k"
    main([str(file), "--run-dir", str(finished_run), "--routing", "hard", "--language", "English", "--no-guard"])
    length_1 = torch.tensor([waveform_BL.shape[1]])
    (expected,) = hard.hypotheses(waveform_BL, length_1, ["en"], options=EXACT).texts
    assert capsys.readouterr().out == f"{file}\ten\t{expected}\n"


def test_files_of_one_speaker_are_heard_together(mixture: MixtureASR, tiny_corpus: Path) -> None:
    files = [tiny_corpus / f"test_{number}.wav" for number in range(4)]
    logits_NE = torch.cat(
        [mixture.audio_logits(*pad_waveforms([torch.from_numpy(read_file(file))]))[0] for file in files]
    )
    together_1E = logits_by_speaker(logits_NE, ["one"] * 4)[:1]
    speaker_1E = read_speaker(mixture, files)
    found = [transcribe_file(mixture, file, "en", speaker_1E, EXACT) for file in files]
    expert = int(mixture.route(together_1E).experts_BK[0, 0])
    assert [transcript.expert for transcript in found] == [expert] * 4
    for file, transcript in zip(files, found, strict=True):
        waveforms = pad_waveforms([torch.from_numpy(read_file(file))])
        assert transcript.text == mixture.hypotheses(*waveforms, ["en"], together_1E, options=EXACT).texts[0]
