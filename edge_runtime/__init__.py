"""What runs on a board: audio in, features, an interpreter, classes out.

Imports numpy, one TFLite interpreter and the standard library, nothing else.
"""

from .bundle import Bundle
from .classify import Classifier, ClipResult
from .config import FrontEndConfig
from .decisions import Segmentation
from .errors import (
    AudioError,
    BundleError,
    ConfigError,
    CorpusError,
    EdgeBenchError,
    InterpreterError,
)
from .frontend import FrontEnd, StreamingFrontEnd
from .segmenter import Segmenter
from .segments import Segment
from .smoothing import Smoothing

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
    "Segment",
    "Segmentation",
    "Segmenter",
    "Smoothing",
    "StreamingFrontEnd",
]
