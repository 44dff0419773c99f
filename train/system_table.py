"""The table of systems: what each of them scores on a split, how large it is and how long its network takes.

Times are of the network alone, batch 1, one thread, all systems in turn in one process: a bundle on a clip of 2 s, a
system with an input of its own on one such example (its length is in the table), a frame-wise baseline on the frames
of 2 s. Networks run as float32 in the TFLite interpreter unless the row is a bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError
from edge_runtime.interpreter import Session

from . import evaluate as evaluation
from . import models, reference, systems
from .models.export import to_tflite
from .pictures import move_labels_apart

Float32 = NDArray[np.float32]
LONGEST_S = 2.0


@dataclass(frozen=True)
class Contender:
    """A system with something to time.

    Attributes
    ----------
    parameters : int or None
    bytes : int
        Of its file: bundle, ``.tflite`` without further shrinking, or the stored baseline.
    example_s : float
        Seconds of sound that `run` is about.
    runtime : str
    run : callable
    """

    parameters: int | None
    bytes: int
    example_s: float
    runtime: str
    run: Callable[[], Any]


def _of_session(flatbuffer: bytes, shape: Sequence[int], example_s: float, parameters: int | None) -> Contender:
    session = Session(flatbuffer)
    x = np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)
    runtime = f"{session.backend} {session.version}"
    return Contender(parameters, len(flatbuffer), example_s, runtime, lambda: session.run(x))


def contender(path: str) -> Contender:
    """Return a system's size and what to time.

    Parameters
    ----------
    path : str
        A bundle, a folder of a training, or ``yamnet``.
    """
    if path == reference.NAME:
        return _yamnet()
    if system := systems.find(path):
        return _system(path, system)
    if (Path(path) / "model.keras").is_file():
        model = models.load(Path(path) / "model.keras")
        config = evaluation.open_model(path)[0]
        shape = (config.frames(round(LONGEST_S * config.sample_rate)), config.features)
        return _of_session(to_tflite(model, shape), shape, LONGEST_S, models.trainable_parameters(model))
    return _bundle(path)


def _bundle(path: str) -> Contender:
    from edge_runtime.bundle import read, resolve

    built = read(resolve(path))
    frames = built.padded_frames(built.clip_frames(LONGEST_S))
    session = Session(built.flatbuffer, frames=frames)
    x = np.zeros(session.input_shape, session.input_dtype)
    runtime = f"{session.backend} {session.version}"
    return Contender(
        built.info["parameters"], len(built.flatbuffer), LONGEST_S, runtime, lambda: session.run(x)
    )


def _yamnet() -> Contender:
    from .models import weights, yamnet

    path = weights.find_weights(yamnet.FILE)
    found = _of_session(path.read_bytes(), (yamnet.PATCH, yamnet.BANDS), LONGEST_S, None)
    patches = 3  # at 0, 0.48 and 0.96 s of a clip of 2 s

    def run() -> None:
        for _ in range(patches):
            found.run()

    return Contender(None, found.bytes, LONGEST_S, found.runtime, run)


def _system(path: str, system: systems.System) -> Contender:
    folder = Path(path)
    what = system.inputs.what
    if system.name in systems.BASELINES:
        frames = systems_frames(system)
        stored = sum(file.stat().st_size for file in folder.glob("model.*"))
        runtime = "numpy and scikit-learn"
        return Contender(_parameters(folder), stored, LONGEST_S, runtime, lambda: system.predict(frames))
    model = models.load(folder / "model.keras")
    return _of_session(to_tflite(model, what.shape), what.shape, system.inputs.window_s, _parameters(folder))


def systems_frames(system: systems.System) -> Float32:
    """Return random rows as many as 2 s have."""
    rows = round((LONGEST_S - system.inputs.window_s) / system.inputs.step_s) + 1
    return np.random.default_rng(0).standard_normal((rows, system.inputs.features)).astype(np.float32)


def _parameters(folder: Path) -> int | None:
    import json

    try:
        return int(json.loads((folder / "metrics.json").read_text())["parameters"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def rows(
    entries: Sequence[tuple[str, str]], corpus: Path, split: str, *, clip_s: Sequence[float],
    interleave: Callable[..., dict[str, list[float]]], log: Path | None = None, rounds: int = 200,
    cache: Path | None = None, say: Callable[[str], None] = print,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Evaluate each system, then time them all in turn; return the rows of the table.

    Parameters
    ----------
    entries : sequence of (label, path)
        What is not there is left out, and said.
    interleave : callable
        `edge_bench.benchmarks.interleave.interleave`.
    log : Path, optional
        Every look at the test split is appended.
    """
    found: list[dict[str, Any]] = []
    first: evaluation.Answers | None = None
    timed: dict[str, Contender] = {}
    for label, path in entries:
        if not _is_there(path):
            say(f"{label}: {path} is not there; left out")
            continue
        say(label)
        there = evaluation.answers(path, corpus, split, clip_s=clip_s, cache=cache, progress=progress)
        scored = evaluation.score(there, path=path, split=split)
        if split == "test" and log is not None:
            evaluation.write_log(scored, log)
        first = first or there
        change = _difference(first, there)
        timed[label] = contender(path)
        keep = ("overall", "speech_nonspeech", "macro_f1", "recall", "intervals", "clips", "confusion", "roc")
        clips = {key: {k: r[k] for k in keep if k in r} for key, r in scored["clips_by_length"].items()}
        found.append({"label": label, "name": there.name, "classes": list(there.classes), "clips": clips,
                      "difference": change, "corpus": there.corpus})  # fmt: skip
    calls = {name: _calls(c.run) for name, c in timed.items()}
    times = interleave({name: c.run for name, c in timed.items()}, rounds=rounds, calls=calls, warm=5)
    for row in found:
        c = timed[row["label"]]
        p50, p90 = np.percentile(times[row["label"]], [50, 90])
        row |= {"parameters": c.parameters, "bytes": c.bytes, "example_s": c.example_s, "runtime": c.runtime,
                "us": {"p50": float(p50), "p90": float(p90), "samples": rounds}}  # fmt: skip
    return found


def _is_there(path: str) -> bool:
    from edge_runtime.bundle import shipped

    return path == reference.NAME or path in shipped() or (Path(path) / "experiment.json").is_file() or (
        path.endswith(".tflite") and Path(path).is_file()
    )


def _difference(first: evaluation.Answers, other: evaluation.Answers) -> dict[str, Any]:
    """Return the difference of class-average F1 by clip length, empty where two cannot be paired."""
    try:
        found = evaluation.differences(first, other)
    except ConfigError:
        return {}
    return {key: found[key]["macro_f1"] for key in found}


def _calls(run: Callable[[], Any]) -> int:
    """Return how many calls last about a millisecond."""
    import time

    run()
    began = time.perf_counter()
    run()
    return int(np.clip(1e-3 / max(time.perf_counter() - began, 1e-7), 1, 100))


def markdown(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of the Markdown table, a line for each system and clip length."""
    header = ["system", "classes", "parameters", "bytes", "network, us (for)", "clip", "overall", "speech/non-speech",
              "class-average F1", "against the first", "noise recall"]  # fmt: skip
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in rows:
        for number, (key, r) in enumerate(row["clips"].items()):
            what = [row["label"], " ".join(c[0] for c in row["classes"]), _whole(row["parameters"]),
                    _whole(row["bytes"]), f"{row['us']['p50']:,.0f} ({row['example_s']:.2g} s)"]  # fmt: skip
            speech = "-" if r["speech_nonspeech"] is None else f"{100 * r['speech_nonspeech']:.1f}"
            low, high = r["intervals"]["macro_f1"]
            change = row["difference"].get(key)
            against = "-"
            if change and (change["delta"] or change["interval"][0]):
                against = "{:+.1f} ({:+.1f} to {:+.1f})".format(100 * change["delta"],
                                                                *(100 * v for v in change["interval"]))  # fmt: skip
            noise = r["recall"].get("noise")
            cells = [f"{key} s", f"{100 * r['overall']:.1f}", speech,
                     f"{100 * r['macro_f1']:.1f} ({100 * low:.1f} to {100 * high:.1f})", against,
                     "-" if noise is None else f"{100 * noise:.1f}"]  # fmt: skip
            lines.append("| " + " | ".join((what if not number else [""] * len(what)) + cells) + " |")
    return lines


def _whole(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw class-average F1 of the longest clip against the network's time and the file's size (the paper's figure 3).

    Only systems of three classes are drawn: the scores of others do not compare.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import EngFormatter

    chosen = [row for row in rows if len(row["classes"]) == 3]
    figure, axes = plt.subplots(1, 2, figsize=(12.5, 5.2), layout="constrained", sharey=True)
    names = ("network on one core for one clip of 2 s", "file")
    units = ("s", "B")
    for number, (axis, name, unit) in enumerate(zip(axes, names, units, strict=True)):
        for row in chosen:
            r = row["clips"][max(row["clips"], key=float)]
            x = (row["us"]["p50"] / 1e6, row["bytes"])[number]
            y, (low, high) = 100 * r["macro_f1"], (100 * v for v in r["intervals"]["macro_f1"])
            colour = "tab:blue" if "swishnet" in row["name"] else "tab:gray"
            axis.errorbar(x, y, [[max(0, y - low)], [max(0, high - y)]], fmt="o", color=colour, linewidth=0.8)
            axis.annotate(row["label"], (x, y), xytext=(6, 3), textcoords="offset points", fontsize=8)
        axis.set(xscale="log", xlabel=name)
        axis.xaxis.set_major_formatter(EngFormatter(unit))
        axis.margins(x=0.2)  # for the labels at the right
        axis.grid(linewidth=0.3)
    axes[0].set_ylabel("class-average F1 on 2 s clips, %")
    for axis in axes:
        move_labels_apart(axis)
    figure.savefig(path, dpi=120)
    plt.close(figure)
