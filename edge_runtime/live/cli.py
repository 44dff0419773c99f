"""``edge-bench listen``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import click

from ..cli import write_json


@click.command()
@click.argument("source", default="", metavar="[-]")
@click.option("--model", default="swishnet-slim-int8", show_default=True, help="A bundle or a shipped name.")
@click.option("--rate", type=click.IntRange(1000, 384_000), help="Sample rate in Hz; by default the bundle's.")
@click.option("--channels", default=1, show_default=True, type=click.IntRange(1, 32), help="Of standard input.")
@click.option("--device", help="Name or number of the microphone; python -m sounddevice lists them.")
@click.option("--decision-hop", default=0.1, show_default=True, help="Seconds from one decision to the next.")
@click.option("--median", type=click.IntRange(min=1), help="Smoothing window in frames; a shorter one answers sooner.")
@click.option("--smoothing", metavar="FILE", help="Settings that tune-smoothing wrote, instead of the bundle's own.")
@click.option("--unknown", type=click.FloatRange(0, 1), help="Confidence below which the answer is unknown.")
@click.option("--backend", default="auto", show_default=True)
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so much sound.")
@click.option("--lines", is_flag=True, help="One line a decision, instead of one line that changes.")
@click.option("--json", "json_file", metavar="FILE", help="Write the final numbers as JSON; - for standard output.")
def listen(
    source: str, model: str, rate: int | None, channels: int, device: str | None, decision_hop: float,
    median: int | None, smoothing: str | None, unknown: float | None, backend: str, seconds: float | None, lines: bool,
    json_file: str | None,
) -> None:  # fmt: skip
    """Say what is heard now, from the microphone, or from standard input (-) as raw 16 bit PCM.

    A line shows time, label, confidence, level and the latency from the sound to its label: what the method looks ahead
    and what we compute. Finished segments follow on standard output. Ctrl-C ends it.

    \b
    Example:
      edge-bench listen
      arecord -q -t raw -f S16_LE -r 16000 | edge-bench listen -
      ffmpeg -v error -i radio.mp3 -f s16le -ac 1 -ar 16000 - | edge-bench listen - --lines
    """
    from ..bundle import read
    from ..decisions import Segmentation, read_segmentation
    from ..errors import ConfigError
    from ..segmenter import Segmenter
    from .monitor import Monitor, follow

    if source not in ("", "-"):
        raise ConfigError(f"{source}: listen takes a microphone or - for standard input; for files: edge-bench segment")
    bundle = read(model)
    settings = Segmentation.of(bundle) if smoothing is None else read_segmentation(smoothing, bundle)
    if unknown is not None:
        settings = replace(settings, unknown_below=unknown)
    if median is not None:
        settings = replace(settings, smoothing=replace(settings.smoothing, median=median))
    rate = rate or bundle.front_end.sample_rate
    with Segmenter(bundle, settings=settings, decision_hop_s=decision_hop, backend=backend) as segmenter:
        monitor = Monitor(segmenter, sample_rate=rate)
        click.echo(
            f"{bundle.name}: a label {monitor.look_ahead_s:.2f} s after its sound, a segment "
            f"{segmenter.look_ahead_s:.2f} s; Ctrl-C ends it", err=True,
        )  # fmt: skip
        line = _Line(each=lines)
        with _source(source, rate, max(1, round(decision_hop * rate)), channels, device) as chunks, _ending():
            try:
                for heard in follow(monitor, chunks, seconds=seconds):
                    line.segments(heard.segments)
                    line.show(heard)
            except KeyboardInterrupt:
                pass
        line.segments(monitor.finish())
    numbers = monitor.to_dict()
    c = numbers["compute"]
    click.echo(
        f"{numbers['seconds']:.1f} s heard; computing a decision took {c['p50'] / 1000:.2f} ms (median), "
        f"{c['p99'] / 1000:.2f} ms (p99); {100 * (numbers['cpu_share'] or 0):.2f} % of a core; "
        f"{numbers['overruns']} overruns, {numbers['late_chunks']} late chunks", err=True,
    )  # fmt: skip
    if json_file:
        write_json(json_file, numbers)


@contextmanager
def _source(source: str, rate: int, chunk: int, channels: int, device: str | None) -> Iterator[Any]:
    from .sources import microphone, pcm

    if source == "-":
        yield pcm(sys.stdin.buffer, chunk=chunk, channels=channels)
        return
    with microphone(sample_rate=rate, chunk=chunk, device=device) as chunks:
        yield chunks


@contextmanager
def _ending() -> Iterator[None]:
    """Let SIGTERM end it as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Line:
    """The live line on standard error, and finished segments on standard output."""

    def __init__(self, *, each: bool) -> None:
        self._each = each
        self._live = not each and sys.stderr.isatty()

    def show(self, heard: Any) -> None:
        """Draw what is heard now."""
        if not (self._each or self._live):
            return
        if heard.now is None:
            text = f"          ...       {heard.dbfs:6.1f} dBFS"
        else:
            now = heard.now
            text = (
                f"{now.at_s:9.1f} s  {now.label:8s} {now.confidence:.2f}  {heard.dbfs:6.1f} dBFS  "
                f"{_bar(heard.dbfs)}  latency {heard.latency_s:.3f} s"
            )
        text += f"  {heard.overruns} overruns" if heard.overruns else ""
        if self._each:
            click.echo(text, err=True)
        else:
            click.echo(f"\r{text:<90s}", nl=False, err=True)

    def segments(self, found: Any) -> None:
        """Print finished segments."""
        if found and self._live:
            click.echo("\r" + " " * 90 + "\r", nl=False, err=True)
        for s in found:
            click.echo(f"{s.start_s:9.2f} {s.end_s:9.2f}  {s.label:8s} {s.confidence:.2f}")


def _bar(dbfs: float, width: int = 12) -> str:
    """Return a level meter from -60 to 0 dBFS."""
    full = min(width, max(0, round((dbfs + 60) / 60 * width)))
    return "#" * full + "." * (width - full)
