"""Throw damaged files at our readers: no crash, no hang, no memory beyond a limit; anything but our errors is a bug.

    python tests/fuzz.py --cases 100000 --json results/fuzz.json
    python tests/fuzz.py --only 4711        # one case again, with its traceback

Each worker is a process with limits; one that dies or hangs costs one case. The numbers of a seed's cases never change.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import multiprocessing.connection
import os
import platform
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from mutations import KINDS, Mutator  # noqa: E402

from edge_runtime import Classifier, EdgeBenchError, audio, bundle  # noqa: E402
from edge_runtime.executor import Executor  # noqa: E402
from edge_runtime.truncate import signature_alone, truncated  # noqa: E402

MEMORY = 512 << 20  # bytes of address space for a worker beyond what it has with everything imported
HANG_S = 20.0  # processor seconds without a finished case before a worker is killed
STUCK_S = 900.0  # seconds of any kind; a loaded machine may keep an honest worker waiting
SLOW_S = 2.0  # processor seconds of a case that count as a hang, too


def attempt(kind: str, content: bytes, folder: Path) -> None:
    """Do with a file what a command would."""
    if kind == "wav":
        file = folder / "case.wav"
        file.write_bytes(content)
        audio.load(file, sample_rate=16000)
        return
    if kind == "tflite":
        truncated(content, 1)
        for key in ("clip", "dense"):
            try:
                Executor(signature_alone(content, key))
            except EdgeBenchError:
                if key == "dense":
                    raise
        return
    built = bundle.parse(content)
    with Classifier(built, clip_s=0.5, backend="numpy") as classifier:
        classifier.classify(np.zeros(classifier.samples, np.float32))


def fit(text: str) -> bool:
    """Return whether a message is one line, printable and not too long."""
    return text.isprintable() and 0 < len(text) < 1000


def outcome(kind: str, content: bytes, folder: Path) -> str:
    """Return ``accepted``, the name of our error, or ``BUG`` with what was raised and where."""
    try:
        attempt(kind, content, folder)
    except EdgeBenchError as error:
        return type(error).__name__ if fit(str(error)) else f"BUG: {type(error).__name__} with a text unfit for people"
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "edge_runtime" in f.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        return f"BUG: {type(error).__name__} at {place}: {str(error)[:120]}"
    return "accepted"


@dataclass
class Tally:
    """What came out of a run of cases."""

    outcomes: Counter[str] = field(default_factory=Counter)
    bugs: dict[int, str] = field(default_factory=dict)
    longest: tuple[float, int, str] = (0.0, -1, "")
    peak: int = 0

    def add(self, number: int, kind: str, result: str, seconds: float = 0.0, peak: int = 0) -> None:
        """Count one case."""
        if result.startswith("BUG"):
            self.bugs[number] = f"{kind}: {result}"
        self.outcomes[f"{kind}: {result.partition(':')[0]}"] += 1
        self.longest = max(self.longest, (seconds, number, kind))
        self.peak = max(self.peak, peak)


def _worker(seed: int, numbers: Any, pipe: Any) -> None:
    """Try cases and send (number, kind, outcome, seconds, peak bytes) of each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # zipfile's, of the duplicates that are made on purpose
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        mutator = mutator_of(seed, folder)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number in numbers:
            pipe.send((number, None, "", 0.0, 0))
            kind, content = mutator.case(number)
            began = time.process_time()
            result = outcome(kind, content, folder)
            seconds = time.process_time() - began
            if seconds > SLOW_S and not result.startswith("BUG"):
                result = f"BUG: took {seconds:.1f} s"
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            pipe.send((number, kind, result, seconds, peak))
        pipe.send(None)


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process so far, 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def mutator_of(seed: int, folder: Path) -> Mutator:
    """Return the mutator of the shipped bundles."""
    return Mutator([(bundle.MODELS / f"{name}.tflite").read_bytes() for name in bundle.shipped()], folder, seed=seed)


def fuzz(cases: int, *, seed: int = 0, jobs: int = 2, say: Any = lambda _: None) -> Tally:
    """Try cases 0 to `cases` - 1 and return what came out."""
    context = multiprocessing.get_context("spawn")
    tally, done = Tally(), 0
    lanes: list[dict[str, Any]] = [{"numbers": range(i, cases, jobs)} for i in range(jobs)]

    def start(lane: dict[str, Any]) -> None:
        mine, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_worker, args=(seed, lane["numbers"], theirs), daemon=True)
        process.start()
        theirs.close()
        lane.update(process=process, pipe=mine, current=None, last=time.monotonic(), used=0.0)

    for lane in lanes:
        start(lane)
    while lanes:
        ready = multiprocessing.connection.wait([lane["pipe"] for lane in lanes], timeout=1)
        for lane in list(lanes):
            lost = None
            if lane["pipe"] in ready:
                lane["last"], lane["used"] = time.monotonic(), cpu_seconds(lane["process"].pid)
                try:
                    message = lane["pipe"].recv()
                except EOFError:
                    lane["process"].join()
                    lost = f"BUG: the worker died with {lane['process'].exitcode}"
                else:
                    if message is None:
                        lane["process"].join()
                        lanes.remove(lane)
                    elif message[1] is None:
                        lane["current"] = message[0]
                    else:
                        tally.add(*message)
                        done += 1
                        if done % 2000 == 0:
                            say(f"{done:,} of {cases:,}: {len(tally.bugs)} bugs, peak {tally.peak >> 20} MiB")
                    continue
            elif (
                cpu_seconds(lane["process"].pid) - lane["used"] > HANG_S or time.monotonic() - lane["last"] > STUCK_S
            ):
                lane["process"].kill()
                lost = f"BUG: no end within {HANG_S:g} s of processor time or {STUCK_S:g} s"
            if lost:
                if lane["current"] is None:
                    raise RuntimeError(f"a worker does not start: {lost}")
                number = lane["current"]
                tally.add(number, KINDS[number % len(KINDS)], lost)
                done += 1
                lane["numbers"] = range(number + jobs, cases, jobs)
                start(lane)
    return tally


def report(tally: Tally, cases: int, seed: int, seconds: float, command: str) -> dict[str, Any]:
    """Return ``edge-bench/fuzz/1``."""
    return {
        "schema": "edge-bench/fuzz/1",
        "command": command,
        "cases": cases,
        "seed": seed,
        "outcomes": dict(sorted(tally.outcomes.items())),
        "bugs": {str(k): v for k, v in sorted(tally.bugs.items())},
        "longest": {"cpu_ms": round(1000 * tally.longest[0], 1), "case": tally.longest[1], "kind": tally.longest[2]},
        "peak_memory": tally.peak,
        "memory_limit": f"{MEMORY} bytes of address space beyond the imported process",
        "seconds": round(seconds),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "bundles": bundle.shipped(),
    }


def main() -> int:
    """Run, print, and exit with 1 when there is a bug."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="Try one case here and show what it raises.")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    if options.only is not None:
        with tempfile.TemporaryDirectory() as name:
            kind, content = mutator_of(options.seed, Path(name)).case(options.only)
            print(f"case {options.only}: {kind}, {len(content)} bytes")
            attempt(kind, content, Path(name))
            print("accepted")
        return 0
    began = time.monotonic()
    tally = fuzz(options.cases, seed=options.seed, jobs=options.jobs, say=lambda text: print(text, file=sys.stderr))
    command = f"python tests/fuzz.py --cases {options.cases} --seed {options.seed}"
    result = report(tally, options.cases, options.seed, time.monotonic() - began, command)
    print(json.dumps({k: v for k, v in result.items() if k != "bugs"}, indent=1))
    for number, bug in list(tally.bugs.items())[:40]:
        print(f"case {number}: {bug}")
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
    return 1 if tally.bugs else 0


if __name__ == "__main__":
    sys.exit(main())
