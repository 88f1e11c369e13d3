"""Pages of the site that lie elsewhere in the checkout, with their links led to the site's own pages."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "index.md": "README.md",
    "results.md": "RESULTS.md",
    "reliability.md": "RELIABILITY.md",
    "benchmarks.md": "benchmarks/README.md",
    "recipes.md": "recipes/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
"""Page of the site -> file of the checkout."""
FILES = (
    "benchmarks/clustering_growth.png",
    "benchmarks/mixture_cost.png",
    "examples/from_recordings_to_report.ipynb",
)
"""Pictures and a notebook that pages lead to."""


def on_files(files: Any, config: Any) -> Any:
    """Add the pages and files from outside of docs/."""
    for page, source in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for name in FILES:
        files.append(File.generated(config, posixpath.basename(name), abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links between files of the checkout to pages of the site."""
    source = ELSEWHERE.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return re.sub(r"\]\(([^)#\s]+)(#[^)]*)?\)", lambda link: _led(link, source), markdown)


def _led(link: "re.Match[str]", source: str) -> str:
    target, anchor = link[1], link[2] or ""
    if "://" in target:
        return link[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    pages = {file: page for page, file in ELSEWHERE.items()}
    name = pages.get(path) or posixpath.basename(path)
    return f"]({name}{anchor})"
