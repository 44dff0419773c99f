"""The process behind `edge_runtime.sandbox`: ``python -m edge_runtime.sandbox_child``, requests on standard input.

It gives up what it can before it reads the model: first the network, then, with the interpreter imported and warm,
memory, processor time, and opening anything at all (an address of a file, a socket or a pipe is a file descriptor).
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
from typing import Any, BinaryIO

import numpy as np

from . import bundle, interpreter
from .errors import EdgeBenchError
from .interpreter import Session, SignatureSession
from .profile import examine
from .sandbox import HEAD

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # linux/sched.h
_NO_NEW_PRIVILEGES = 38  # linux/prctl.h


def leave_network() -> bool:
    """Move to a namespace without a network, where the system lets a process do so; say whether it did."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        return bool(libc.unshare(_NEW_USER | _NEW_NETWORK) == 0)
    except (OSError, AttributeError):
        return False


def warm(backend: str) -> None:
    """Let the interpreter look at the processor, which takes files, with a model of our own."""
    names = bundle.shipped()
    if names:
        session = Session(bundle.read(names[0]).flatbuffer, backend=backend)
        session.invoke()


def limit(memory: int) -> None:
    """Keep this process from more memory, from writing and from opening anything."""
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))  # those that are open stay so


def more_time(seconds: float) -> None:
    """Allow so much processor time from now on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds + 1)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _answer(to: BinaryIO, about: dict[str, Any], payload: bytes = b"") -> None:
    text = json.dumps(about).encode() if about else b""
    to.write(HEAD.pack(len(text), len(payload)) + text + payload)
    to.flush()


def _request(source: BinaryIO) -> tuple[bytes, bytes]:
    head = source.read(HEAD.size)
    if len(head) < HEAD.size:
        raise SystemExit(0)  # the parent is gone
    text, payload = HEAD.unpack(head)
    return source.read(text), source.read(payload)


def _open(options: dict[str, Any], flatbuffer: bytes) -> Session:
    chosen = {key: options[key] for key in ("backend", "threads")}
    if options["signature"] is not None:
        return SignatureSession(flatbuffer, options["signature"], **chosen)
    return Session(flatbuffer, frames=options["frames"], kernels=options["kernels"], **chosen)


def serve(source: BinaryIO, to: BinaryIO) -> None:
    """Load the model of the first request, then run it on each further one."""
    text, flatbuffer = _request(source)
    options = json.loads(text)
    isolated = leave_network()
    if options["backend"] == "auto":
        options["backend"] = interpreter.first_backend()
    warm(options["backend"])
    limit(options["memory"])
    more_time(options["cpu_s"])
    if options.get("task") == "examine":
        keys = ("subgraph", "backend", "budget_s")
        return _answer(to, examine(flatbuffer, **{key: options[key] for key in keys}))
    session = _open(options, flatbuffer)
    nodes = session.nodes() if isinstance(session, Session) else None
    _answer(
        to,
        {
            "backend": session.backend, "version": session.version, "isolated": isolated,
            "input_shape": session.input_shape, "output_shape": session.output_shape,
            "input_dtype": session.input_dtype.name, "output_dtype": session.output_dtype.name,
            "input_quantization": [float(session.input_quantization[0]), int(session.input_quantization[1])],
            "output_quantization": [float(session.output_quantization[0]), int(session.output_quantization[1])],
            "nodes": [nodes.total, nodes.delegated, nodes.partitions] if nodes else [0, 0, 0],
        },
    )  # fmt: skip
    while True:
        _, raw = _request(source)
        more_time(options["cpu_s"])
        x = np.frombuffer(raw, session.input_dtype).reshape(session.input_shape)
        _answer(to, {}, session.run(x).tobytes())


def main() -> None:
    """Serve, with standard output kept free of what libraries print."""
    to = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.set_blocking(2, False)  # nobody reads it while we live: what does not fit is dropped
    try:
        serve(sys.stdin.buffer, to)
    except EdgeBenchError as error:
        _answer(to, {"error": str(error)})
    except MemoryError:
        _answer(to, {"error": "out of memory"})
    except Exception as error:  # a limit shows itself as it likes
        _answer(to, {"error": f"the model did not run: {type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
