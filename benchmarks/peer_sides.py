"""A peer made ready to be called: windows of samples to features, features through its network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import Classifier, ConfigError, FrontEnd, FrontEndConfig, filters, tflite
from edge_runtime.classify import quantise
from edge_runtime.interpreter import Session

from .peers import OURS, Peer, configuration

Float32 = NDArray[np.float32]


class Side:
    """One network of a comparison.

    Attributes
    ----------
    about : dict
        bytes, backend, backend_version, front_end, window_s, windows.
    """

    def __init__(
        self, frontend: Callable[[Float32], list[Any]], model: Callable[[list[Any]], None], about: dict[str, Any]
    ) -> None:
        self.frontend, self.model, self.about = frontend, model, about


def ours(bundle: str, clip_s: float, backend: str, threads: int) -> Side:
    """Return a bundle of ours as one side."""
    classifier = Classifier(bundle, clip_s=clip_s, backend=backend, threads=threads)
    about = {
        "name": classifier.bundle.name, "bytes": classifier.bundle.size, "backend": classifier.session.backend,
        "backend_version": classifier.session.version, "front_end": OURS, "window_s": clip_s, "windows": 1,
        "answers": f"{len(classifier.bundle.classes)} classes for a clip",
    }  # fmt: skip
    return Side(lambda x: [classifier.front_end(x)], lambda found: _drop(map(classifier.probabilities, found)), about)


def of_peer(peer: Peer, bundle_front_end: FrontEndConfig, clip_s: float, backend: str, threads: int) -> Side:
    """Return a peer as one side.

    Raises
    ------
    ConfigError
        If its input does not fit the front end.
    EdgeBenchError
        If its file is damaged or no interpreter runs it.
    """
    config = bundle_front_end if peer.front_end == OURS else configuration(peer.front_end)
    rate = bundle_front_end.sample_rate if config is None else config.sample_rate
    data = Path(peer.file).read_bytes()
    if peer.file.endswith(".onnx"):
        shape, call, about = _onnx(peer, data, threads)
    else:
        tflite.read(data)  # every offset is checked before an interpreter sees it
        session = Session(data, backend=backend, threads=threads)
        shape = session.input_shape
        about = {"backend": session.backend, "backend_version": session.version}

        def call(x: Float32) -> None:
            session.run(quantise(x, *session.input_quantization, session.input_dtype))

    features, window = _features(peer, config, shape)
    step = window if peer.step_s is None else round(peer.step_s * rate)
    total = round(clip_s * rate)
    starts = list(range(0, max(total - window, 0) + 1, step))

    def frontend(x: Float32) -> list[Any]:
        padded = x if len(x) >= window else np.pad(x, (0, window - len(x)))
        return [features(padded[start : start + window]).reshape(shape) for start in starts]

    def model(found: list[Any]) -> None:
        for x in found:
            call(x)

    return Side(
        frontend, model,
        {"name": peer.name, "bytes": len(data), **about, "front_end": peer.front_end,
         "window_s": round(window / rate, 4), "windows": len(starts), "answers": peer.answers},
    )  # fmt: skip


def _features(
    peer: Peer, config: FrontEndConfig | None, shape: tuple[int, ...]
) -> tuple[Callable[[Float32], Float32], int]:
    """Return what makes a window's samples the network's input, and the samples of a window."""
    sizes = [n for n in shape if n != 1]
    if config is None:
        if len(sizes) > 1:
            raise ConfigError(
                f"{peer.file}: takes {shape}, which is no row of samples: name its front end, FILE:log-mel or FILE:mfcc"
            )
        return lambda x: x, peer.window or (sizes[0] if sizes else 1)
    yamnet = peer.front_end == "yamnet"
    width = config.mel_bands if yamnet else config.features
    if len(sizes) != 2 or sizes[1] != width:
        raise ConfigError(f"{peer.file}: takes {shape}; the front end {peer.front_end!r} gives frames of {width}")
    front_end, window = FrontEnd(config), config.samples(sizes[0])
    if not yamnet:
        return front_end, window
    mel = filters.mel_filters(config).astype(np.float32)
    return lambda x: np.log(np.sqrt(front_end(x)) @ mel + np.float32(0.001)), window


def _onnx(peer: Peer, data: bytes, threads: int) -> tuple[tuple[int, ...], Callable[[Float32], None], dict[str, Any]]:
    """Return the shape of the first input, a call, and what runs it; further inputs are states or constants.

    A state is an input of floating point numbers: it begins with zeros and takes the output of the same rank and place
    after every call, as a stream would.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError(f"{peer.file}: needs onnxruntime: pip install 'edge-bench[peers]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own exceptions derive from Exception only
        raise ConfigError(f"{peer.file}: onnxruntime refuses it: {error}") from None
    first, *others = session.get_inputs()
    rows = [tuple(n if isinstance(n, int) else 1 for n in i.shape) for i in (first, *others)]
    shape = rows[0] if peer.window is None else (1, peer.window)
    context = 64 if peer.name == "silero" else 0  # it also takes the last samples of the window before
    feed: dict[str, Any] = {}
    for put, row in zip(others, rows[1:], strict=True):
        whole = "int64" in put.type
        rate = np.array(16000, np.int64)  # a whole number without a shape: the sample rate
        feed[put.name] = rate if whole and not row else np.zeros(row, np.int64 if whole else np.float32)
    states = [put.name for put in others if "float" in put.type]
    outputs = session.get_outputs()
    if len(outputs) < 1 + len(states):
        raise ConfigError(f"{peer.file}: has {len(states)} states and {len(outputs) - 1} outputs for them")
    before = np.zeros((1, context), np.float32)

    def call(x: Float32) -> None:
        nonlocal before
        taken = np.concatenate((before, x), axis=1) if context else x
        found = session.run(None, {first.name: taken, **feed})
        if context:
            before = x[:, -context:]
        for name, value in zip(states, found[1:], strict=False):
            feed[name] = value

    return shape, call, {"backend": "onnxruntime", "backend_version": onnxruntime.__version__}


def _drop(results: Any) -> None:
    for _ in results:
        pass
