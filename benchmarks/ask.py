"""Asking a fresh process: a module of this package that takes a JSON request and prints a JSON answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from edge_runtime import EdgeBenchError, errors


def ask(module: str, request: Mapping[str, Any], *, threads: int = 1) -> Any:
    """Run ``python -m edge_bench.benchmarks.MODULE REQUEST`` and return its answer.

    Parameters
    ----------
    module : str
    request : mapping
        What JSON can hold.
    threads : int
        For numpy's and other libraries' thread pools.

    Raises
    ------
    EdgeBenchError
        What the process reports, or that it died.
    """
    environment = dict(os.environ)
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environment[name] = str(threads)
    done = subprocess.run(
        [sys.executable, "-m", f"edge_bench.benchmarks.{module}", json.dumps(request)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise EdgeBenchError(f"the measuring process died: {last}") from None
    if "error" in answer:
        raise getattr(errors, answer["kind"])(answer["error"])
    return answer
