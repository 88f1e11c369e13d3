"""What of warnings reaches the terminal."""

import warnings
from pathlib import Path

import pytest

from callbacks import expert_usage
from moe_lightning.system.terminal import quiet_libraries


def test_a_warning_of_ours_is_one_line_without_source_and_a_library_keeps_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # put back afterwards
    with warnings.catch_warnings():
        quiet_libraries()
    ours = warnings.formatwarning("experts [2] are dead", UserWarning, expert_usage.__file__, 53)
    assert ours.strip() == "warning: experts [2] are dead"
    assert "library.py:7" in warnings.formatwarning("deprecated", UserWarning, str(Path("/x/library.py")), 7)
