"""``moe-lightning corpus check DIR``: a table on the terminal, report.html and report.json."""

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from moe_lightning.corpus.channels import relations
from moe_lightning.corpus.checking.audio_checks import check_audio, measure_levels
from moe_lightning.corpus.checking.finding import Finding
from moe_lightning.corpus.checking.page import html_page
from moe_lightning.corpus.checking.split_checks import check_splits
from moe_lightning.corpus.checking.summary import CorpusSummary, summarise
from moe_lightning.corpus.checking.text_checks import check_texts
from moe_lightning.corpus.probe import probe_entries
from moe_lightning.corpus.readers import list_entries
from moe_lightning.corpus.readers.columns import Columns, parse_columns
from moe_lightning.corpus.readers.recognise import LAYOUTS
from moe_lightning.errors import InputError, printable
from moe_lightning.settings.command_line import CommandParser
from moe_lightning.system.atomic_file import write_text
from moe_lightning.system.json_files import write_json


@dataclass(frozen=True)
class CorpusReport:
    """Results of `moe-lightning corpus check`."""

    summary: CorpusSummary
    findings: list[Finding]

    @property
    def stops_training(self) -> bool:
        return any(finding.stops_training for finding in self.findings)


def check_corpus(
    root: Path,
    layout: str = "auto",
    allow_shared_speakers: bool = False,
    num_workers: int | None = None,
    count_tokens: Callable[[str], int] | None = None,
    allow_outside_root: bool = False,
    columns: Columns = (),
) -> CorpusReport:
    """Read a corpus with all its audio and look for anomalies.

    Raises:
        InputError: The corpus cannot be read at all.
    """
    with tempfile.TemporaryDirectory(prefix="corpus-check-") as folder:  # for recordings of archives and tables
        entries = list_entries(root, layout, Path(folder), columns=columns, allow_outside_root=allow_outside_root)
        probed = probe_entries(entries, num_workers)
        utterances = [utterance for one in probed.splits.values() for utterance in one]
        channels = relations(utterances, num_workers)
        levels = measure_levels(utterances, num_workers)
    findings = [
        *check_splits(entries, probed.splits, allow_shared_speakers),
        *check_audio(entries, utterances, probed.left_out, levels, channels),
        *check_texts(utterances, count_tokens),
    ]
    findings.sort(key=lambda finding: not finding.stops_training)
    return CorpusReport(summarise(probed.splits), findings)


def save_report(report: CorpusReport, name: str, folder: Path) -> None:
    """Write ``report.json`` and ``report.html``."""
    write_json(folder / "report.json", {"corpus": name, "stops_training": report.stops_training, **asdict(report)})
    write_text(folder / "report.html", html_page(name, report.summary, report.findings))


def check_command(argv: Sequence[str]) -> None:
    """The command; exit code 1 if a finding would stop a training."""
    parser = CommandParser(prog="moe-lightning corpus check", description=__doc__)
    parser.add_argument("root", type=Path, metavar="DIR", help="a corpus folder, a manifest or a prefix of manifests")
    parser.add_argument(
        "--output-dir", type=Path, metavar="DIR", help="for the reports (default: lightning_logs/corpus_check/NAME)"
    )
    parser.add_argument("--layout", choices=("auto", *LAYOUTS), default="auto", help="insist on a form of corpus")
    parser.add_argument("--columns", nargs="+", default=(), metavar="ROLE=NAME", help="own names of columns")
    parser.add_argument("--allow-shared-speakers", action="store_true", help="speakers in two splits are no fault")
    parser.add_argument(
        "--allow-outside-root",
        action="store_true",
        help="take recordings that a manifest names outside of the corpus's folder",
    )
    parser.add_argument("--tokenizer", metavar="MODEL", help="tokenizer.json, its folder or hub id; counts tokens")
    parser.add_argument("--num-workers", type=int, metavar="N", help="recordings read at a time")
    options = parser.parse_args(argv)
    count_tokens = _token_counter(options.tokenizer) if options.tokenizer else None
    report = check_corpus(
        options.root,
        options.layout,
        options.allow_shared_speakers,
        options.num_workers,
        count_tokens,
        options.allow_outside_root,
        parse_columns(options.columns),
    )
    name = options.root.name or options.root.absolute().name
    output_dir = options.output_dir or Path("lightning_logs") / "corpus_check" / name
    save_report(report, name, output_dir)
    _print_report(report, output_dir)
    if report.stops_training:
        sys.exit(1)


def _token_counter(model: str) -> Callable[[str], int]:
    """Token counter for Whisper labels, task tokens included."""
    from tokenizers import Tokenizer

    path = Path(model) / "tokenizer.json" if Path(model).is_dir() else Path(model)
    try:
        tokenizer = Tokenizer.from_file(str(path)) if path.exists() else Tokenizer.from_pretrained(model)
    except Exception as error:  # the library raises plain Exception
        raise InputError(
            "model.damaged", f"--tokenizer {model} cannot be loaded ({error}); give a tokenizer.json", model
        ) from error
    return lambda text: len(tokenizer.encode(text).ids)


def _print_report(report: CorpusReport, output_dir: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    splits = Table("split", "utterances", "speakers", "hours", "words", title="Corpus", title_justify="left")
    for split, one in report.summary.splits.items():
        splits.add_row(
            split, f"{one.num_utterances:,}", f"{one.num_speakers:,}", f"{one.hours:.3f}", f"{one.num_words:,}"
        )
    findings = Table("finding", "utterances", "stops a training", "the first", title="Findings", title_justify="left")
    for finding in report.findings:
        first = f"{finding.utterances[0]}: {finding.details[0]}"
        stops = "yes" if finding.stops_training else ""
        findings.add_row(finding.rule, f"{len(finding.utterances):,}", stops, escape(_shortened(printable(first))))
    console = Console()
    console.print(splits)
    console.print(findings if report.findings else "No findings.")
    console.print(f"report: {_names(output_dir)}", soft_wrap=True, markup=False)


def _shortened(line: str, width: int = 100) -> str:
    return line if len(line) <= width else f"{line[: width - 3]}..."


def _names(output_dir: Path) -> str:
    return f"{output_dir / 'report.html'}, {output_dir / 'report.json'}"
