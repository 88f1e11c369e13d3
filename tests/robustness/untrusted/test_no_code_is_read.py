"""The source itself: nothing in the package takes a program for data."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_rooms import ROOT, source_files

PACKAGES = (ROOT / "moe_lightning", ROOT / "callbacks", ROOT / "benchmarks")
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "pandas"}
ALLOWED = {("pickle", "UnpicklingError")}
"""What PyTorch raises when it refuses one."""
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}
LOADS_YAML = {"load", "load_all", "full_load", "unsafe_load", "full_load_all", "unsafe_load_all"}


def dotted(node: ast.expr) -> str:
    """``np.load`` of the expression, "" where it is no name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def says(call: ast.Call, name: str, value: object) -> bool:
    """Whether a call has this keyword with this constant."""
    return any(
        one.arg == name and isinstance(one.value, ast.Constant) and one.value.value is value for one in call.keywords
    )


def faults_of_call(call: ast.Call) -> Iterator[str]:
    name = dotted(call.func)
    head, _, last = name.rpartition(".")
    if name in RUNS_TEXT:
        yield f"{name}() runs text"
    if name == "torch.load" and not says(call, "weights_only", True):
        yield "torch.load without weights_only=True"
    if last == "load" and head in ("np", "numpy") and not says(call, "allow_pickle", False):
        yield "np.load without allow_pickle=False"
    if head == "yaml" and last in LOADS_YAML:
        yield f"{name} builds objects; safe_load does not"
    if last == "load_from_checkpoint":
        yield "load_from_checkpoint imports the classes that a file names"
    if name == "os.system" or says(call, "shell", True):
        yield "a shell"
    given = {one.arg for one in call.keywords}
    if "trust_remote_code" in given and not says(call, "trust_remote_code", False):
        yield "trust_remote_code"
    if "allow_pickle" in given and not says(call, "allow_pickle", False):
        yield "allow_pickle"
    loads_model = last == "from_pretrained" and ("dtype" in given or "attn_implementation" in given)
    if loads_model and not says(call, "use_safetensors", True):
        yield "a model of from_pretrained without use_safetensors=True"


def faults(source: str) -> list[str]:
    """What a module does that a file from elsewhere could turn into running its code."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [f"import {alias.name}" for alias in node.names if alias.name.partition(".")[0] in PICKLES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PICKLES:
            found += [f"from {node.module}" for a in node.names if (node.module, a.name) not in ALLOWED]
        elif isinstance(node, ast.Call):
            found += faults_of_call(node)
    return found


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "from pickle import loads",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file)",
        "np.load(file, allow_pickle=True)",
        "yaml.load(text, Loader)",
        "eval(text)",
        "exec(text)",
        "AutoConfig.from_pretrained(name, trust_remote_code=trust)",
        "Model.from_pretrained(name, dtype='float32')",
        "Module.load_from_checkpoint(file)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
    ],
)
def test_the_check_sees_what_it_looks_for(line: str) -> None:
    assert faults(line)


@pytest.mark.parametrize(
    "line", ["model.eval()", "torch.load(f, weights_only=True)", "np.load(f, allow_pickle=False)", "re.compile('a')"]
)
def test_the_check_lets_plain_reading_pass(line: str) -> None:
    assert faults(line) == []


def test_nothing_in_the_package_unpickles_or_runs_what_it_reads() -> None:
    files: list[Path] = [file for package in PACKAGES for file in source_files(package)]
    assert {file: found for file in files if (found := faults(file.read_text(encoding="utf-8")))} == {}
