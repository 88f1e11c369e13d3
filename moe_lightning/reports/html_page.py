"""Building blocks for the HTML pages of the stages: one file per page, nothing loaded from elsewhere.

Arguments named ``*_html`` and table cells are already markup; all other text is escaped here.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

_STYLE_FILE = Path(__file__).with_name("style.css")


def document(title: str, sections_html: Iterable[str], style: str = "", end_html: str = "", script: str = "") -> str:
    """A whole page; empty sections are omitted.

    Args:
        style: CSS for this page only, after the shared CSS.
        end_html: The end of the body, before the script.
        script: The only JavaScript that browsers run on the page.
    """
    shared = _STYLE_FILE.read_text(encoding="utf-8")
    body = "\n".join(section for section in sections_html if section)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"{content_policy(script)}\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{shared}{style}</style>\n</head>\n<body>\n{body}\n"
        f"{end_html}{f'<script>{script}</script>' if script else ''}\n</body>\n</html>\n"
    )


def content_policy(script: str = "") -> str:
    """A policy for browsers: load nothing from elsewhere, run only this script, even if a text becomes markup.

    The page's script element must hold exactly ``script`` (Content Security Policy level 3, section 2.3.1: sources
    by hash).
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"'sha256-{digest}'" if script else "'none'"
    return (
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src"
        f" data:; media-src 'self' file: data:; script-src {allowed}; base-uri 'none'; form-action 'none'\">"
    )


def verdict(sentence: str, is_warning: bool) -> str:
    """The result sentence, in a box."""
    return f'<p class="verdict{" warning" if is_warning else ""}">{escape(sentence)}</p>'


def cards(figures: Iterable[tuple[str, str]]) -> str:
    """Figures, each with its name below."""
    cells = (f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in figures)
    return f'<div class="cards">{"".join(cells)}</div>'


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], marked: Sequence[bool] = (), text_columns: bool = False
) -> str:
    """A table; it scrolls on a narrow page.

    Args:
        rows: Cells are HTML; a cell that begins with ``<td`` is a complete element.
        marked: True for each highlighted row.
        text_columns: Align all columns left.
    """
    kind = ' class="text"' if text_columns else ""
    body = []
    for number, row in enumerate(rows):
        cells = "".join(cell if cell.startswith("<td") else f"<td{kind}>{cell}</td>" for cell in row)
        body.append(f'<tr class="chosen">{cells}</tr>' if marked and marked[number] else f"<tr>{cells}</tr>")
    head = "".join(f"<th{kind}>{escape(name)}</th>" for name in heads)
    return f'<div class="wide"><table><tr>{head}</tr>\n' + "\n".join(body) + "</table></div>"


def bar_cell(share: float, kind: str = "") -> str:
    """A table cell with a bar; ``share`` is its width as a fraction of the cell."""
    name = f' class="{escape(kind)}"' if kind else ""
    return f'<td class="bar"><div{name} style="width:{100 * share:.1f}%"></div></td>'


def heat_map(corner: str, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[int]]]) -> str:
    """Counts by row and column; a cell's colour shows its share of the row, the last column the row's sum."""
    body = []
    for name, counts in rows:
        total = sum(counts)
        cells = "".join(_heat_cell(count / total if total else 0.0, count) for count in counts)
        body.append(f"<tr><td>{escape(name)}</td>{cells}<td>{total}</td></tr>")
    heads = "".join(f"<th>{escape(value)}</th>" for value in (corner, *columns, "all"))
    return f'<div class="wide"><table class="heat"><tr>{heads}</tr>\n' + "\n".join(body) + "</table></div>"


def picture(alt: str, png: bytes) -> str:
    """A PNG picture embedded in the page."""
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _heat_cell(share: float, count: int) -> str:
    """A cell coloured from paper to blue by its share; it shows the count."""
    ink = "#fff" if share > 0.55 else "var(--ink)"
    shade = f"color-mix(in srgb, var(--blue) {100 * share:.0f}%, var(--paper))"
    return f'<td style="background:{shade};color:{ink}" title="{share:.0%}">{count or ""}</td>'
