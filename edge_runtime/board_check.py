"""A process that tries bundles for a board's agent: ``python -m edge_runtime.board_check``.

Requests are lines of JSON on standard input, each with ``bytes`` of payload behind it; every one gets a line of JSON:

* ``{"do": "load"}`` with a bundle as payload: checksums, and an interpreter here runs all of its operators;
* ``{"do": "golden"}`` with a bundle as payload, or with ``path``: also its golden vectors.

The answer has ``runtime, backend, backend_version, sha256, front_end`` and what the vectors differed by, or ``error``.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import Any

from . import __version__
from .bundle import Bundle, parse, read
from .classify import check_golden, golden_fine
from .errors import BundleError, EdgeBenchError
from .interpreter import Session, SignatureSession


def front_end_sha256(bundle: Bundle) -> str:
    """Return the sha256 of a bundle's front-end configuration, as a signed manifest has it."""
    text = json.dumps(bundle.info["front_end"], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def try_operators(bundle: Bundle) -> tuple[str, str]:
    """Build and run every form of a bundle once; return the interpreter and its version.

    Raises
    ------
    InterpreterError
        If the interpreter here does not have an operator, or fails.
    """
    session = Session(bundle.flatbuffer)
    session.run(session.fill().copy())
    for key in bundle.info["forms"]:
        if key != "clip":
            form = SignatureSession(bundle.flatbuffer, key)
            form.run(form.fill().copy())
    found = session.backend, session.version
    session.close()
    return found


def answer(request: dict[str, Any], payload: bytes) -> dict[str, Any]:
    """Return the answer to a request.

    Raises
    ------
    EdgeBenchError
        If the bundle is damaged, does not run here, or gives other results than the workstation got.
    """
    bundle = read(str(request["path"])) if "path" in request else parse(payload, what="the bundle")
    backend, version = try_operators(bundle)
    found: dict[str, Any] = {
        "runtime": __version__, "backend": backend, "backend_version": version, "name": bundle.name,
        "sha256": bundle.sha256, "front_end": front_end_sha256(bundle),
    }  # fmt: skip
    if request.get("do") == "golden":
        if not bundle.golden:
            raise BundleError("the bundle has no golden vectors: make it anew with edge-bench quantize")
        report = check_golden(bundle, backend=backend)
        found |= {"vectors": report.vectors, "features": report.features, "output_lsb": report.output_lsb}
        if not golden_fine(report, bundle, backend):
            raise BundleError(
                f"the golden vectors differ on this board: features by {report.features:.3g} standard deviations, "
                f"outputs by {report.output_lsb:g}; see edge-bench verify --interpreters"
            )
    return found


def serve() -> None:
    """Answer requests until standard input ends."""
    source = sys.stdin.buffer
    # answers go to what was standard output; whatever an interpreter prints goes to standard error
    sink = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    while line := source.readline():
        try:
            request = json.loads(line)
            reply = answer(request, source.read(int(request["bytes"])))
        except EdgeBenchError as error:
            reply = {"error": str(error)}
        sink.write(json.dumps(reply) + "\n")
        sink.flush()


if __name__ == "__main__":
    serve()
