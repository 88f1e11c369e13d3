"""Codes of errors: each is declared, used, and travels with the error."""

import ast
import pickle

import pytest

from moe_lightning.corpus.probe import UNALIGNED
from moe_lightning.errors import CODES, InputError, MissingInputError, StaleStageError, printable
from moe_lightning.settings.command_line import complaint_of_argparse
from tests.places import ROOT

PASSED_ON = ("error.code", "first.code", "code", "kind")
"""Codes of another error, or of argparse's words; `InputError` itself accepts declared ones only."""
KINDS = (InputError, MissingInputError, StaleStageError)


def codes_given() -> list[tuple[str, ast.expr]]:
    """The place and the code of every error that the package, its callbacks and recipes raise."""
    found = []
    for folder in ("moe_lightning", "callbacks", "recipes"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                name = getattr(getattr(node, "func", None), "id", "")
                if isinstance(node, ast.Call) and name in {kind.__name__ for kind in KINDS}:
                    found.append((f"{file.relative_to(ROOT)}:{node.lineno}", node.args[0]))
    return found


def test_every_error_has_a_declared_code_or_passes_one_on() -> None:
    odd = [
        place
        for place, code in codes_given()
        if not (isinstance(code, ast.Constant) and code.value in CODES) and ast.unparse(code) not in PASSED_ON
    ]
    assert not odd


def test_every_declared_code_is_used() -> None:
    raised = {code.value for _, code in codes_given() if isinstance(code, ast.Constant)}
    assert set(CODES) == raised | {UNALIGNED}, "that one stands in left_out.json alone"


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_its_message_and_survives_another_process(kind: type[InputError]) -> None:
    error = kind("file.missing", "a.wav is missing; look for it", "a.wav")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.code, again.value) == ("a.wav is missing; look for it", "file.missing", "a.wav")
    assert type(again) is kind


def test_a_code_that_is_not_declared_is_no_error_of_ours() -> None:
    with pytest.raises(AssertionError):
        InputError("no.such", "a message")


@pytest.mark.parametrize(
    ("message", "code", "value"),
    [
        ("unrecognized arguments: --nosuch 3", "setting.unknown", "--nosuch"),
        ("the following arguments are required: --run-dir, --x", "setting.missing", "--run-dir"),
        ("argument --mode: invalid choice: 'slow' (choose from full, quick)", "setting.choice", "--mode"),
        ("argument --seed: invalid int value: 'x'", "setting.syntax", "--seed"),
        ("something else", "setting.syntax", "something else"),
    ],
)
def test_argparses_words_become_a_code_and_the_flag(message: str, code: str, value: str) -> None:
    assert complaint_of_argparse(message) == (code, value)


def test_a_name_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2J\nb") == "a\\x1b[2J b"
