"""Pages out of hostile corpora: no text becomes markup, and a browser runs no script but the page's own."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape

from moe_lightning.clustering.__main__ import main as cluster
from moe_lightning.corpus.checking.command import check_corpus, save_report
from moe_lightning.data.manifest import write_manifest
from moe_lightning.data.utterance import Utterance
from moe_lightning.evaluation.report.page import page as evaluation_page
from moe_lightning.reports.pages import content_policy
from moe_lightning.run.folder import RunDir
from tests.corpora import write_audio, write_rows
from tests.stages.evaluation import test_report
from tests.unit.clustering.conftest import SPLIT_OF, blobs, write_store

TAKEN_OVER = "document.title='taken-over'"
PAYLOADS = (
    f"<script>{TAKEN_OVER}</script>",
    f"</script><script>{TAKEN_OVER}</script>",
    f"</style></title></textarea><script>{TAKEN_OVER}</script>",
    f"--><script>{TAKEN_OVER}</script><!--",
    f'"><img src=x onerror="{TAKEN_OVER}">',
    f"'><svg onload={TAKEN_OVER}>",
    f'" onmouseover="{TAKEN_OVER}" autofocus onfocus="{TAKEN_OVER}',
    f"<iframe srcdoc='<script>parent.{TAKEN_OVER}</script>'>",
    f"javascript:{TAKEN_OVER}",
    "<!--<script>",
    "]]><base href='https://elsewhere.example/'>",
)
EVIL = " ".join(PAYLOADS)


class Markup(HTMLParser):
    """Elements of a page and names of their attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.scripts = 0
        self.policy = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.scripts += tag == "script"
        if ("http-equiv", "Content-Security-Policy") in attrs:
            self.policy = dict(attrs)["content"] or ""


def cluster_page(folder: Path) -> str:
    """Of a run whose ids, speakers, fields, values and transcripts are all hostile."""
    embeddings_ND, groups_N = blobs(60, 3)
    run = RunDir(folder / "run")
    write_store(run.embedding_dir("nano"), embeddings_ND)
    audio_file = write_audio(folder / f"{'x' * 20}.wav", 0.5)
    utterances = [
        Utterance(f"u{row:04d}", audio_file, 0.0, 0.5, EVIL, f"{EVIL}{row % 7}", {EVIL: f"{EVIL}{groups_N[row]}"})
        for row in range(60)
    ]
    for split in ("train", "dev", "test"):
        own = [one for row, one in enumerate(utterances) if SPLIT_OF[row % 5] == split]
        write_manifest(own, run.manifest_file(split))
    flags = ["--algorithm", "spectral", "--num-experts", "3", "--plot", "none"]
    store, output = str(run.embedding_dir("nano")), str(run.stage_dir("clustering"))
    cluster(["--embedding-dir", store, "--output-dir", output, *flags])
    return run.cluster_report_file.read_text(encoding="utf-8")


def check_page(folder: Path) -> str:
    """Of a corpus whose names are hostile too, those of its files among them."""
    corpus_dir = folder / "<img src=x onerror=alert(1)>"
    rows = []
    for number in range(12):
        name = f"{number}'><img src=x onerror=alert(1)>.wav"
        write_audio(corpus_dir / name, 0.3)
        rows.append({"audio_filepath": name, "text": EVIL, "speaker": EVIL, "id": f"{number}{EVIL}", EVIL: EVIL})
    write_rows(corpus_dir / "train.jsonl", [*rows, {**rows[0], "audio_filepath": f"{PAYLOADS[0]}.wav"}])
    save_report(check_corpus(corpus_dir), corpus_dir.name, folder)
    return (folder / "report.html").read_text(encoding="utf-8")


def report_page(folder: Path) -> str:
    """Of an evaluation in which every name and text is hostile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_report, "EVIL", EVIL)
        return evaluation_page(*test_report.evil_results(num_systems=3))


PAGES: dict[str, tuple[Callable[[Path], str], int]] = {
    "clusters": (cluster_page, 2),
    "corpus check": (check_page, 0),
    "report": (report_page, 0),
}
"""Each page, and how many script elements are its own."""


@pytest.fixture(scope="module", params=PAGES)
def hostile(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int]:
    make, num_scripts = PAGES[request.param]
    return make(tmp_path_factory.mktemp("page")), num_scripts


def test_no_text_becomes_markup(hostile: tuple[str, int]) -> None:
    text, num_scripts = hostile
    markup = Markup(text)
    assert markup.scripts == num_scripts
    assert not markup.tags & {"iframe", "base", "textarea", "object", "embed", "form"}
    assert not [name for name in markup.attributes if name.startswith("on")]
    assert escape(PAYLOADS[0]) in text


def test_a_page_forbids_scripts_that_are_not_its_own_and_loads_nothing(hostile: tuple[str, int]) -> None:
    text, num_scripts = hostile
    policy = Markup(text).policy
    assert "default-src 'none'" in policy
    assert ("script-src 'sha256-" if num_scripts else "script-src 'none'") in policy
    assert "http" not in policy
    assert text.index("Content-Security-Policy") < text.index("<title")


# in a browser


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_a_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")


def rendered(text: str, folder: Path) -> str:
    """The document that a browser has made of a page, after its scripts have run."""
    (folder / "page.html").write_text(text, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    command = [str(BROWSER), *flags, f"--user-data-dir={folder / 'profile'}", (folder / "page.html").as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def title(dom: str) -> str:
    """What the page is called after its scripts have run."""
    return re.search(r"<title>(.*?)</title>", dom, re.DOTALL)[1]  # type: ignore[index]


@in_a_browser
def test_these_payloads_do_take_over_a_page_that_lets_them(tmp_path: Path) -> None:
    for number, payload in enumerate((PAYLOADS[0], PAYLOADS[4], PAYLOADS[5])):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert title(rendered(f"<!doctype html><title>ours</title><p>{payload}", folder)) == "taken-over"


@in_a_browser
def test_the_policy_stops_what_has_become_markup_and_lets_our_script_run(tmp_path: Path) -> None:
    script = "document.body.id = 'ran'"
    body = "\n".join(["<p>", *PAYLOADS[:1], *PAYLOADS[4:6]])
    page = f"<!doctype html>{content_policy(script)}<title>ours</title><body>{body}<script>{script}</script></body>"
    dom = rendered(page, tmp_path)
    assert title(dom) == "ours"
    assert '<body id="ran">' in dom


@in_a_browser
def test_a_page_without_its_policy_is_not_taken_over_either(hostile: tuple[str, int], tmp_path: Path) -> None:
    text, num_scripts = hostile
    bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    assert "Content-Security-Policy" not in bare
    dom = rendered(bare, tmp_path)
    assert title(dom) != "taken-over"
    if num_scripts:  # and its own script does run under the policy
        assert '<div id="legend"></div>' in text
        assert '<div id="legend"></div>' not in rendered(text, tmp_path)


def test_the_data_of_the_scatter_is_json_in_which_no_element_ends(tmp_path: Path) -> None:
    text = cluster_page(tmp_path)
    data = re.search(r'id="points">(.*?)</script>', text, re.DOTALL)[1]  # type: ignore[index]
    assert "<" not in data
    assert set(json.loads(data)["texts"]) == {EVIL}
    assert np.isfinite(json.loads(data)["x"]).all()
