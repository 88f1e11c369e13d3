"""`make lock`: write constraints.txt, the version of every package of every extra, as pip resolves the bounds today.

Python 3.11, the oldest that is supported, decides the versions; 3.12 and 3.13, where this machine has them, add the
packages that they alone need. Nothing is installed.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
HEADER = """\
# Every package of every extra, and of the build, at the version that is tested. `make lock` makes it anew.
# pip install -c constraints.txt -e '.[demo,dev]'
"""
PYTHONS = ("python3.11", "python3.12", "python3.13")
EDITABLE = "editables"
"""Package that hatchling asks for while it builds an editable install."""


def main() -> None:
    """Resolve for each Python, write the file."""
    pythons = [python for python in PYTHONS if runs(python)]
    if pythons[:1] != [PYTHONS[0]]:
        sys.exit(f"error: `make lock` needs {PYTHONS[0]}: newer ones take versions that it cannot run")
    pins: dict[str, str] = {}
    for python in pythons:
        pins |= resolve(python, lines(pins))
    CONSTRAINTS.write_text(HEADER + "".join(lines(pins)), encoding="utf-8")
    print(f"{CONSTRAINTS.name}: {len(pins)} packages, for {', '.join(pythons)}")


def runs(python: str) -> bool:
    """True where the command is there and starts a Python; pyenv has commands of Pythons that are switched off."""
    return bool(shutil.which(python)) and not subprocess.run([python, "-c", ""], capture_output=True).returncode


def resolve(python: str, pins: list[str]) -> dict[str, str]:
    """Name and version of every package that pip would install for a Python beside these pins."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [f".[{','.join(project['project']['optional-dependencies'])}]"]
    wanted += [*project["build-system"]["requires"], EDITABLE]
    held = [*project["tool"]["moe_lightning"]["lock"]["hold"], *pins]
    with tempfile.TemporaryDirectory() as folder:
        report, constraints = Path(folder) / "report.json", Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(held), encoding="utf-8")
        subprocess.run([python, "-m", "venv", f"{folder}/venv"], check=True)
        pip = [f"{folder}/venv/bin/pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run([*pip, "--constraint", constraints, "--report", report, *wanted], cwd=ROOT, check=True)
        return pins_of(json.loads(report.read_text(encoding="utf-8")), project["project"]["name"])


def pins_of(report: dict, project: str) -> dict[str, str]:
    """Versions by name of pip's report, without the project; the build of a version (+cu130) is left to the index."""
    packages = [package["metadata"] for package in report["install"]]
    found = {package["name"]: package["version"].partition("+")[0] for package in packages}
    return {name: version for name, version in found.items() if name != project}


def lines(pins: dict[str, str]) -> list[str]:
    """The file's lines, by name."""
    return [f"{name}=={pins[name]}\n" for name in sorted(pins, key=str.lower)]


if __name__ == "__main__":
    main()
