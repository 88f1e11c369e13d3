"""README and docs are true: their commands run, their flags exist, their links lead somewhere."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from moe_lightning import __version__
from moe_lightning.clustering.predict import build_parser as predict_parser
from moe_lightning.corpus.__main__ import main as corpus
from moe_lightning.evaluation.ladder.__main__ import parser as ladder_parser
from moe_lightning.run.pipeline import main as pipeline
from moe_lightning.run.verify import parser as verify_parser
from moe_lightning.settings.clustering import parser as clustering_parser
from moe_lightning.settings.corpus import parser as corpus_parser
from moe_lightning.settings.embedding import parser as embedding_parser
from moe_lightning.settings.evaluation import parser as evaluate_parser
from moe_lightning.settings.expert_changes import parser as experts_parser
from moe_lightning.settings.guide import parse as parse_pipeline
from moe_lightning.settings.transcription import parser as transcribe_parser
from tests.places import ROOT

PAGES = {page: page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
BLOCKS = [block for text in PAGES.values() for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)]
LINES = [line.partition("  #")[0].strip() for block in BLOCKS for line in block.splitlines()]
COMMANDS = sorted({line.removeprefix("srun ") for line in LINES if line and not line.startswith("#")})


def starting_with(*words: str) -> list[str]:
    return [line for line in COMMANDS if line.removeprefix(".venv/bin/").startswith(words)]


def arguments(line: str, skip: int) -> list[str]:
    return shlex.split(line)[skip:]


def test_every_command_of_the_documents_is_tested_here() -> None:
    tested = starting_with(
        "make ",
        "python3 -m venv",
        "pip install",
        "moe-lightning pipeline",
        "moe-lightning transcribe",
        "moe-lightning experts",
        "moe-lightning corpus check",
        "moe-lightning corpus import",
        "moe-lightning corpus --",
        "moe-lightning embed",
        "moe-lightning cluster --",
        "moe-lightning cluster predict",
        "moe-lightning evaluate",
        "moe-lightning ladder",
        "moe-lightning verify",
        "python -m moe_lightning.",
        "tensorboard",
    )
    assert COMMANDS
    assert sorted(tested) == COMMANDS


@pytest.mark.parametrize("line", starting_with("make "))
def test_make_knows_the_target(line: str) -> None:
    done = subprocess.run(["make", "-n", *arguments(line, 1)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pip install" in done.stdout or (ROOT / ".venv" / "installed").exists()


def test_make_installs_anew_where_the_lock_has_changed() -> None:
    shown = subprocess.run(
        ["make", "-n", "-W", "constraints.txt", "install"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "pip install" in shown.stdout


@pytest.mark.parametrize("line", starting_with("pip install"))
def test_make_installs_as_the_plain_lines_do(line: str) -> None:
    assert shlex.split(line)[2:] == ["-c", "constraints.txt", "-e", ".[demo,dev]"]
    shown = subprocess.run(["make", "-nB", "install"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "PIP_CONSTRAINT=constraints.txt" in shown
    assert "--editable '.[demo,dev]'" in shown


@pytest.mark.parametrize("line", starting_with("moe-lightning pipeline"))
def test_the_pipeline_takes_the_flags(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline([*arguments(line, 2), "--dry-run"])
    assert capsys.readouterr().out.count("python -m moe_lightning.") == 7


PARSERS = {
    "moe-lightning transcribe": transcribe_parser,
    "moe-lightning experts": experts_parser,
    "moe-lightning evaluate": evaluate_parser,
    "moe-lightning verify": verify_parser,
    "moe-lightning corpus --": corpus_parser,
    "moe-lightning embed": embedding_parser,
    "moe-lightning cluster --": clustering_parser,
    "moe-lightning cluster predict": predict_parser,
}


@pytest.mark.parametrize(("start", "line"), [(start, line) for start in PARSERS for line in starting_with(start)])
def test_a_command_takes_its_arguments(start: str, line: str) -> None:
    num_words = len(start.removesuffix(" --").split())
    assert vars(PARSERS[start]().parse(arguments(line, num_words)))


@pytest.mark.parametrize("line", starting_with("moe-lightning ladder"))
def test_the_ladder_takes_its_flags_and_the_pipelines(line: str) -> None:
    own, flags = ladder_parser().parse_known_args(arguments(line, 2))
    assert own.seeds >= 1
    assert parse_pipeline(flags).run_dir


@pytest.mark.parametrize("line", starting_with("moe-lightning corpus check"))
def test_corpus_check_takes_the_arguments(line: str, tiny_corpus: Path, tmp_path: Path) -> None:
    corpus([*arguments(line.replace("path/to/corpus", str(tiny_corpus)), 2), "--output-dir", str(tmp_path)])
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize("line", starting_with("moe-lightning corpus import"))
def test_what_corpus_import_writes_is_a_dataset_root(line: str, tiny_corpus: Path, tmp_path: Path) -> None:
    manifests = tmp_path / "manifests"
    line = line.replace("path/to/corpus", str(tiny_corpus)).replace("path/to/manifests", str(manifests))
    corpus(arguments(line, 2))
    corpus(["--dataset-root", str(manifests), "--allow-outside-root", "--run-dir", str(tmp_path / "run")])
    assert (tmp_path / "run" / "corpus" / "train.jsonl.gz").exists()


@pytest.mark.parametrize("line", starting_with("python -m moe_lightning."))
def test_a_stages_command_takes_the_flags(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    name = shlex.split(line)[2]
    if name.endswith("clustering"):
        assert clustering_parser().parse(arguments(line, 3)).embedding_dir
        return
    module = importlib.import_module(f"{name}.__main__")
    with pytest.raises(SystemExit) as ended:
        module.main([*arguments(line, 3), "--print_config"])
    assert ended.value.code == 0
    assert "max_epochs" in capsys.readouterr().out


@pytest.mark.parametrize("page", ["settings.md", "errors.md"])
def test_the_tables_of_the_documents_are_those_of_the_declarations(page: str) -> None:
    done = subprocess.run([sys.executable, "docs/tables.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert PAGES[ROOT / "docs" / page] == (ROOT / "docs" / page).read_text(), "run it, and commit"


ROOMS = ("moe_lightning/models", "moe_lightning/run", "moe_lightning/settings", "tests")
OTHERS = ("RESULTS.md", "RELIABILITY.md", "CONTRIBUTING.md", "recipes/README.md", "benchmarks/README.md")


@pytest.mark.parametrize("page", [*PAGES, *(ROOT / name for name in OTHERS)])
def test_links_and_pictures_lead_to_what_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    for link in (link for link in links if "://" not in link):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as they are written in links to it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_citation_names_this_version() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__


def test_the_readme_leads_to_every_page() -> None:
    links = set(re.findall(r"\]\((docs/[^)#]+\.md)", PAGES[ROOT / "README.md"]))
    assert links == {page.relative_to(ROOT).as_posix() for page in PAGES} - {"README.md"}


def test_every_name_of_the_file_tree_is_there() -> None:
    tree = PAGES[ROOT / "docs" / "architecture.md"].partition("```\n")[2].partition("```")[0]
    folders = [name for name in re.findall(r"^\s*(\w+)/", tree, flags=re.MULTILINE) if name]
    files = re.findall(r"\w+\.py\b", tree)
    assert len(folders) > 10
    for name in [*folders, *files]:
        assert any((ROOT / room / name).exists() for room in ("", "moe_lightning", *ROOMS)), name
