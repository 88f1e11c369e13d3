"""Errors that a user can cause."""


class InputError(ValueError):
    """A wrong input from outside: a file, a flag, a value.

    The message gives the value, the rule and the remedy, on one line.
    """


class MissingInputError(InputError, FileNotFoundError):
    """A file from an earlier command is missing; the message names the command."""

    def __str__(self) -> str:
        return str(self.args[0])


class StaleStageError(InputError):
    """A run folder holds a stage made with other settings."""


def printable(text: object) -> str:
    """A text on one line, control characters escaped, so that a file's name or contents cannot steer a terminal."""
    line = " ".join(str(text).split())
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
