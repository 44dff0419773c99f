"""Run a queue: one job after the other or several at once, each in a process of its own, safe to kill at any time.

A training goes on from its checkpoints, a command starts again. The lock is inherited by the running job, so a queue
that was killed without warning cannot be started again while its last job still writes.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_runtime import ConfigError, EdgeBenchError
from edge_runtime.files import append_json, write_text

from . import job_results
from . import recipe as recipes
from .job_queue import Job, Queue

_EDGE_BENCH = (sys.executable, "-c", "from edge_bench.benchmarks.cli import main; main()")


class JobFailed(EdgeBenchError):
    """A job that ended with an error; the others go on."""


@contextmanager
def lock(folder: Path, what: str = "queue") -> Iterator[int]:
    """Hold the folder of a queue or a search; the value is a file descriptor that a job inherits.

    Raises
    ------
    ConfigError
        If another process holds it.
    EdgeBenchError
        If the folder cannot be written.
    """
    file = folder / f"{what}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise EdgeBenchError(f"{file}: cannot be written: {error.strerror or error}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{folder}: this {what} is running already ({file.read_text().strip()})") from None
        note(descriptor, f"process {os.getpid()}")
        yield descriptor
    finally:
        os.close(descriptor)


def note(descriptor: int, text: str) -> None:
    """Write into the lock file who holds it."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def running(folder: Path) -> str:
    """Return what the lock file says when a process holds it, else an empty string."""
    try:
        with (folder / "queue.lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip()
    except OSError:
        pass
    return ""


def states(queue: Queue, folder: Path) -> dict[str, str]:
    """Return what the folder tells of jobs that have no result: running, interrupted, failed."""
    holders = running(folder).partition(": ")[2].split(", ")
    found = {}
    for job in queue.jobs:
        place = folder / job.label
        if job.label in holders:
            found[job.label] = "running" + _epochs(place)
        elif (place / "error.txt").is_file():
            found[job.label] = "failed"
        elif (place / "log.txt").is_file():
            found[job.label] = "interrupted" + _epochs(place)
    return found


def _epochs(place: Path) -> str:
    try:
        return f" after epoch {json.loads((place / 'history.json').read_text())[-1]['epoch']:.0f}"
    except (OSError, ValueError, IndexError):
        return ""


class _Running:
    """The jobs that run now: named in the lock file, ended with the queue."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._lock = threading.Lock()
        self._processes: dict[str, subprocess.Popen[str] | None] = {}
        self.over = False

    @contextmanager
    def named(self, label: str) -> Iterator[None]:
        """Name a job in the lock file for as long as it runs."""
        with self._lock:
            self._processes[label] = None
            self._note()
        try:
            yield
        finally:
            with self._lock:
                del self._processes[label]
                self._note()

    def start(self, label: str, command: Sequence[str], **how: Any) -> subprocess.Popen[str]:
        """Start the process of a job, unless all are being ended."""
        with self._lock:
            if self.over:
                raise JobFailed("the queue was stopped")
            # in a group of its own, so that all of it can be ended
            process = subprocess.Popen(
                command, text=True, pass_fds=(self.descriptor,), start_new_session=True, **how
            )  # fmt: skip
            self._processes[label] = process
            return process

    def end(self) -> None:
        """End every job, and start no other."""
        with self._lock:
            self.over = True
            processes = [p for p in self._processes.values() if p is not None]
        for process in processes:
            _end(process)

    def _note(self) -> None:
        note(self.descriptor, f"process {os.getpid()}: {', '.join(sorted(self._processes))}")


def run(
    queue: Queue,
    folder: Path,
    results: Path,
    *,
    corpus: Path | None = None,
    cache: Path | None = None,
    nice: int = 10,
    jobs: int = 1,
    say: Callable[[str], None] = print,
) -> int:
    """Run what has no result yet and append a line for each that succeeds; return how many failed.

    Parameters
    ----------
    folder : Path
        Each job gets a folder of its name there: its recipe, checkpoints, ``log.txt``; ``error.txt`` when it failed.
    results : Path
    nice : int
        Added to the priority of this process and with it of every job.
    jobs : int
        So many at once, in the order of the queue. Commands that need what an earlier one leaves take 1.
    """
    with lock(folder) as descriptor:
        done = job_results.of_jobs(queue, job_results.read(results), results)
        os.nice(nice)
        environment = dict(os.environ)
        for name, path in (("EDGE_BENCH_CORPUS", corpus), ("EDGE_BENCH_CACHE", cache)):
            if path is not None:
                environment[name] = str(path)
        running_now = _Running(descriptor)
        appending = threading.Lock()

        def attempt(number: int, job: Job) -> bool:
            if running_now.over:
                return False
            began = time.monotonic()
            place = folder / job.label
            prefix = f"{job.label}: " if jobs > 1 else "  "
            with running_now.named(job.label):
                say(f"{number} of {len(queue.jobs)}: {job.label}")
                try:
                    command = _command(job, folder)
                    _call(command, job.label, place, environment, running_now, lambda line: say(prefix + line))
                    result = _result(job, folder, time.monotonic() - began)
                except JobFailed as error:
                    if not running_now.over:
                        write_text(place / "error.txt", f"{error}\n")
                        say(f"{job.label} failed: {error}")
                    return False
            with appending:
                append_json(results, result)
            value = job_results.value_at(result, queue.head.metric)
            say(f"{job.label} done" + ("" if value is None else f": {queue.head.metric} {value:.4f}"))
            return True

        waiting = [(n, job) for n, job in enumerate(queue.jobs, start=1) if job.label not in done]
        with ThreadPoolExecutor(jobs) as workers:
            attempts = [workers.submit(attempt, n, job) for n, job in waiting]
            try:
                return sum(not attempt.result() for attempt in attempts)
            except BaseException:  # Ctrl-C, a signal, a full disk: no job must outlive the queue
                running_now.end()
                raise


def _filled(text: str, job: Job, folder: Path) -> str:
    return text.replace("{out}", str(folder)).replace("{seed}", str(job.seed))


def _command(job: Job, folder: Path) -> list[str]:
    if job.entry.command:
        command = [_filled(part, job, folder) for part in job.entry.command]
        return [*_EDGE_BENCH, *command[1:]] if command[0] == "edge-bench" else command
    file = folder / job.label / "recipe.toml"
    recipes.write(job.values, file, comment=f"{job.label}: {job.entry.recipe} as edge-bench queue changed it")
    extra = [part for path in job.entry.extra for part in ("--extra", path)]
    return [*_EDGE_BENCH, "train", str(file), "--out", str(file.parent), *extra]


def _call(
    command: Sequence[str], label: str, place: Path, environment: Mapping[str, str], running_now: _Running,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Run a command, repeat what it says, and keep it in a log.

    Raises
    ------
    JobFailed
        If it cannot be started or ends with an exit code; with the last line that it said.
    EdgeBenchError
        If the log cannot be written.
    """
    file = place / "log.txt"
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / "error.txt").unlink(missing_ok=True)
        log = file.open("a", encoding="utf-8")
    except OSError as error:
        raise EdgeBenchError(f"{file}: cannot be written: {error.strerror or error}") from None
    with log:
        try:
            process = running_now.start(
                label, command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                errors="replace", env=environment,
            )  # fmt: skip
        except OSError as error:
            raise JobFailed(f"{command[0]}: cannot be started: {error.strerror or error}") from None
        last = ""
        try:
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                log.flush()
                if line.strip():
                    last = line.strip()
                    say(last)
            code = process.wait()
        except OSError as error:
            raise EdgeBenchError(f"{file}: cannot be written: {error.strerror or error}") from None
        finally:
            _end(process)
    if code:
        raise JobFailed(f"exit code {code}, {last or 'nothing said'}; see {file}")


def _end(process: subprocess.Popen[str]) -> None:
    """End a job and whatever it has started: a worker that outlived it would hold its output open."""
    _signal(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[str], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # all of them have ended
        os.killpg(process.pid, number)


def _result(job: Job, folder: Path, seconds: float) -> dict[str, Any]:
    """Return the line of a job that succeeded."""
    place = folder / job.label
    content: dict[str, Any] = {}
    said: dict[str, Any] = {"recipe": job.entry.recipe, "overrides": dict(job.entry.overrides)}
    if job.entry.command:
        said = {"command": list(job.entry.command)}
        if job.entry.result:
            content = _read_json(Path(_filled(job.entry.result, job, folder)))
    else:
        content = _read_json(place / "metrics.json")
        described = _read_json(place / "experiment.json")
        said |= {"corpus": described["corpus"]["revision"], "framework": described.get("framework", "")}
    return {
        "seconds": round(seconds, 1), **content, **said, "schema": job_results.SCHEMA, "name": job.entry.name,
        "seed": job.seed, "digest": job.digest,
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }  # fmt: skip


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise JobFailed(f"{path}: is no JSON that the job wrote: {error}") from None
    return value if isinstance(value, dict) else {"result": value}
