"""constraints.txt holds every package that pyproject.toml asks for, at a version that it allows."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from moe_lightning.system.torch_pair import LOADS, LOCKED
from tests.places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PINS = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in LINES)}
EXTRAS = PROJECT["project"]["optional-dependencies"].values()
REQUIREMENTS = [
    *PROJECT["build-system"]["requires"],
    *PROJECT["project"]["dependencies"],
    *(requirement for extra in EXTRAS for requirement in extra),
]


@pytest.mark.parametrize("requirement", [*map(Requirement, REQUIREMENTS)], ids=str)
def test_the_lock_holds_a_version_that_the_bounds_allow(requirement: Requirement) -> None:
    """Where it does not, `make lock` makes it anew."""
    assert PINS[canonicalize_name(requirement.name)] in requirement.specifier


def test_a_line_is_a_name_and_a_version_and_they_are_sorted() -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._]+", line) for line in LINES)
    names = [line.partition("==")[0].lower() for line in LINES]
    assert sorted(names) == names
    assert len(PINS) == len(LINES)


def test_torch_and_torchaudio_are_the_pair_that_a_broken_one_is_mended_to() -> None:
    held = [f"{name}=={PINS[name]}" for name in ("torch", "torchaudio")]
    assert " ".join(held) == LOCKED
    assert LOADS[PINS["torch"].rpartition(".")[0]] == PINS["torchaudio"]
    assert PROJECT["tool"]["moe_lightning"]["lock"]["hold"] == held
