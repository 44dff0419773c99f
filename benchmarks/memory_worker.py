"""The fresh process whose memory is read: ``python -m edge_bench.benchmarks.memory_worker REQUEST`` (JSON).

Nothing is imported before the first reading but what this file needs, so the stages mean what they say.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

from . import memory
from .answer import serve


def by_stage(request: dict[str, Any]) -> dict[str, Any]:
    """Load a bundle, label clips, and return the memory after each stage, and what many calls added."""
    stages = {"python": memory.now()}
    import numpy as np

    stages["numpy"] = memory.now()
    from edge_runtime import Classifier

    stages["runtime"] = memory.now()
    classifier = Classifier(
        request["bundle"], clip_s=request["clip_s"], backend=request["backend"], threads=request["threads"]
    )
    stages["load"] = memory.now()
    x = np.random.default_rng(0).uniform(-0.3, 0.3, classifier.samples).astype(np.float32)

    def call() -> None:
        classifier.probabilities(classifier.front_end(x))

    call()
    stages["first_call"] = memory.now()
    for _ in range(request["settle"]):
        call()
    gc.collect()
    stages["steady"] = memory.now()
    blocks = sys.getallocatedblocks()
    growth = None
    if request["calls"]:
        for _ in range(request["calls"]):
            call()
        gc.collect()
        after = memory.now()
        before = stages["steady"]

        def more(kind: str) -> int | None:
            a, b = getattr(before, kind), getattr(after, kind)
            return None if a is None or b is None else b - a

        growth = {
            "calls": request["calls"], "rss": more("rss"), "anonymous": more("anonymous"),
            "python_blocks": sys.getallocatedblocks() - blocks,
        }  # fmt: skip
    return {
        "stages": {name: values.to_dict() for name, values in stages.items()},
        "peak": memory.peak(),
        "growth": growth,
        "backend": classifier.session.backend,
        "backend_version": classifier.session.version,
    }


def arena(request: dict[str, Any]) -> dict[str, Any]:
    """Return the interpreter's arena for this clip length: bytes from its first to its last tensor.

    With plain kernels, because a delegate hides its own; so it is in a process of its own.
    """
    from edge_runtime.bundle import read
    from edge_runtime.interpreter import Session

    bundle = read(request["bundle"])
    frames = bundle.padded_frames(bundle.clip_frames(request["clip_s"]))
    session = Session(bundle.flatbuffer, frames=frames, backend=request["backend"], kernels="plain")
    constant = {tensor.index for tensor in bundle.model.subgraphs[0].tensors if tensor.data is not None}
    spans = [span for index, span in session.addresses().items() if index not in constant]
    return {"arena": max(at + size for at, size in spans) - min(at for at, _ in spans) if spans else None}


if __name__ == "__main__":
    serve(lambda request: arena(request) if request["task"] == "arena" else by_stage(request))
