"""What runs on a board: audio in, features, an interpreter, classes out.

Imports numpy, one TFLite interpreter and the standard library, nothing else.
"""

from .bundle import Bundle
from .classify import Classifier, ClipResult
from .config import FrontEndConfig
from .errors import (
    AudioError,
    BundleError,
    ConfigError,
    CorpusError,
    EdgeBenchError,
    InterpreterError,
)
from .frontend import FrontEnd, StreamingFrontEnd

__version__ = "0.1.0"

__all__ = [
    "AudioError",
    "Bundle",
    "BundleError",
    "Classifier",
    "ClipResult",
    "ConfigError",
    "CorpusError",
    "EdgeBenchError",
    "FrontEnd",
    "FrontEndConfig",
    "InterpreterError",
    "StreamingFrontEnd",
]
