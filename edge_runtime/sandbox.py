"""A model in a process of its own with limits, so that a file from a stranger can crash only that process.

The reader checks a model's structure before any interpreter sees it; what the numbers make an interpreter do is
beyond such checks. The other process (`edge_runtime.sandbox_child`) has little memory and time, can open no file and
no connection, and answers with plain bytes that are checked here.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, InterpreterError
from .interpreter import Nodes

Array = NDArray[Any]
HEAD = struct.Struct("<II")  # bytes of the JSON, bytes of the array behind it
_LARGEST_ANSWER = 1 << 28


@dataclass(frozen=True)
class Limits:
    """What the other process may use.

    Attributes
    ----------
    memory : int
        Bytes of address space beyond what it has before it sees the model.
    cpu_s : float
        Processor seconds of a request: loading, or one inference.
    wait_s : float
        Seconds that we wait for an answer.
    start_s : float
        The same for the first one, which includes starting Python and importing the interpreter.
    """

    memory: int = 256 << 20
    cpu_s: float = 10.0
    wait_s: float = 30.0
    start_s: float = 120.0


class Child:
    """The other process: requests go to it, answers come back or an `InterpreterError`."""

    def __init__(self, limits: Limits, threads: int) -> None:
        self._limits = limits
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            environment[name] = str(threads)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edge_runtime.sandbox_child"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
        )  # fmt: skip
        self._patience = limits.start_s

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            self.close()

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # what was left to write has no reader any more
                pass

    def ask(self, text: bytes, payload: bytes, doing: str) -> tuple[dict[str, Any], bytes]:
        """Send a request and return the answer; `doing` is for the message when there is none."""
        assert self._process.stdin is not None
        deadline = time.monotonic() + self._patience
        try:
            self._process.stdin.write(HEAD.pack(len(text), len(payload)) + text + payload)
            self._process.stdin.flush()
            lengths = HEAD.unpack(self._read(HEAD.size, deadline))
            if sum(lengths) > _LARGEST_ANSWER:
                raise InterpreterError("the sandbox gave an answer that is too long")
            said = self._read(lengths[0], deadline)
            answer = json.loads(said) if said else {}
            raw = self._read(lengths[1], deadline)
        except (EOFError, BrokenPipeError):
            raise InterpreterError(f"the interpreter died while it {doing} ({self._death()})") from None
        except (TimeoutError, ValueError, RecursionError, ConnectionError) as error:
            self.close()
            raise InterpreterError(f"the sandbox was stopped while it {doing}: {error}") from None
        self._patience = self._limits.wait_s
        if not isinstance(answer, dict):
            raise InterpreterError("the sandbox gave an answer that makes no sense")
        if "error" in answer:
            raise InterpreterError(" ".join(str(answer["error"]).split())[:2000])
        return answer, raw

    def _read(self, count: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        handle, parts = self._process.stdout.fileno(), bytearray()
        while len(parts) < count:
            ready, _, _ = select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"no answer within {self._patience:g} s")
            piece = os.read(handle, count - len(parts))
            if not piece:
                raise EOFError
            parts += piece
        return bytes(parts)

    def _death(self) -> str:
        code = self._process.wait()
        if code == -signal.SIGXCPU:
            return f"more than {self._limits.cpu_s:g} s of processor time"
        if code < 0:
            return f"{signal.Signals(-code).name}; it may use {self._limits.memory >> 20} MiB"
        assert self._process.stderr is not None
        lines = os.read(self._process.stderr.fileno(), 65536).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {code}"


class SandboxSession:
    """A graph in a process with limits; the interface is that of `edge_runtime.interpreter.Session`.

    Parameters
    ----------
    flatbuffer, frames, backend, threads, kernels
        See `edge_runtime.interpreter.Session`. A delegate is not supported: it would be code from a file.
    signature : str, optional
        Another graph than the primary one, such as ``dense``.
    limits : Limits

    Raises
    ------
    InterpreterError
        If the model is refused, crashes the interpreter, or goes beyond a limit; `run` and `invoke` raise it, too.

    Attributes
    ----------
    isolated : bool
        Whether the system let the process leave the network; it cannot open a connection in either case.
    """

    def __init__(
        self,
        flatbuffer: bytes,
        *,
        frames: int | None = None,
        signature: str | None = None,
        backend: str = "auto",
        threads: int = 1,
        delegate: str | None = None,
        kernels: str = "default",
        limits: Limits = Limits(),
    ) -> None:
        if delegate is not None:
            raise ConfigError("a delegate cannot run in the sandbox: leave one of them out")
        self._child = Child(limits, threads)
        request = {
            "frames": frames, "signature": signature, "backend": backend, "threads": threads, "kernels": kernels,
            "memory": limits.memory, "cpu_s": limits.cpu_s,
        }  # fmt: skip
        try:
            about, _ = self._child.ask(json.dumps(request).encode(), flatbuffer, "loaded the model")
            self.backend, self.version = str(about["backend"]), str(about["version"])
            self.input_shape, self.output_shape = (_shape(about[key]) for key in ("input_shape", "output_shape"))
            self.input_dtype, self.output_dtype = (np.dtype(about[key]) for key in ("input_dtype", "output_dtype"))
            self.input_quantization = _pair(about["input_quantization"])
            self.output_quantization = _pair(about["output_quantization"])
            self._nodes = Nodes(*(int(n) for n in about["nodes"]))
            self.isolated = bool(about["isolated"])
        except (KeyError, TypeError, ValueError) as error:  # a process that was taken over may say anything
            self.close()
            raise InterpreterError(f"the sandbox gave an answer that makes no sense: {error}") from None
        except InterpreterError:
            self.close()
            raise
        self._input = np.zeros(self.input_shape, self.input_dtype)

    def __enter__(self) -> SandboxSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def fill(self) -> Array:
        """Return the input, to be written in place."""
        return self._input

    def invoke(self) -> Array:
        """Run the graph on what the input holds and return the output."""
        _, raw = self._child.ask(b"", self._input.tobytes(), "ran")
        try:
            return np.frombuffer(raw, self.output_dtype).reshape(self.output_shape).copy()
        except ValueError as error:
            raise InterpreterError(f"the sandbox gave an output that makes no sense: {error}") from None

    def run(self, x: Array) -> Array:
        """Set the input, run, and return the output.

        Raises
        ------
        InterpreterError
            If `x` has another shape or type than the input, or the process died.
        """
        if x.shape != self.input_shape or x.dtype != self.input_dtype:
            expected = f"{self.input_dtype} of shape {self.input_shape}"
            raise InterpreterError(f"the input is {x.dtype} of shape {x.shape}, the graph takes {expected}")
        self._input[...] = x
        return self.invoke()

    def nodes(self) -> Nodes:
        """Return how many operators a delegate took."""
        return self._nodes


def examine(
    flatbuffer: bytes, subgraph: int, *, backend: str = "auto", budget_s: float = 3.0, limits: Limits = Limits()
) -> dict[str, Any]:
    """Return what `edge_runtime.profile.examine` finds, in a process with limits.

    Raises
    ------
    InterpreterError
        As `SandboxSession`.
    """
    request = {
        "task": "examine", "subgraph": subgraph, "backend": backend, "budget_s": budget_s, "memory": limits.memory,
        "cpu_s": limits.cpu_s + 3 * budget_s,
    }  # fmt: skip
    child = Child(limits, 1)
    try:
        found, _ = child.ask(json.dumps(request).encode(), flatbuffer, "ran the model")
        return {
            "backend": str(found["backend"]), "version": str(found["version"]), "rounds": int(found["rounds"]),
            "total_us": float(found["total_us"]), "shares": [float(share) for share in found["shares"]],
            "arena": {str(key): int(size) for key, size in dict(found["arena"]).items()},
        }  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise InterpreterError(f"the sandbox gave an answer that makes no sense: {error}") from None
    finally:
        child.close()


def _shape(value: Any) -> tuple[int, ...]:
    shape = tuple(int(n) for n in value)
    if len(shape) > 8 or any(n < 0 for n in shape) or int(np.prod(shape, dtype=object)) > _LARGEST_ANSWER:
        raise ValueError(f"shape {str(shape)[:80]}")
    return shape


def _pair(value: Any) -> tuple[float, int]:
    scale, zero_point = value
    return float(scale), int(zero_point)
