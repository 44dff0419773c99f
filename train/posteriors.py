"""Posteriors of a bundle over annotated recordings: its dense form, and its clips slid over the recording.

A *source* is ``dense`` or a clip length in seconds. Answers are causal, as a board gives them: that at frame t uses
frames up to t only, and `Smoothing.delay` says which frame it is about. A clip's answer stands until the next, `HOP`
frames later; until the first clip is complete its answer stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError, CorpusError, FrontEnd, audio
from edge_runtime.bundle import Bundle
from edge_runtime.classify import Classifier, dequantise, quantise, shares
from edge_runtime.dense import DELAY, DenseNetwork, pooled, softmax
from edge_runtime.level import levels_dbfs
from edge_runtime.probability import SMALLEST
from edge_runtime.smoothing import Smoothing

from .stream_files import Annotated

HOP = 5  # frames from one clip to the next
DENSE = "dense"

Float32 = NDArray[np.float32]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Track:
    """A recording's answers, without pooling.

    Attributes
    ----------
    dbfs : np.ndarray, float32, shape (frames,)
    answers : dict
        By source: logits of ``dense``, probabilities of clips; float32, shape (frames, classes) each.
    """

    dbfs: Float32
    answers: dict[str, Float32]

    def probabilities(self, source: str, pool: int = 1, temperature: float = 1.0) -> Float32:
        """Return what `smoothing` takes, logits divided by `temperature`; clips are pooled already."""
        answers = self.answers[source]
        if source == DENSE:
            return pooled(answers if temperature == 1 else answers / np.float32(temperature), pool)
        return answers if temperature == 1 else softmax(np.log(np.maximum(answers, SMALLEST)) / np.float32(temperature))


def source_names(clip_s: Sequence[float], bundle: Bundle) -> list[str]:
    """Return the sources that a bundle has: those clips, and ``dense`` where it has that form."""
    for seconds in clip_s:
        if not bundle.front_end.hop_s * HOP <= seconds <= 60:
            raise ConfigError(f"window is {seconds} s, must be from {bundle.front_end.hop_s * HOP} to 60")
    return [f"{seconds:g}" for seconds in clip_s] + ([DENSE] if "dense" in bundle.info["forms"] else [])


def usual_delay(source: str, pool: int, hop_s: float) -> int:
    """Return the delay without tuning: half of a clip and of its hop, or `dense.DELAY` and half of what is pooled."""
    return DELAY + pool // 2 if source == DENSE else round(float(source) / 2 / hop_s) + HOP // 2


def usual_smoothings(source: str, hop_s: float) -> dict[str, Smoothing]:
    """Return the settings that need no tuning: none, and the paper's median of 200 frames."""
    delay = usual_delay(source, 1, hop_s)
    return {"none": Smoothing(delay=delay, median=1), "median 200": Smoothing(delay=delay, median=200)}


def tracks(
    bundle: Bundle,
    files: Sequence[Annotated],
    sources: Sequence[str],
    *,
    backend: str = "auto",
    progress: Progress | None = None,
) -> list[Track]:
    """Return the answers of a bundle on recordings.

    Raises
    ------
    CorpusError
        If a recording cannot be read or is shorter than a frame.
    """
    config = bundle.front_end
    front_end = FrontEnd(config)
    dense = DenseNetwork(bundle, backend=backend) if DENSE in sources else None
    clips = {s: Classifier(bundle, clip_s=float(s), backend=backend) for s in sources if s != DENSE}
    found = []
    for number, file in enumerate(files):
        samples = audio.load(file.audio, sample_rate=config.sample_rate)
        features = front_end(samples)
        if not len(features):
            raise CorpusError(f"{file.audio}: is shorter than a frame ({config.frame_length} samples)")
        answers = {s: _slide(c, features) for s, c in clips.items()}
        if dense is not None:
            answers[DENSE] = dense.logits(features)
        found.append(Track(levels_dbfs(samples, config.hop_length)[: len(features)], answers))
        if progress:
            progress(f"{bundle.name}", number + 1, len(files))
    return found


def _slide(classifier: Classifier, features: Float32) -> Float32:
    """Return a clip network's probabilities at every frame, shape (frames, classes)."""
    if len(features) < classifier.frames:
        return np.tile(classifier.probabilities(features), (len(features), 1))
    ends = np.arange(classifier.frames, len(features) + 1, HOP)
    session = classifier.session
    fed = classifier.network_input(features[: classifier.frames])  # what lies before a clip stays
    n = min(classifier.frames, fed.shape[2])
    q = quantise(features, *session.input_quantization, session.input_dtype)
    raw = []
    for end in ends:
        fed[0, 0, -n:] = q[end - n : end]
        raw.append(session.run(fed)[0])
    answers = shares(dequantise(np.stack(raw), *session.output_quantization))
    # frame t has the answer of the last clip that ends with it or before
    newest = np.searchsorted(ends, np.arange(1, len(features) + 1), side="right") - 1
    return answers[np.maximum(newest, 0)]
