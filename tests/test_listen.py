"""Live sound from a pipe and from a microphone (a stand-in where there is none): labels, levels, latency, losses."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any, ClassVar

import helpers
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime import AudioError, ConfigError, Segmentation, Segmenter, Smoothing
from edge_runtime.live import sources
from edge_runtime.live.cli import listen
from edge_runtime.live.monitor import Monitor, follow
from edge_runtime.live.sources import Chunk, pcm

RATE = 16000
QUICK = Segmentation(Smoothing(delay=20, median=41, silence_dbfs=-55.0))


def sound(seconds: float) -> np.ndarray:
    x = np.concatenate([helpers.speech(seconds / 2, 1), helpers.music(seconds / 2, 2)])
    return (x * 32767).astype(np.int16)


class Dribble(io.RawIOBase):
    """A pipe that gives what it has, in pieces of odd sizes."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data, self._sizes, self._number = data, sizes, 0

    def read1(self, size: int) -> bytes:
        take = min(size, self._sizes[self._number % len(self._sizes)])
        self._number += 1
        out, self._data = self._data[:take], self._data[take:]
        return out


@given(
    data=st.binary(max_size=400), sizes=st.lists(st.integers(1, 50), min_size=1, max_size=5),
    chunk=st.integers(1, 20), channels=st.integers(1, 3),
)  # fmt: skip
def test_a_pipe_gives_every_sample_once(data: bytes, sizes: list[int], chunk: int, channels: int) -> None:
    got = [c.samples for c in pcm(Dribble(data, sizes), chunk=chunk, channels=channels)]
    whole = np.frombuffer(data[: len(data) // (2 * channels) * 2 * channels], "<i2").reshape(-1, channels)
    expected = whole[:, 0] if channels == 1 else np.rint(whole.mean(axis=1)).astype(np.int16)
    np.testing.assert_array_equal(np.concatenate([np.empty(0, np.int16), *got]), expected)
    assert all(len(g) == chunk for g in got[:-1])


@pytest.mark.parametrize("rate", [16000, 44100])
def test_the_monitor_hears_what_the_segmenter_does(rate: int) -> None:
    x = sound(6.0)
    with Segmenter(settings=QUICK) as segmenter:
        expected = segmenter.segment(x)
        heard_at = x if rate == RATE else np.interp(np.arange(6 * rate) / rate, np.arange(len(x)) / RATE, x)
        monitor = Monitor(segmenter, sample_rate=rate)
        size = rate // 10
        pieces = [heard_at[i : i + size].astype(np.int16) for i in range(0, len(heard_at), size)]
        steps = list(follow(monitor, iter(Chunk(p, time.perf_counter()) for p in pieces)))
        found = tuple(s for h in steps for s in h.segments) + monitor.finish()
    if rate == RATE:
        assert found == expected
    assert found[-1].end_s == pytest.approx(6.0, abs=1e-4)
    decided = [h for h in steps if h.now]
    assert len(decided) > 30
    numbers = monitor.to_dict()
    assert numbers["seconds"] == pytest.approx(6.0) and numbers["compute"]["samples"] == len(pieces)
    # the sound in a chunk is as old as the chunk is long, the label as old as the look-ahead
    for h in decided:
        assert 0 < h.latency_s <= numbers["look_ahead_s"] + 1.0
    assert min(h.latency_s for h in decided) > QUICK.smoothing.look_ahead(0.01) * 0.01
    assert steps[3].dbfs == pytest.approx(
        10 * np.log10(np.mean((pieces[3] / 32768.0) ** 2) + 1e-12), abs=1e-3
    )


def test_overruns_and_an_end_are_counted() -> None:
    with Segmenter(settings=QUICK) as segmenter:
        monitor = Monitor(segmenter, sample_rate=RATE)
        began = time.perf_counter()
        chunks = [Chunk(np.zeros(1600, np.int16), began - (2.0 if i == 3 else 0), i % 2) for i in range(9)]
        steps = list(follow(monitor, iter(chunks), seconds=0.8))
        assert len(steps) == 8 and steps[-1].overruns == 4
        assert monitor.to_dict()["overruns"] == 4 and monitor.to_dict()["late_chunks"] >= 1


def test_command_on_a_pipe(tmp_path: Path) -> None:
    x = sound(5.0)
    done = CliRunner().invoke(listen, ["-", "--lines", "--json", str(tmp_path / "n.json")], input=x.tobytes())
    assert done.exit_code == 0, done.output
    with Segmenter() as segmenter:
        expected = [f"{s.start_s:9.2f} {s.end_s:9.2f}  {s.label:8s} {s.confidence:.2f}" for s in segmenter.segment(x)]
    assert done.stdout.splitlines() == expected
    live = [line for line in done.stderr.splitlines() if "latency" in line]
    assert len(live) > 20 and all("dBFS" in line for line in live)
    numbers = json.loads((tmp_path / "n.json").read_text())
    assert numbers["schema"] == "edge-bench/listen/1" and numbers["seconds"] == 5.0 and numbers["overruns"] == 0
    assert CliRunner().invoke(listen, ["-"], input=b"").exit_code == 0
    wrong = CliRunner().invoke(listen, ["show.wav"])
    assert isinstance(wrong.exception, ConfigError) and "edge-bench segment" in str(wrong.exception)


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C while it waits for sound: the last segments, the numbers, exit code 0."""
    # a shell's background job ignores Ctrl-C and hands that on to the tests; a terminal does not
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code += "; from edge_runtime.live.cli import listen; listen()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "-", "--lines"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as child:  # fmt: skip
        assert child.stdin and child.stdout and child.stderr
        child.stdin.write(sound(3.0).tobytes())
        child.stdin.flush()
        for line in child.stderr:
            if b"latency" in line:
                break
        child.send_signal(signal.SIGINT)
        child.wait(30)
        assert child.returncode == 0
        assert b"s heard; computing a decision took" in child.stderr.read()
        assert child.stdout.read().count(b"\n") >= 1


class Microphone(types.ModuleType):
    """What sounddevice gives, with a device that plays `script`: (samples, overflow) each."""

    class PortAudioError(Exception):
        pass

    script: ClassVar[list[tuple[np.ndarray, bool]]] = []

    class InputStream:
        def __init__(self, **options: Any) -> None:
            if options["device"] == 7:
                raise Microphone.PortAudioError("Invalid device")
            self._callback = options["callback"]

        def __enter__(self) -> None:
            for samples, overflow in Microphone.script:
                self._callback(samples[:, None], len(samples), None, types.SimpleNamespace(input_overflow=overflow))

        def __exit__(self, *_: Any) -> None:
            pass


def test_microphone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", Microphone("sounddevice"))
    pieces = [np.full(1600, i, np.int16) for i in range(80)]
    Microphone.script = [(p, i == 2) for i, p in enumerate(pieces)]
    with sources.microphone(sample_rate=RATE, chunk=1600) as chunks:
        got = [next(chunks) for _ in range(50)]  # five seconds wait for us at most, the other 30 are given up
    assert [int(c.samples[0]) for c in got] == list(range(50))
    assert [c.overruns for c in got] == [0, 0, 1] + [0] * 47
    with pytest.raises(AudioError, match="microphone 7 cannot be opened: Invalid device"), sources.microphone(
        sample_rate=RATE, chunk=1600, device="7"
    ):
        pass


def test_without_sounddevice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    done = CliRunner().invoke(listen, [])
    assert isinstance(done.exception, ConfigError) and "needs sounddevice" in str(done.exception)
