"""Every module of the package is imported, each library that it needs with it."""

import pkgutil
import subprocess
import sys

import moe_lightning
import recipes
from tests.places import ROOT

MODULES = [
    module.name
    for package in (moe_lightning, recipes)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]


def test_every_module_is_imported() -> None:
    assert len(MODULES) > 200
    script = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", script, *MODULES], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
