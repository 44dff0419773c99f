"""Everything that this project raises on purpose.

* EdgeBenchError
  - AudioError: a recording that cannot be read or used
  - BundleError: a model file that is truncated, foreign, altered or unfit
  - InterpreterError: no TFLite interpreter works here
  - ConfigError: a configuration or an argument that makes no sense
  - CorpusError: a folder of recordings that cannot be trained on
  - BoardError: a board that refuses what it was told
    - UnreachableError: a board to which there is no connection, or no longer
    - HostKeyError: a board whose host key is unknown or has changed

The command line prints one line and exits with 2 for each of them.
"""

from __future__ import annotations


def one_line(text: str, longest: int = 800) -> str:
    """Return a text fit for a terminal: one line, no control characters, not too long.

    Names out of a damaged or hostile file end up in messages.
    """
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return line if len(line) <= longest else f"{line[:longest]}..."


class EdgeBenchError(Exception):
    """Base of all errors; its text, one line, says what is wrong, where, and what to do."""

    def __str__(self) -> str:
        """Return the text as one line."""
        return one_line(super().__str__())


class AudioError(EdgeBenchError):
    """A recording that cannot be read, decoded or used."""


class BundleError(EdgeBenchError):
    """A model file that is truncated, foreign, altered or does not fit its metadata."""


class InterpreterError(EdgeBenchError):
    """No TFLite interpreter can be built here, or it refuses a model."""


class ConfigError(EdgeBenchError):
    """A configuration value or an argument that makes no sense."""


class CorpusError(EdgeBenchError):
    """A folder of recordings that cannot be used."""


class BoardError(EdgeBenchError):
    """A board that refuses what it was told, or lacks what is needed."""


class UnreachableError(BoardError):
    """A board to which there is no connection, or no longer."""


class HostKeyError(BoardError):
    """A board whose host key is unknown or another one than before."""
