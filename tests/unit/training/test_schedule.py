"""Learning rates keep their course when a training goes on with other batches."""

from moe_lightning.training.optimizer import schedule_factor


def test_the_rate_rises_over_the_warm_up_and_falls_to_zero_at_the_end() -> None:
    rates = [schedule_factor(step, step / 100, num_warmup_steps=10, schedule="linear") for step in range(101)]
    assert rates[0] < rates[5] < rates[10] <= 1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == 0


def test_cosine_falls_slowly_at_both_ends() -> None:
    rates = [schedule_factor(1000, share, 0, "cosine") for share in (0.0, 0.1, 0.5, 0.9, 1.0)]
    assert rates[0] == 1
    assert rates[1] > 0.95
    assert abs(rates[2] - 0.5) < 1e-9
    assert rates[3] < 0.05


def test_the_rate_depends_on_the_share_that_is_done_not_on_the_number_of_steps() -> None:
    """Half-way with batches of twice the size is half the steps, and the same rate."""
    assert schedule_factor(500, 0.5, 10, "linear") == schedule_factor(1000, 0.5, 10, "linear")


def test_a_constant_rate_stays() -> None:
    assert schedule_factor(50, 0.99, 10, "constant") == 1
