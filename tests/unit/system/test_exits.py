"""The end of a command: one line for what a user can mend."""

import pytest

from moe_lightning.errors import InputError
from moe_lightning.system.exits import exits_cleanly


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("file.missing", "a.wav is missing", "a.wav"), "error: a.wav is missing [file.missing]"),
        (OSError(28, "No space left on device"), "No space left on device [file.unwritable]"),
        (
            RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:45184"),
            "another process of this run has ended",
        ),
    ],
)
def test_an_error_that_a_user_can_mend_is_one_line(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @exits_cleanly
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    (printed,) = capsys.readouterr().err.splitlines()
    assert line in printed


def test_an_error_of_this_package_keeps_its_traceback() -> None:
    @exits_cleanly
    def main() -> None:
        raise RuntimeError("a shape is wrong")

    with pytest.raises(RuntimeError):
        main()
