"""The page and the model card: whole, from one file, with nothing of the corpus becoming markup."""

import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from lightning.pytorch.loggers import TensorBoardLogger
from markupsafe import escape

from moe_lightning.data.utterance import Utterance
from moe_lightning.errors import InputError
from moe_lightning.evaluation.alignment import align
from moe_lightning.evaluation.report.examples import Example
from moe_lightning.evaluation.report.model_card import model_card
from moe_lightning.evaluation.report.page import RunFacts, page
from moe_lightning.evaluation.systems import score_systems
from moe_lightning.evaluation.usage import expert_usage
from moe_lightning.evaluation.verdict import judge
from moe_lightning.reports import clips
from moe_lightning.reports.charts import Bar, Dots, alignment_html, bars, dot_plot, line_chart
from moe_lightning.reports.clips import audio_clips
from moe_lightning.reports.curves import MOST_POINTS, Chart, Curve, read_curves, training_charts
from moe_lightning.reports.results import Decoding, Environment, Results, StageFacts, Usage
from moe_lightning.run.folder import RunDir
from moe_lightning.settings.evaluation import ScoreSettings
from tests.places import ROOT
from tests.unit.evaluation.made_up import utterance

EVIL = '</style></script><script>alert("x")</script>'


class Page(HTMLParser):
    """Elements of a page, and what it would load."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def evil_results(num_systems: int = 2) -> tuple[Results, RunFacts]:
    """Every name and text of the corpus and of the systems is hostile."""
    utterances = [
        utterance(number, f"one two three {EVIL}", speaker=f"{EVIL}{number % 3}", **{EVIL: f"{EVIL}{number % 2}"})
        for number in range(12)
    ]
    names = ["mixture", "backbone", *(f"{EVIL} {number}" for number in range(num_systems - 2))]
    systems = {
        name: {one.id: f"one {EVIL}" if number else f"one two three {EVIL}" for one in utterances}
        for number, name in enumerate(names)
    }
    settings = ScoreSettings(num_resamples=200)
    results = score_systems(utterances, systems, [("mixture", name) for name in names[1:]], settings=settings)
    gates = {one.id: [0.75, 0.25] for one in utterances}
    field = {one.id: str(one.fields[EVIL]) for one in utterances}
    cost = {"parameters": 10, "trained_parameters": 5, "seconds": 1.0, "real_time_factor": 0.1}
    results = replace(
        results,
        systems={name: replace(one, **cost) for name, one in results.systems.items()},
        split="test",
        experts=expert_usage(gates, {EVIL: field}),
        decoding=Decoding(EVIL, num_threads=1, audio_seconds=12.0, memory_bytes=1),
        environment=Environment(
            versions={"python": EVIL},
            machine={"processor": EVIL},
            seed=1,
            stages={"moe": StageFacts(started=EVIL, seconds=None, version="1", settings={EVIL: EVIL})},
        ),
    )
    results = replace(results, verdict=judge(results))
    examples = {
        one.id: Example(
            reference=one.text,
            known=EVIL,
            alignments={name: align(one.text, systems[name][one.id]) for name in names[:2]},
            clip="data:audio/mpeg;base64,AAAA" if one.id == "u000" else None,
        )
        for one in utterances
    }
    chart = Chart(EVIL, [Curve(EVIL, [0, 10], [1.0, 0.5])])
    facts = RunFacts(examples, {EVIL: [chart]}, {"verdict": EVIL}, b"\x89PNG", "../clustered/report.html")
    return results, facts


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results, _ = evil_results(num_systems=3)
    results.save(tmp_path / "results.json")
    again = Results.load(tmp_path / "results.json")
    assert again.headline.groups == results.headline.groups
    assert again.systems["backbone"].interval == results.systems["backbone"].interval
    assert again.experts == results.experts
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "results.json").read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        ('"utterances": 12,', '"utterances": "12",', "utterances"),
        ('"metric": {', '"metric": 5, "x": {', "results.json, metric"),
    ],
)
def test_broken_results_are_refused_by_the_name_of_what_is_wrong(
    old: str, new: str, value: str, tmp_path: Path
) -> None:
    file = tmp_path / "results.json"
    evil_results()[0].save(file)
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(InputError) as refused:
        Results.load(file)
    assert (refused.value.code, refused.value.value) == ("file.malformed", file)
    assert value in str(refused.value)
    assert "--rescore" in str(refused.value)


def test_results_without_a_comparison_have_no_headline() -> None:
    utterances = [utterance(number, "a") for number in range(3)]
    with pytest.raises(ValueError, match="not compared"):
        _ = score_systems(utterances, {"x": {one.id: "a" for one in utterances}}).headline


def test_nothing_of_the_corpus_becomes_markup() -> None:
    parsed = Page(page(*evil_results()))
    assert "script" not in parsed.tags
    assert parsed.tags.count("style") == 1
    assert any(EVIL in text for text in parsed.texts)


def test_the_page_loads_nothing_from_elsewhere() -> None:
    parsed = Page(page(*evil_results()))
    assert all(address.startswith("data:") or address == "../clustered/report.html" for address in parsed.addresses)
    assert parsed.tags.count("audio") == 1
    assert not {"link", "iframe", "script"} & set(parsed.tags)


def test_every_system_is_a_bar_and_every_comparison_a_row() -> None:
    results, facts = evil_results(num_systems=5)
    parsed = Page(page(results, facts))
    said = [text.strip() for text in parsed.texts]
    assert said.count("5 trained") == 5
    assert len([text for text in said if text.startswith(EVIL) and text.endswith((" 0", " 1", " 2"))]) >= 3 * 3


def test_the_headline_comes_first() -> None:
    results, facts = evil_results()
    parsed = Page(page(results, facts))
    body = parsed.texts[parsed.texts.index("Does the mixture help?") :]
    assert next(text for text in body[1:] if text.strip()) == results.judged.sentence


def test_a_run_without_curves_clusters_and_recordings_has_a_page_without_them() -> None:
    results, facts = evil_results()
    bare = facts._replace(examples={}, charts={}, cluster_report=None, cluster_picture=None)
    text = page(replace(results, experts=Usage(), decoding=None), bare)
    assert "<h2>Systems" in text
    assert not any(f"<h2>{name}" in text for name in ("Training", "Clusters", "Routing"))
    assert "audio" not in Page(text).tags


def test_the_model_card_is_markdown_with_front_matter_that_yaml_reads() -> None:
    results, _ = evil_results()
    card = model_card(results, "v2", ["en", "fr"], EVIL)
    _, front, body = card.split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["language"] == ["en", "fr"]
    assert (facts["base_model"], facts["base_model_relation"]) == ("openai/whisper-large-v2", "adapter")
    assert "license" not in facts
    licensed = model_card(results, "v2", ["en"], EVIL, "cc-by-4.0")
    assert yaml.safe_load(licensed.split("---\n", 2)[1])["license"] == "cc-by-4.0"
    (entry,) = facts["model-index"]
    wer, cer = entry["results"][0]["metrics"]
    assert (wer["type"], wer["value"]) == ("wer", round(100 * results.systems["mixture"].wer, 2))
    assert cer["type"] == "cer"
    assert "<script" not in body
    assert results.judged.sentence.split(":")[0] in body


@pytest.mark.parametrize("model", ["nano", "/models/mine", "one/two/three"])
def test_a_model_that_is_not_of_the_hub_is_no_base_model(model: str) -> None:
    card = model_card(evil_results()[0], model, ["en"], "demo")
    assert "base_model" not in yaml.safe_load(card.split("---\n", 2)[1])


# figures


def test_a_bar_is_as_long_as_its_rate_and_carries_its_interval() -> None:
    drawn = bars([Bar("a", 0.2, (0.1, 0.3)), Bar("b", 0.4, None)])
    assert 'class="fill" style="width:50.00%"' in drawn
    assert 'class="fill" style="width:100.00%"' in drawn
    assert drawn.count("whisker") == 1
    assert 'class="whisker" style="left:25.00%;width:50.00%"' in drawn


def test_seeds_are_dots_on_their_bar_and_a_third_system_is_a_diamond() -> None:
    assert bars([Bar("a", 0.2, None, points=(0.1, 0.4))]).count("<b style=") == 2
    drawn = dot_plot([Dots("a", 0.1, 0.2, None, other=0.4)])
    assert 'class="diamond" style="left:100.00%"' in drawn


def test_a_ladder_names_its_systems_and_shows_the_bare_backbone_first() -> None:
    results, facts = evil_results(num_systems=3)
    other = next(name for name in results.systems if name.startswith(EVIL))
    scores = replace(results.systems[other], label="one LoRA", rate_by_seed=[0.1, 0.2])
    results = replace(
        results,
        comparisons=dict(reversed(results.comparisons.items())),
        systems={**results.systems, other: scores},
        seeds=[1, 2],
    )
    text = page(results, facts)
    assert "empty dot is the bare backbone, the full one the mixture with its interval, the diamond one LoRA" in text
    assert "All 2 seeds together" in text
    first = next(iter(next(iter(results.systems["backbone"].groups.values())).values()))
    assert f"{first.utterances // 2} utterances, {first.speakers} speakers" in text  # each seed heard the same
    assert "fewer errors than one LoRA" in text
    assert 'class="diamond"' in text


def test_a_group_that_got_worse_is_marked() -> None:
    drawn = dot_plot([Dots("a", 0.1, 0.2, None), Dots("b", 0.2, 0.1, (0.0, 0.9))])
    assert drawn.count("row worse") == 1
    assert 'class="whisker" style="left:0.00%;width:100.00%"' in drawn  # cut at the axis


@pytest.mark.parametrize("values", [[0.0, 0.0], [1.0], [1e-9, 2e-9], [-3.0, 5.0], [0.97, 0.98], [1e6, 2.0]])
def test_a_curve_of_any_values_stays_within_its_chart(values: list[float]) -> None:
    drawn = line_chart(Chart("loss", [Curve("x", list(range(len(values))), values)]))
    points = drawn.partition('points="')[2].partition('"')[0].split()
    places = [tuple(map(float, point.split(","))) for point in points]
    assert len(places) == len(values)
    assert all(0 <= x <= 340 and 0 <= y <= 190 for x, y in places)
    assert "nan" not in drawn


def test_words_of_an_alignment_are_marked_by_what_is_wrong_with_them() -> None:
    html = alignment_html(align("a b c", "a x c d"))
    assert html == ('<span>a</span> <span class="S">x<small>b</small></span> <span>c</span> <span class="I">d</span>')
    assert '<span class="D">b</span>' in alignment_html(align("a b", "a"))


# what is read of the run


def test_scoring_and_reporting_need_no_torch() -> None:
    script = "import sys, moe_lightning.evaluation.evaluate; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


def test_curves_are_what_was_logged_also_where_a_training_was_resumed(tmp_path: Path) -> None:
    for first in (0, 3):
        logger = TensorBoardLogger(tmp_path, name="moe", version="")
        for step in range(first, first + 5):
            logger.log_metrics({"val/wer": first + step / 10, "odd": float("nan")}, step=step)
        logger.finalize("success")
    curves = read_curves(tmp_path / "moe")
    assert curves["val/wer"].steps == list(range(8))
    assert curves["val/wer"].values == pytest.approx([0.0, 0.1, 0.2, 3.3, 3.4, 3.5, 3.6, 3.7])
    assert "odd" not in curves


def test_a_long_curve_is_thinned_and_keeps_its_end(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="moe", version="")
    for step in range(1000):
        logger.log_metrics({"train/loss": float(step)}, step=step)
    logger.finalize("success")
    curve = read_curves(tmp_path / "moe")["train/loss"]
    assert len(curve.steps) <= MOST_POINTS
    assert curve.steps[-1] == 999


def test_learning_rates_are_drawn_whatever_the_optimizer_is_called(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    logger = TensorBoardLogger(run.tensorboard_dir, name="moe", version="")
    rates = [f"lr-ExpertAdamW/pg{number}" for number in range(1, 5)]
    for step in range(3):
        logger.log_metrics(dict.fromkeys([*rates, "lr-ExpertAdamW/pg1-momentum"], 1e-4), step=step)
    logger.finalize("success")
    (chart,) = training_charts(run)["moe"]
    assert [curve.name for curve in chart.curves] == rates
    assert line_chart(chart).count("<polyline") == 4


def test_clips_are_recordings_as_mp3_as_many_as_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    utterances = []
    for number in range(3):
        file = tmp_path / f"{number}.wav"
        soundfile.write(file, 0.1 * np.sin(np.arange(16_000)), 16_000)
        utterances.append(Utterance(f"u{number}", file, 0.0, 1.0, "a", "s"))
    (tmp_path / "1.wav").unlink()
    found = audio_clips(utterances)
    assert list(found) == ["u0", "u2"]
    assert all(address.startswith("data:audio/mpeg;base64,") for address in found.values())
    monkeypatch.setattr(clips, "MAX_BYTES", len(found["u0"]))
    assert list(audio_clips(utterances)) == ["u0"]


@pytest.mark.parametrize("stage", ["gating", "experts", "moe"])
def test_a_training_of_a_few_steps_has_its_curve_too(stage: str, evaluated_run: RunDir) -> None:
    curve = read_curves(evaluated_run.tensorboard_dir / stage)["train/loss"]
    assert len(curve.steps) >= (2 if stage == "gating" else 5), "as many as there were steps"


def test_a_run_that_was_trained_has_page_and_card(evaluated_run: RunDir) -> None:
    text = evaluated_run.report().page_file.read_text()
    headings = ("Systems", "Groups", "Routing", "Clusters", "Training", "Examples", "Cost", "Settings and environment")
    places = [text.index(f"<h2>{heading}") for heading in headings]
    assert places == sorted(places)
    results = Results.load(evaluated_run.results_file)
    assert f"{100 * results.systems['mixture'].rate:.1f} %" in text
    assert escape(results.normaliser.name) in text
    assert yaml.safe_load(evaluated_run.report().model_card_file.read_text().split("---\n", 2)[1])["library_name"]
