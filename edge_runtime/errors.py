"""Everything that this project raises on purpose.

* EdgeBenchError
  - AudioError: a recording that cannot be read or used
  - BundleError: a model file that is truncated, foreign, altered or unfit
  - InterpreterError: no TFLite interpreter works here
  - ConfigError: a configuration or an argument that makes no sense
  - CorpusError: a folder of recordings that cannot be trained on

The command line prints one line and exits with 2 for each of them.
"""

from __future__ import annotations


class EdgeBenchError(Exception):
    """Base of all errors; its text says what is wrong, where, and what to do."""


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
