"""What of warnings reaches the terminal."""

import warnings
from pathlib import Path

import pytest

from callbacks import expert_usage
from moe_lightning.system.terminal import _in_one_line, quiet_libraries
from tests.places import ROOT


def test_a_warning_of_ours_is_one_line_without_source_and_a_library_keeps_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # put back afterwards
    with warnings.catch_warnings():
        quiet_libraries()
    ours = warnings.formatwarning("experts [2] are dead", UserWarning, expert_usage.__file__, 53)
    assert ours.strip() == "warning: experts [2] are dead"
    assert "library.py:7" in warnings.formatwarning("deprecated", UserWarning, str(Path("/x/library.py")), 7)


def test_a_warning_of_this_package_brings_no_control_characters_to_a_terminal() -> None:
    shown = _in_one_line("\x1b[2Ja.txt is alone", UserWarning, str(ROOT / "moe_lightning" / "data" / "audio.py"), 1)
    assert shown == "\nwarning: \\x1b[2Ja.txt is alone\n"
