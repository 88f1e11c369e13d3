"""Imports go down only, by reading the source; and what must stay light is light in a process of its own."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "moe_lightning"
STAGES = ("embedding", "clustering", "gating", "experts", "moe", "evaluation", "inference")
MAY_IMPORT = {
    "moe": (*(f"moe_lightning.gating.{name}" for name in ("model", "reading", "refit")), "moe_lightning.experts"),
    "evaluation": ("moe_lightning.moe",),
    "inference": ("moe_lightning.moe",),
}
"""The other stages that a stage is composed of."""
WITHOUT_TORCH = (
    "moe_lightning/run/pipeline.py",
    "moe_lightning/run/pipeline_check.py",
    "moe_lightning/settings/guide.py",
    "moe_lightning/run/folder.py",
    "moe_lightning/run/record.py",
    "moe_lightning/settings/comparison.py",
    "moe_lightning/data/soft_labels.py",
    "moe_lightning/data/embedding_store.py",
    "moe_lightning/errors.py",
    "moe_lightning/system/json_files.py",
)
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


def lies_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def importers(package: str, files: list[Path]) -> set[str]:
    """The files, relative to the checkout, that import a package or something of it."""
    return {
        file.relative_to(ROOT).as_posix() for file in files if any(lies_in(name, package) for name in imports(file))
    }


def test_the_checks_see_imports_inside_functions(tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    file.write_text("import a.b\nfrom c import d\n\ndef f():\n    from e.g import h\n")
    assert list(imports(file)) == ["a.b", "c.d", "e.g.h"]


@pytest.mark.parametrize(("library", "layer"), [("transformers", "backbone"), ("lhotse", "corpus")])
def test_one_layer_alone_imports_a_big_library(library: str, layer: str) -> None:
    found = importers(library, [*source_files(SOURCE), *source_files(ROOT / "callbacks")])
    assert found, f"{layer} imports {library}"
    assert {file for file in found if not file.startswith(f"moe_lightning/{layer}/")} == set()


@pytest.mark.parametrize("stage", STAGES)
def test_module_and_data_of_a_stage_never_import_each_other(stage: str) -> None:
    for one, other in (("module", "data"), ("data", "module")):
        file = SOURCE / stage / f"{one}.py"
        if file.exists():
            assert not importers(f"moe_lightning.{stage}.{other}", [file])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_other_stage_but_those_it_is_made_of(stage: str) -> None:
    others = [f"moe_lightning.{other}" for other in STAGES if other != stage]
    allowed = MAY_IMPORT.get(stage, ())
    for file in source_files(SOURCE / stage):
        for name in imports(file):
            is_other = any(lies_in(name, other) for other in others)
            assert not is_other or any(lies_in(name, package) for package in allowed), f"{file.name} imports {name}"


@pytest.mark.parametrize("layer", ["backbone", "corpus"])
def test_the_lowest_layers_import_no_stage(layer: str) -> None:
    found = [importers(f"moe_lightning.{stage}", source_files(SOURCE / layer)) for stage in STAGES]
    assert set().union(*found) == set()


def test_a_model_imports_neither_lightning_nor_a_module_above_it() -> None:
    models = [SOURCE / stage / "model.py" for stage in STAGES if (SOURCE / stage / "model.py").exists()]
    assert len(models) >= 3
    above = [
        "lightning",
        "moe_lightning.training.stage_cli",
        *(f"moe_lightning.{s}.{m}" for s in STAGES for m in ("module", "data")),
    ]
    assert set().union(*(importers(name, models) for name in above)) == set()


def test_nothing_imports_the_callbacks() -> None:
    assert importers("callbacks", source_files(SOURCE)) == set()


def test_only_commands_import_the_command_line() -> None:
    found = importers("moe_lightning.training.stage_cli", source_files(SOURCE))
    assert {Path(file).name for file in found} == {"__main__.py"}
    assert importers("moe_lightning.run.pipeline", source_files(SOURCE)) == set()


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_what_a_finished_run_is_asked_with_imports_nothing_heavy(name: str) -> None:
    assert {module for module in imports(ROOT / name) if module.split(".")[0] in HEAVY} == set()


def test_clustering_imports_no_torch() -> None:
    assert set().union(*(importers(name, source_files(SOURCE / "clustering")) for name in HEAVY)) == set()


@pytest.mark.parametrize(
    "module",
    ["moe_lightning.run.pipeline", "moe_lightning.clustering.__main__", "moe_lightning.clustering.stage"],
)
def test_a_process_that_imports_it_has_no_torch(module: str) -> None:
    script = f"import sys, {module}; print(*sorted({set(HEAVY)!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
