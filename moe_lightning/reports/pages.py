"""Rendering of pages from the templates beside: one file per page, nothing loaded from elsewhere.

Jinja2 escapes every value. A template marks no text of a corpus or a run as safe.
"""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")


class BarCell(NamedTuple):
    """A table cell with a bar."""

    share: float
    """Its width as a fraction of the cell."""
    kind: str = ""
    """Its CSS class."""


class NotedCell(NamedTuple):
    """A table cell with a small note after its text."""

    text: str
    note: str


class LeftCell(NamedTuple):
    """A table cell aligned left."""

    left: str


def render_page(template: str, styles: Sequence[str] = (), script: str = "", **values: Any) -> str:
    """A whole page.

    Args:
        template: Its file among the templates.
        styles: CSS files, in their order.
        script: File with the only JavaScript that browsers run on the page.
    """
    from markupsafe import Markup

    code = _text(script) if script else ""
    style = "".join(map(_text, styles))
    own = {"style": Markup(style), "script": Markup(code), "content_policy": Markup(content_policy(code))}
    return render(template, **own, **values)


def render(template: str, **values: Any) -> str:
    """Text from a template; HTML and SVG are escaped."""
    return _environment().get_template(template).render(**values)


def render_part(template: str, macro: str, *values: Any) -> str:
    """Markup from a macro, ready for a page: its values are escaped."""
    part: str = getattr(_environment().get_template(template).module, macro)(*values)
    return part


def safe_json(text: str) -> str:
    """JSON for a script element: a "</script>" in a text would end the element, so every "<" is escaped."""
    from markupsafe import Markup

    return Markup(text.replace("<", "\\u003c"))  # no markup is left in it


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


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # a tenth of a second: not for --help

    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: not str(name).endswith(".md.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {"base64": _base64, "plain": _plain, "cells": _cells}
    return found


def _base64(contents: bytes) -> str:
    return base64.b64encode(contents).decode()


def _plain(text: str) -> str:
    """A text on one line of Markdown, with markup escaped."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("`", "'").replace("[", "\\[")


def _cells(row: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(_plain(cell).replace('|', chr(92) + '|') for cell in row)} |"
