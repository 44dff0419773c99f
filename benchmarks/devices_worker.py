"""One way of running a bundle's network, timed in a fresh process: ``python -m edge_bench.benchmarks.devices_worker``.

The answer has two lists of microseconds for a batch of one: `with_copies`, from an array of the host to an array of the
host, and `without_copies`, the computation alone with its input in place.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from typing import Any

WARM = 20


def timed(call: Callable[[], Any], *, budget_s: float, most: int = 2000) -> list[float]:
    """Return microseconds of single calls, after some to warm up, until the budget ends."""
    clock = time.perf_counter_ns
    overhead = min(-clock() + clock() for _ in range(1000))
    for _ in range(WARM):
        call()
    found: list[float] = []
    until = clock() + int(budget_s * 1e9)
    while len(found) < 5 or (len(found) < most and clock() < until):
        began = clock()
        call()
        found.append((clock() - began - overhead) / 1e3)
    return found


def interpreter(request: dict[str, Any]) -> dict[str, Any]:
    """Time a TFLite interpreter or the numpy executor."""
    import numpy as np

    from edge_runtime import Classifier

    classifier = Classifier(
        request["bundle"], clip_s=request["clip_s"], backend=request["backend"], threads=request["threads"]
    )
    session = classifier.session
    features = np.random.default_rng(0).standard_normal((classifier.frames, classifier.bundle.front_end.features))
    x = classifier.network_input(features.astype(np.float32)).copy()
    gc.disable()
    nodes = session.nodes()
    return {
        "version": session.version, "note": f"{nodes.delegated} of {nodes.total} nodes delegated",
        "with_copies": timed(lambda: session.run(x), budget_s=request["budget_s"]),
        "without_copies": timed(session.invoke, budget_s=request["budget_s"]),
    }  # fmt: skip


def compiled(request: dict[str, Any]) -> dict[str, Any]:
    """Time LiteRT's compiled model on its CPU or GPU accelerator."""
    try:
        from ai_edge_litert import __version__
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    except ImportError as error:
        return {"absent": f"this LiteRT has no compiled models ({error})"}
    import numpy as np

    from edge_runtime.bundle import read
    from edge_runtime.quiet import quiet_stderr

    bundle = read(request["bundle"])
    gpu = request["accelerator"] == "gpu"
    with quiet_stderr() as said:
        try:
            model = CompiledModel.from_buffer(
                bundle.flatbuffer, hardware_accel=HardwareAccelerator.GPU if gpu else HardwareAccelerator.CPU
            )
        except Exception as error:  # whatever its binding raises
            why = " ".join(f"{error} {said()}".split()).rpartition("] ")[2].partition(" ===")[0]
            return {"absent": f"LiteRT has no {request['accelerator'].upper()} here ({why[:200]})"}
    key = "clip" if "clip" in model.get_signature_list() else next(iter(model.get_signature_list()))
    ((input_name, details),) = model.get_input_tensor_details(key).items()
    ((output_name, result),) = model.get_output_tensor_details(key).items()
    if gpu and not model.is_fully_accelerated():
        return {"absent": "LiteRT has no GPU here that takes the whole graph"}
    put = model.create_input_buffer_by_name(key, input_name)
    got = model.create_output_buffer_by_name(key, output_name)
    dtype = np.dtype(details["dtype"])
    x = (np.random.default_rng(0).standard_normal(details["shape"]) * (30 if dtype.kind == "i" else 1)).astype(dtype)
    kind, count = np.dtype(result["dtype"]).type, int(np.prod(result["shape"]))

    def run() -> None:
        model.run_by_name(key, {input_name: put}, {output_name: got})

    def whole() -> Any:
        put.write(x)
        run()
        return got.read(count, kind)

    whole()
    gc.disable()
    return {
        "version": __version__, "note": f"{details['shape'][-2]} frames",
        "with_copies": timed(whole, budget_s=request["budget_s"]),
        "without_copies": timed(run, budget_s=request["budget_s"]),
    }  # fmt: skip


def main() -> None:
    """Answer one request."""
    request = json.loads(sys.argv[1])
    from edge_runtime import EdgeBenchError

    try:
        answer = compiled(request) if request["way"] == "compiled" else interpreter(request)
    except EdgeBenchError as error:  # a backend that does not work here is a row that says so
        answer = {"absent": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
