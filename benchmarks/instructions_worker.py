"""The program whose instructions are counted: ``python instructions_worker.py BUNDLE CLIP_S CALLS BACKEND [...]``.

It needs `edge_runtime` only and is run as a file, so it can be copied to a board or into an emulated one. One thread
and no randomness; the sound is the bundle's own golden vector.

For every stage of `STAGES` in turn it makes some calls to warm up, and then marks, makes CALLS calls, marks, makes
twice as many, and marks. A mark is the system call ``getppid``, which nothing else here makes: a counter (callgrind, a
QEMU plugin) notes its count there. With counts a, b, c at the marks of a stage, ``((c - b) - (b - a)) / CALLS`` is one
call, free of what the loop and the mark cost. So only the last ``3 * len(STAGES)`` marks of a process mean anything.

Standard output is one line of JSON: `stages`, `calls`, what ran and with which processor features. Further arguments:
``perf`` notes the processor's own counter at the marks, as `counts`; ``callgrind`` starts valgrind's counting, which
spares it the imports; ``STAGE=TURNS`` plants a loop of so many turns in every call of a stage, a test of what counts.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
from collections.abc import Callable
from itertools import repeat
from typing import Any

STAGES = ("frontend_hop", "frontend", "model", "invoke")
_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241, "armv7l": 364, "armv6l": 364, "riscv64": 241}
_WARM = 20  # Python's adaptive bytecode has settled, every buffer is there


def stages(bundle_path: str, clip_s: float, backend: str) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
    """Return what a call of each stage is, and what runs it."""
    import numpy as np

    from edge_runtime import Classifier, StreamingFrontEnd

    classifier = Classifier(bundle_path, clip_s=clip_s, backend=backend)
    bundle = classifier.bundle
    if bundle.golden:
        sound = bundle.golden[0].waveform.astype(np.float32) / np.float32(32768)
    else:
        sound = np.random.default_rng(0).uniform(-0.3, 0.3, classifier.samples).astype(np.float32)
    x = np.resize(sound, classifier.samples)
    features = classifier.front_end(x)
    stream = StreamingFrontEnd(bundle.front_end)
    hop = x[: bundle.front_end.hop_length].copy()
    stream.push(x[: bundle.front_end.frame_length])  # from here on every hop gives a frame
    nodes = classifier.session.nodes()
    about = {
        "bundle": bundle.name,
        "sha256": bundle.sha256,
        "clip_s": clip_s,
        "backend": classifier.session.backend,
        "backend_version": classifier.session.version,
        "nodes": nodes.total,
        "delegated_nodes": nodes.delegated,
        "python": f"{platform.python_version()} ({', '.join(platform.python_build())}, {platform.python_compiler()})",
        "numpy": np.__version__,
        "architecture": platform.machine(),
        "processor_features": _features(np),
    }
    return {
        "frontend_hop": lambda: stream.push(hop),
        "frontend": lambda: classifier.front_end(x),
        "model": lambda: classifier.probabilities(features),
        "invoke": classifier.session.invoke,
    }, about


def _features(np: Any) -> list[str]:
    """Return the processor features that numpy saw and may use: it chooses its kernels by them."""
    module = getattr(np, "_core", None) or np.core
    return sorted(name for name, there in module._multiarray_umath.__cpu_features__.items() if there)


class Counter:
    """The processor's count of this process' instructions outside the kernel, by ``perf_event_open`` of Linux.

    Raises
    ------
    OSError
        If the kernel refuses, or the (virtual) processor has no such counter.
    """

    def __init__(self, kind: int = 0, what: int = 1) -> None:  # PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS
        import ctypes
        import struct

        number = _PERF_EVENT_OPEN.get(platform.machine())
        if sys.platform != "linux" or number is None:
            raise OSError(f"no perf counters on {sys.platform} {platform.machine()}")
        size = 112
        flags = 1 << 5 | 1 << 6  # exclude_kernel, exclude_hv
        attributes = struct.pack("<IIQQQQQ", kind, size, what, 0, 0, 0, flags).ljust(size, b"\0")
        libc = ctypes.CDLL(None, use_errno=True)
        self._file = libc.syscall(number, attributes, 0, -1, -1, 0)
        if self._file < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"perf_event_open: {os.strerror(code)}")

    def read(self) -> int:
        """Return the count so far."""
        return int.from_bytes(os.read(self._file, 8), sys.byteorder)


def start_callgrind() -> None:
    """Tell valgrind to count from here on, which spares the start of Python and the imports.

    This is the client request that ``valgrind/callgrind.h`` has as a macro, in machine code of x86-64; a processor
    that is no valgrind does nothing there.
    """
    import ctypes
    import mmap

    code = bytes.fromhex("4889f8" "31d2" "48c1c703" "48c1c70d" "48c1c73d" "48c1c733" "4887db" "4889d0" "c3")
    page = mmap.mmap(-1, len(code), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    ask = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    request = (ctypes.c_ulong * 6)(0x43540000 + 4)  # tool "CT", CALLGRIND_START_INSTRUMENTATION
    ask(ctypes.addressof(request))


def planted(call: Callable[[], Any], turns: int) -> Callable[[], Any]:
    """Return a call that takes a loop of so many turns more."""

    def longer() -> None:
        call()
        for _ in repeat(None, turns):  # a range would make numbers, dearer ones from 257 on
            pass

    return longer if turns else call


def main(arguments: list[str]) -> None:
    """Run every stage between marks and say what ran."""
    bundle, clip_s, calls, backend, *more = arguments
    counter = Counter() if "perf" in more else None
    plant = {stage: int(turns) for stage, _, turns in (a.partition("=") for a in more if "=" in a)}
    made, about = stages(bundle, float(clip_s), backend)
    if "callgrind" in more:
        start_callgrind()
    mark = counter.read if counter else os.getppid
    counts = []
    gc.disable()
    for stage in STAGES:
        call = planted(made[stage], plant.get(stage, 0))
        for _ in range(_WARM):
            call()
        counts.append(mark())
        for times in (int(calls), 2 * int(calls)):
            for _ in range(times):
                call()
            counts.append(mark())
    print(json.dumps({**about, "stages": STAGES, "calls": int(calls), "counts": counts if counter else None}))


if __name__ == "__main__":
    if sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
        del sys.path[0]  # the modules beside this file have names of the standard library's
    main(sys.argv[1:])
