"""The rooms of the house: imports go down only, without exception; and what must be light is light in its process."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moe_lightning.run.stages import STAGES
from tests.places import ROOT

SOURCE = ROOT / "moe_lightning"
ORDER = ("errors", "system", "settings", "data", "models", "run", "training", "reports")
"""Rooms that stages share; each imports those before it."""
ON_TOP = (*STAGES, "inference")
"""They import the shared rooms, and none of each other."""
ENTRANCES = ("__init__", "__main__")
HEAVY = ("torch", "lightning", "transformers", "torchaudio", "peft", "torchmetrics", "lhotse")


def source_files(folder: Path) -> list[Path]:
    files = sorted(folder.rglob("*.py"))
    assert files, f"{folder} has no source"
    return files


def imports(file: Path) -> Iterator[str]:
    """Full name of everything that a file imports, at its head or inside a function."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute, so that they can be read"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def rooms_imported(file: Path) -> set[str]:
    """Rooms of this package that a file imports."""
    own = [name.split(".")[1] for name in imports(file) if name.startswith("moe_lightning.")]
    return {name for name in own if name != "__version__"}


def test_the_checks_see_imports_inside_functions(tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    file.write_text("import a.b\nfrom c import d\n\ndef f():\n    from e.g import h\n")
    assert list(imports(file)) == ["a.b", "c.d", "e.g.h"]


def test_every_room_has_its_place() -> None:
    assert {room_of(file) for file in source_files(SOURCE)} == {*ORDER, *ON_TOP, *ENTRANCES}


@pytest.mark.parametrize("room", [*ORDER, *ON_TOP])
def test_imports_go_down_only(room: str) -> None:
    allowed = {room, *(ORDER[: ORDER.index(room)] if room in ORDER else ORDER)}
    for file in source_files(SOURCE):
        if room_of(file) == room:
            assert rooms_imported(file) <= allowed, f"{file.relative_to(ROOT)} imports a room above or beside its own"


@pytest.mark.parametrize(
    ("library", "places"),
    [
        ("transformers", ("models/backbones", "data/normaliser.py")),
        ("peft", ("models/checkpoint.py",)),
        ("lhotse", ("corpus",)),
    ],
)
def test_a_big_library_is_imported_in_its_place_alone(library: str, places: tuple[str, ...]) -> None:
    found = [file for file in source_files(SOURCE) if any(name.split(".")[0] == library for name in imports(file))]
    assert found
    assert [file for file in found if not any(file.is_relative_to(SOURCE / place) for place in places)] == []


def test_models_know_neither_lightning_nor_a_run() -> None:
    for file in source_files(SOURCE / "models"):
        assert not any(name.split(".")[0] == "lightning" for name in imports(file)), file


@pytest.mark.parametrize("stage", STAGES)
def test_module_and_data_of_a_stage_never_import_each_other(stage: str) -> None:
    for one, other in (("module", "data"), ("data", "module")):
        file = SOURCE / stage / f"{one}.py"
        if file.exists():
            assert not any(name.startswith(f"moe_lightning.{stage}.{other}.") for name in imports(file))


def test_nothing_imports_the_callbacks() -> None:
    assert not any(
        name.startswith(("callbacks", "moe_lightning.callbacks"))
        for file in source_files(SOURCE)
        for name in imports(file)
    )


def test_clustering_imports_no_torch() -> None:
    for file in source_files(SOURCE / "clustering"):
        assert not {name.split(".")[0] for name in imports(file)} & set(HEAVY), file


LIGHT = [
    "moe_lightning.run.pipeline",
    "moe_lightning.run.record",
    "moe_lightning.data.embedding_store",
    "moe_lightning.data.soft_labels",
    "moe_lightning.clustering.__main__",
    "moe_lightning.clustering.stage",
    *(f"moe_lightning.settings.{file.stem}" for file in source_files(SOURCE / "settings")),
]


@pytest.mark.parametrize("module", LIGHT)
def test_a_process_that_imports_it_has_no_torch(module: str) -> None:
    script = f"import sys, {module}; print(*sorted({set(HEAVY)!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
