"""The process that runs one interpreter for `edge_runtime.crosscheck`: ``... FOLDER BACKEND``."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import tflite
from .errors import EdgeBenchError, InterpreterError
from .executor import Executor
from .interpreter import Session
from .truncate import truncated

Array = NDArray[Any]


def distance(a: Array, b: Array) -> Array:
    """Return by how much arrays differ, element by element."""
    kind = np.int64 if a.dtype.kind in "iu" else np.float64
    apart: Array = np.abs(a.astype(kind) - b.astype(kind))
    return apart


def differ(a: Array, b: Array) -> bool:
    """Whether arrays differ; floats by more than the last bits, which depend on the order of a sum."""
    allowed = 0.0 if a.dtype.kind in "iu" else 1e-5 * max(1.0, float(np.abs(b).max(initial=0)))
    return float(distance(a, b).max(initial=0)) > allowed


def work(folder: Path, backend: str) -> dict[str, Any]:
    """Run everything that is asked for on one backend and return its version and an error for each run."""
    flatbuffer = (folder / "model.tflite").read_bytes()
    graphs = tflite.read(flatbuffer).subgraphs
    version, errors = "", []
    for number, asked in enumerate(json.loads((folder / "request.json").read_text())):
        x = np.load(folder / f"in-{number}.npy", allow_pickle=False)
        graph = graphs[asked["subgraph"]]
        own = graph.tensors[graph.inputs[0]].shape == x.shape[1:]
        run = _Run(flatbuffer, asked["subgraph"], None if own else x.shape[3], backend, asked["kernels"])
        try:
            if asked["whole"]:
                session = run.session()
                arrays = [np.stack([session.run(one) for one in x])]
            elif backend == "numpy":
                arrays = run.tensors(graph, x)
            else:
                arrays = run.prefixes(graph, x, folder / f"wanted-{number}.npz")
            version = run.version
            np.savez(folder / f"out-{number}.npz", *arrays)
            errors.append("")
        except InterpreterError as error:
            if not version and "refuses the model" not in str(error):
                return {"unusable": str(error)}
            errors.append(str(error))
    return {"version": version, "errors": errors}


@dataclass
class _Run:
    """One graph of a model on one interpreter."""

    flatbuffer: bytes
    subgraph: int
    frames: int | None
    backend: str
    kernels: str
    version: str = ""

    def session(self, stop: int | None = None) -> Session:
        """Return the graph, or its first operators, ready to run."""
        cut = truncated(self.flatbuffer, stop, subgraph=self.subgraph)
        made = Session(cut, frames=self.frames, backend=self.backend, kernels=self.kernels)
        self.version = made.version
        return made

    def tensors(self, graph: tflite.Subgraph, x: Array) -> list[Array]:
        """Return what every operator gives, from the executor, which shows all of it in one run."""
        executor = Executor(truncated(self.flatbuffer, subgraph=self.subgraph), frames=self.frames)
        self.version = executor.version
        kept = [executor.tensors(one) for one in x]
        return [np.stack([tensors[o.outputs[0]] for tensors in kept]) for o in graph.operators]

    def prefixes(self, graph: tflite.Subgraph, x: Array, wanted: Path) -> list[Array]:
        """Return what operators give, from graphs that end there, up to the first that differs from `wanted`."""
        arrays: list[Array] = []
        with np.load(wanted, allow_pickle=False) if wanted.is_file() else nullcontext({}) as reference:
            for stop in range(1, len(graph.operators) + 1):
                session = self.session(stop)
                arrays.append(np.stack([session.run(one) for one in x]))
                if reference and differ(arrays[-1], reference[f"arr_{stop - 1}"]):
                    break
        return arrays


if __name__ == "__main__":
    try:
        print(json.dumps(work(Path(sys.argv[1]), sys.argv[2])))
    except EdgeBenchError as error:
        print(json.dumps({"unusable": str(error)}))
