"""The process that runs one interpreter for `edge_runtime.crosscheck`: ``... FOLDER BACKEND``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from . import tflite
from .errors import EdgeBenchError, InterpreterError
from .interpreter import Session
from .truncate import truncated


def work(folder: Path, backend: str) -> dict[str, Any]:
    """Run everything that is asked for on one backend and return its version and an error for each run."""
    flatbuffer = (folder / "model.tflite").read_bytes()
    model = tflite.read(flatbuffer)
    version, errors = "", []
    for number, run in enumerate(json.loads((folder / "request.json").read_text())):
        x = np.load(folder / f"in-{number}.npy", allow_pickle=False)
        graph = model.subgraphs[run["subgraph"]]
        stops = [None] if run["whole"] else range(1, len(graph.operators) + 1)
        arrays = [] if run["whole"] else [np.array([operator.name for operator in graph.operators])]
        try:
            for stop in stops:
                cut = truncated(flatbuffer, stop, subgraph=run["subgraph"])
                own = graph.tensors[graph.inputs[0]].shape == x.shape[1:]
                session = Session(
                    cut, frames=None if own else x.shape[3], backend=backend, kernels=run["kernels"]
                )
                version = session.version
                arrays.append(np.stack([session.run(one) for one in x]))
            np.savez(folder / f"out-{number}.npz", *arrays)
            errors.append("")
        except InterpreterError as error:
            if not version and "refuses the model" not in str(error):
                return {"unusable": str(error)}
            errors.append(str(error))
    return {"version": version, "errors": errors}


if __name__ == "__main__":
    try:
        print(json.dumps(work(Path(sys.argv[1]), sys.argv[2])))
    except EdgeBenchError as error:
        print(json.dumps({"unusable": str(error)}))
