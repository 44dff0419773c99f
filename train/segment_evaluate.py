"""Bundles on annotated recordings: every source of posteriors with every smoothing, as values that JSON can hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_runtime import ConfigError
from edge_runtime.bundle import Bundle, read
from edge_runtime.decisions import Segmentation
from edge_runtime.files import append_json
from edge_runtime.segments import SILENCE

from . import posteriors
from .events import EVENT_SCORES
from .posteriors import Progress, Track
from .segmentation import summarise
from .stream_files import Annotated, StreamSet, read_folder, read_labels
from .tune import score, tune

TUNING_SCHEMA = "edge-bench/tune-smoothing/1"
SCHEMA = "edge-bench/evaluate-segmentation/1"
TUNED = "tuned"

Choices = Mapping[str, Mapping[str, Segmentation]]


def _labels(bundle: Bundle) -> tuple[str, ...]:
    return (SILENCE, *bundle.classes)


def gather(
    folder: Path | None,
    recordings: Sequence[tuple[Path, Path]],
    bundles: Sequence[str],
    *,
    split: str = "validation",
    limit: int | None = None,
) -> StreamSet:
    """Return the annotated recordings of a folder and those named one by one.

    Raises
    ------
    ConfigError
        If there are none, the bundles differ in classes, or the streams are made of another split than `split`: the
        test split is only looked at by somebody who says so.
    """
    built = [read(name) for name in bundles]
    different = [b.path for b in built if b.classes != built[0].classes]
    if different:
        raise ConfigError(f"{different[0]}: its classes are not those of {built[0].path}; evaluate them apart")
    if folder is None and not recordings:
        raise ConfigError("nothing to evaluate on: use --streams DIR (see edge-bench streams) or --recording")
    streams = StreamSet(()) if folder is None else read_folder(folder, _labels(built[0]))
    if streams.split not in (None, split):
        raise ConfigError(f"{folder}: streams of the {streams.split} split; say --split {streams.split} to use them")
    own = tuple(Annotated(audio, read_labels(labels, _labels(built[0]))) for audio, labels in recordings)
    return StreamSet((streams.files[:limit] + own), streams.split, streams.corpus, streams.seed)


def tune_bundle(
    name: str,
    folder: Path,
    clip_s: Sequence[float],
    *,
    limit: int | None = None,
    backend: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return ``edge-bench/tune-smoothing/1``: the smoothing chosen for each source of a bundle, and all that was tried.

    Raises
    ------
    ConfigError
        If the streams are of the test split: what is tuned there cannot be tested there.
    """
    bundle = read(name)
    streams = read_folder(folder, _labels(bundle))
    if streams.split == "test":
        raise ConfigError(f"{folder}: streams of the test split; tune on those of validation")
    files = streams.files[:limit]
    hop_s = bundle.front_end.hop_s
    sources = posteriors.source_names(clip_s, bundle)
    tracks = posteriors.tracks(bundle, files, sources, backend=backend, progress=progress)
    chosen = {}
    for source in sources:
        choice = tune(tracks, files, source, bundle.classes, hop_s=hop_s, progress=progress)
        best = next(h for h in choice.history if h["smoothing"] == choice.smoothing.to_dict())
        before, after = (
            summarise(score(tracks, files, source, choice.smoothing, bundle.classes, hop_s=hop_s, temperature=t),
                      bundle.classes, samples=1)["calibration_error"]
            for t in (1.0, choice.temperature)
        )  # fmt: skip
        chosen[source] = {**best, "temperature": choice.temperature, "calibration_error": after,
                          "calibration_error_at_1": before, "tried": list(choice.history)}  # fmt: skip
    return {
        "schema": TUNING_SCHEMA, "model": bundle.name, "sha256": bundle.sha256, "split": streams.split,
        "corpus": streams.corpus, "seed": streams.seed, "files": len(files), "chosen": chosen,
    }  # fmt: skip


def read_choices(files: Sequence[Path], bundles: Sequence[str] = ()) -> dict[str, dict[str, Segmentation]]:
    """Return the smoothings and temperatures that ``tune-smoothing`` wrote, by bundle name and source.

    Raises
    ------
    ConfigError
        If a file is no such choice, or was tuned for another file of the name that one of `bundles` has.
    """
    sha256 = {b.name: b.sha256 for b in map(read, bundles)}
    found: dict[str, dict[str, Segmentation]] = {}
    for path in files:
        try:
            value = json.loads(path.read_text())
            if value["schema"] != TUNING_SCHEMA:
                raise ConfigError(f"{path}: schema is {value['schema']!r}, expected {TUNING_SCHEMA!r}")
            chosen = {
                s: Segmentation.from_dict({k: entry[k] for k in ("smoothing", "temperature") if k in entry})
                for s, entry in value["chosen"].items()
            }
            name = str(value["model"])
            if value.get("sha256", sha256.get(name)) != sha256.get(name, value.get("sha256")):
                raise ConfigError(f"{path}: was tuned for another bundle that is called {name}, too; tune it again")
            found[name] = chosen
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConfigError(f"{path}: is no choice of edge-bench tune-smoothing") from None
    return found


def evaluate(
    bundles: Sequence[str],
    streams: StreamSet,
    clip_s: Sequence[float],
    *,
    choices: Choices | None = None,
    backend: str = "auto",
    log: Path | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[Track]]:
    """Return ``edge-bench/evaluate-segmentation/1`` and the first bundle's tracks, for a picture.

    Parameters
    ----------
    choices : mapping, optional
        Tuned smoothings by bundle name and source; each is a further row.
    log : Path, optional
        A JSON-lines file that every look at the test split is appended to.
    """
    rows: list[dict[str, Any]] = []
    first: list[Track] = []
    classes: tuple[str, ...] = ()
    for name in bundles:
        bundle = read(name)
        classes, hop_s = bundle.classes, bundle.front_end.hop_s
        sources = posteriors.source_names(clip_s, bundle)
        tracks = posteriors.tracks(bundle, streams.files, sources, backend=backend, progress=progress)
        first = first or tracks
        tuned = (choices or {}).get(bundle.name, {})
        settings = [
            (source, label, chosen)
            for source in sources
            for label, chosen in {
                **{k: Segmentation(s) for k, s in posteriors.usual_smoothings(source, hop_s).items()},
                **({TUNED: tuned[source]} if source in tuned else {}),
            }.items()
        ]  # fmt: skip
        for number, (source, label, chosen) in enumerate(settings):
            smoothing, temperature = chosen.smoothing, chosen.temperature
            counts = score(tracks, streams.files, source, smoothing, classes, hop_s=hop_s, temperature=temperature)
            rows.append(
                {"model": bundle.name, "path": name, "sha256": bundle.sha256, "window": source, "smoothing": label,
                 "settings": smoothing.to_dict(), "temperature": temperature,
                 "look_ahead_s": round(smoothing.look_ahead(hop_s) * hop_s, 6),
                 **summarise(counts, classes)}
            )  # fmt: skip
            if progress:
                progress(f"scoring {bundle.name}", number + 1, len(settings))
    if streams.split == "test" and log is not None:
        _append(log, streams, rows)
    result = {
        "schema": SCHEMA, "split": streams.split, "corpus": streams.corpus, "seed": streams.seed,
        "files": len(streams.files), "classes": list(classes), "rows": rows,
    }  # fmt: skip
    return result, first


def _append(log: Path, streams: StreamSet, rows: Sequence[Mapping[str, Any]]) -> None:
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    for model in dict.fromkeys(row["model"] for row in rows):
        accuracy = {
            f"{r['window']}, {r['smoothing']}": round(r["frame_accuracy"], 4) for r in rows if r["model"] == model
        }
        append_json(
            log, {"time": now, "model": model, "corpus": streams.corpus, "streams": len(streams.files),
                  "seed": streams.seed, "frame_accuracy": accuracy},
        )  # fmt: skip


def cells(result: Mapping[str, Any], kind: str) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a table for people: ``paper`` (models by windows) or ``scores`` (everything)."""
    rows = result["rows"]

    def percent(value: float | None, digits: int = 2) -> str:
        return "-" if value is None else f"{100 * value:.{digits}f}"

    if kind == "paper":
        windows = list(dict.fromkeys(r["window"] for r in rows))
        out = []
        for model, smoothing in dict.fromkeys((r["model"], r["smoothing"]) for r in rows):
            by_window = {r["window"]: r for r in rows if (r["model"], r["smoothing"]) == (model, smoothing)}
            line = [f"{model}, {smoothing}"]
            for window in windows:
                r = by_window.get(window)
                line.append(f"{percent(r['frame_accuracy'])} / {percent(r.get('speech_nonspeech'))}" if r else "-")
            out.append(line)
        return ["model, smoothing", *(w if w == posteriors.DENSE else f"{w} s" for w in windows)], out
    header = ["model, window, smoothing", "look-ahead", "accuracy", "95 %", "speech/non", "segment F1", "onset F1",
              "on-offset F1", "boundary F", "cal. error"]  # fmt: skip
    out = []
    for r in rows:
        low_high = r["intervals"].get("frame_accuracy")
        between = f"{100 * low_high[0]:.1f} to {100 * low_high[1]:.1f}" if low_high else "-"
        window = r["window"] if r["window"] == posteriors.DENSE else f"{r['window']} s"
        scores = [percent(r.get(k), 1) for k in (*EVENT_SCORES, "boundary_f", "calibration_error")]
        out.append([f"{r['model']}, {window}, {r['smoothing']}", f"{r['look_ahead_s']:.2f} s",
                    percent(r["frame_accuracy"]), between, percent(r.get("speech_nonspeech")), *scores])  # fmt: skip
    return header, out


def draw(
    name: str, streams: StreamSet, tracks: Sequence[Track], choices: Choices, number: int, path: Path
) -> None:  # fmt: skip
    """Draw stream `number` with a bundle's posteriors and segments (its tuned smoothing, or the paper's median)."""
    from .segment_plot import draw_stream

    if not 0 <= number < len(streams.files):
        raise ConfigError(f"there is no stream {number} to draw; they are numbered 0 to {len(streams.files) - 1}")
    bundle, track = read(name), tracks[number]
    source = posteriors.DENSE if posteriors.DENSE in track.answers else next(iter(track.answers))
    usual = posteriors.usual_smoothings(source, bundle.front_end.hop_s)["median 200"]
    chosen = choices.get(bundle.name, {}).get(source, Segmentation(usual))
    draw_stream(bundle, streams.files[number], track, source, chosen, path)
