"""Asking a fresh process: a module of this package that takes a JSON request and prints a JSON answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from edge_runtime import EdgeBenchError, errors


def ask(
    module: str, request: Mapping[str, Any], *, threads: int = 1, more: Mapping[str, str] | None = None
) -> Any:
    """Run ``python -m MODULE REQUEST`` and return its answer.

    Parameters
    ----------
    module : str
        Of this package, or with dots a whole name.
    request : mapping
        What JSON can hold.
    threads : int
        For numpy's and other libraries' thread pools.
    more : mapping, optional
        Variables of the environment.

    Raises
    ------
    EdgeBenchError
        What the process reports, or that it died.
    """
    environment = dict(os.environ)
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environment[name] = str(threads)
    environment.update(more or {})
    whole = module if "." in module else f"edge_bench.benchmarks.{module}"
    done = subprocess.run(
        [sys.executable, "-m", whole, json.dumps(request)],
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
