"""The agent's command line: ``agent status | flash | rollback | recover | exec COMMAND ... | enrol | signers``.

Answers are one JSON object on standard output, progress is lines on standard error. Exit codes: 0 done, 1 rolled back,
2 refused.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from . import disk, enrolment, steps
from .errors import CannotTell, Refused, RolledBack
from .service import COMMANDS
from .store import Store


def say(text: str) -> None:
    """Print a line of progress; nobody may be listening any more, and that is no reason to stop."""
    try:
        os.write(2, f"{text}\n".encode())
    except OSError:
        pass


def run(root: str, arguments: list[str]) -> dict[str, Any]:
    """Do what the arguments say and return the answer."""
    command, *rest = arguments or [""]
    if command == "enrol":
        return enrolment.enrol(root, sys.stdin.buffer.read(1 << 20))
    store = Store(root)
    if command == "status":
        return store.status()
    if command == "signers":
        return enrolment.change_signers(store, sys.stdin.buffer.read(1 << 20))
    if command == "exec":
        execute(store, rest)
    changing: dict[str, Callable[[], dict[str, Any]]] = {
        "flash": lambda: steps.flash(store, sys.stdin.buffer, say),
        "rollback": lambda: steps.rollback(store, say),
        "recover": lambda: _recover(store),
    }
    # A lost connection must not end the work in the middle.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if command not in changing:
        raise Refused(f"the agent knows no {command!r}: enrol again to renew it")
    return changing[command]()


def _recover(store: Store) -> dict[str, Any]:
    with store.lock():
        before = store.active()
        steps.recover(store, say)
        return {**store.status(), "changed": store.active() != before}


def execute(store: Store, arguments: list[str]) -> None:
    """Become ``edge-bench COMMAND ... --model ACTIVE``, after a check that the active bundle is what was signed.

    Raises
    ------
    Refused
        If no intact bundle is active.
    """
    if not arguments or arguments[0] not in COMMANDS:
        raise Refused(f"exec takes one of {', '.join(COMMANDS)}, and its arguments")
    try:
        with store.lock():
            steps.recover(store, say)
    except Refused as error:  # a flash is at work, and tries this very bundle
        say(str(error))
    except OSError as error:  # a full or read-only disk: what is there is still checked below
        store.log(f"recover: {error}")
    store.load()
    slot = store.active()
    if slot is None:
        raise Refused("no slot is active: flash a bundle")
    try:
        store.verify(slot)
    except CannotTell as error:
        # what is left without ssh-keygen: the sha256 that the state noted when the bundle was confirmed
        store.log(f"exec: {error}")
        if store.damaged or disk.sha256(store.bundle(slot), from_medium=True) != store.state["slots"][slot]["sha256"]:
            raise
    start = "import sys; from edge_bench.benchmarks.cli import main; main(sys.argv[1:])"
    command, *rest = arguments
    model = [store.bundle(slot)] if command == "run" else ["--model", store.bundle(slot)]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-c", start, command, *model, *rest])


def main(arguments: list[str]) -> int:
    """Run the agent on ``ROOT COMMAND ...`` and return the exit code."""
    try:
        answer, code = run(arguments[0], arguments[1:]), 0
    except RolledBack as error:
        answer, code = {"error": str(error), "kind": error.kind}, 1
    except Refused as error:
        answer, code = {"error": str(error), "kind": error.kind}, 2
    except OSError as error:
        answer, code = {"error": f"the disk there fails: {error}", "kind": "refused"}, 2
    if code and arguments[1:2] == ["exec"]:
        say(f"edge-bench: {answer['error']}")
    try:
        os.write(1, json.dumps(answer).encode() + b"\n")
    except OSError:  # the connection is gone, the work is done
        pass
    return code
