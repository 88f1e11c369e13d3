import numpy as np
import pytest
import soundfile
import torch

from moe_lightning.data.augmentation import Augmentation, SpecAugment, add_noise, add_room, change_speed
from tests.corpora import tone, write_audio
from tests.refusals import refuses

SPEECH_L = tone(1.0).astype(np.float32)


def test_a_faster_utterance_is_shorter_and_higher():
    fast_L = change_speed(SPEECH_L, 1.1)
    assert len(fast_L) == pytest.approx(16_000 / 1.1, abs=1)
    peak = np.argmax(np.abs(np.fft.rfft(fast_L))) * 16_000 / len(fast_L)
    assert peak == pytest.approx(440 * 1.1, rel=0.01)


def test_an_utterance_does_not_grow_over_the_window():
    long_L = np.zeros(29 * 16_000, dtype=np.float32)
    assert change_speed(long_L, 0.9) is long_L
    assert len(change_speed(long_L, 1.1)) < len(long_L)


@pytest.mark.parametrize("noise_seconds", [0.2, 3.0])
def test_noise_lies_as_far_under_the_speech_as_is_asked_for(noise_seconds):
    rng = np.random.default_rng(0)
    noise_L = rng.standard_normal(round(16_000 * noise_seconds))
    difference_L = add_noise(SPEECH_L, noise_L, 10.0, rng) - SPEECH_L
    ratio = 10 * np.log10(np.mean(SPEECH_L**2) / np.mean(difference_L**2))
    assert ratio == pytest.approx(10.0, abs=1e-3)


def test_a_room_keeps_length_level_and_time():
    response_L = np.concatenate([np.zeros(500), [1.0], 0.3 * np.exp(-np.arange(4000) / 800)])
    click_L = np.zeros(16_000, dtype=np.float32)
    click_L[3000] = 1.0
    wet_L = add_room(click_L, response_L)
    assert len(wet_L) == len(click_L)
    assert np.argmax(np.abs(wet_L)) == 3000
    assert np.sqrt(np.mean(wet_L**2)) == pytest.approx(np.sqrt(np.mean(click_L**2)))
    assert np.abs(wet_L[3100:4000]).max() > 0.01


def test_what_is_heard_is_a_function_of_seed_epoch_and_row(tmp_path):
    write_audio(tmp_path / "noise" / "deep" / "n.ogg", 2.0)
    soundfile.write(tmp_path / "room.wav", np.exp(-np.arange(800) / 100), 16_000)
    flat = {"speeds": [0.9, 1.0, 1.1], "noise_dir": tmp_path / "noise", "reverb_dir": str(tmp_path)}
    augmentation = Augmentation.from_folders(**flat, seed=1)
    assert augmentation is not None
    again = Augmentation.from_folders(**flat, seed=1)
    other = Augmentation.from_folders(**flat, seed=2)
    versions = [augmentation(SPEECH_L, epoch, row) for epoch in range(4) for row in range(4)]
    assert all(version.dtype == np.float32 for version in versions)
    assert len({version.tobytes() for version in versions}) > 8
    assert np.array_equal(augmentation(SPEECH_L, 3, 5), again(SPEECH_L, 3, 5))
    assert any(not np.array_equal(augmentation(SPEECH_L, 0, row), other(SPEECH_L, 0, row)) for row in range(5))


def test_no_augmentation_is_none():
    assert Augmentation.from_folders() is None


@pytest.mark.parametrize(
    ("flat", "refusal"),
    [
        ({"speeds": [0.1]}, ("setting.range", "speeds=[0.1]")),
        ({"speeds": []}, ("setting.range", "speeds=[]")),
        ({"noise_share": 2}, ("setting.range", "noise_share=2")),
        ({"snr_db": [20, 5]}, ("setting.range", "snr_db=[20, 5]")),
        ({"noise_dir": "none"}, ("audio.no-folder", "none")),
        ({"reverb_dir": "none"}, ("audio.no-folder", "none")),
    ],
)
def test_impossible_settings_are_refused(flat, refusal: tuple[str, ...]):
    with refuses(*refusal):
        Augmentation.from_folders(**flat)


class TestSpecAugment:
    def test_masks_lie_in_real_frames_and_are_at_most_as_large_as_asked(self):
        log_mel_BMT = torch.randn(16, 80, 200)
        num_frames_B = torch.tensor([200, 100] * 8)
        masked_BMT = SpecAugment(1, 10, 1, 0.1)(log_mel_BMT, num_frames_B)
        changed_BMT = masked_BMT != log_mel_BMT
        assert changed_BMT.any(dim=(1, 2)).all()
        assert not changed_BMT[1::2, :, 100:].any()
        for changed_MT, num_frames in zip(changed_BMT, num_frames_B.tolist(), strict=True):
            assert changed_MT[:, :num_frames].all(dim=1).sum() <= 10
            assert changed_MT.all(dim=0).sum() <= 0.1 * num_frames

    def test_what_is_hidden_is_at_the_mean_of_the_real_frames(self):
        log_mel_BMT = torch.randn(2, 80, 100)
        masked_BMT = SpecAugment()(log_mel_BMT, torch.tensor([100, 50]))
        for row, num_frames in enumerate((100, 50)):
            hidden = masked_BMT[row] != log_mel_BMT[row]
            mean = log_mel_BMT[row, :, :num_frames].mean()
            assert torch.allclose(masked_BMT[row][hidden], mean, atol=1e-5)

    def test_a_generator_decides_the_masks(self):
        log_mel_BMT, num_frames_B = torch.randn(4, 80, 100), torch.full((4,), 100)
        first, second, third = (
            SpecAugment()(log_mel_BMT, num_frames_B, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
        )
        assert torch.equal(first, second)
        assert not torch.equal(first, third)

    def test_nothing_is_hidden_when_nothing_is_asked_for(self):
        log_mel_BMT = torch.randn(2, 80, 100)
        assert torch.equal(SpecAugment(0, 0, 0, 0.0)(log_mel_BMT, torch.tensor([100, 50])), log_mel_BMT)

    def test_impossible_settings_are_refused(self):
        with refuses("setting.range", "max_time_share=2.0"):
            SpecAugment(max_time_share=2.0)
        with refuses("setting.range", "num_freq_masks, max_freq_bins, num_time_masks"):
            SpecAugment(num_freq_masks=-1)
