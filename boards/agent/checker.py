"""What this board's runtime makes of a bundle, found out in another process: an interpreter may crash on a model."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from types import TracebackType
from typing import Any

from .errors import CannotTell, Refused

PATIENCE_S = 300.0  # of a slow or emulated processor


class Checker:
    """A process of the board's Python with edge_runtime; see `edge_runtime.board_check` for what it is asked."""

    def __init__(self) -> None:
        # -S and -I of this process are not for that one: the runtime may be in a user's own site-packages.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edge_runtime.board_check"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", bufsize=0,
        )  # fmt: skip

    def __enter__(self) -> Checker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def ask(self, request: dict[str, Any], payload: bytes = b"") -> dict[str, Any]:
        """Return the answer to a request.

        Raises
        ------
        Refused
            If the answer is an error, or the process dies or says nothing.
        CannotTell
            If edge_runtime is not installed.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        line = json.dumps({**request, "bytes": len(payload)}).encode() + b"\n"
        try:
            view = memoryview(line + payload)
            while view:
                view = view[self._process.stdin.write(view) :]
            answer = json.loads(self._line(time.monotonic() + PATIENCE_S))
        except TimeoutError:
            raise Refused(f"the check of the bundle gave no answer within {PATIENCE_S:g} s") from None
        except (OSError, ValueError):
            raise self._death() from None
        if "error" in answer:
            raise Refused(str(answer["error"]))
        return dict(answer)

    def _line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        said = bytearray()
        while not said.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                raise OSError
            said += piece
        return bytes(said)

    def _death(self) -> Refused:
        self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        lines = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        last = lines[-1] if lines else f"exit code {self._process.returncode}"
        if "No module named" in last:
            return CannotTell(f"{sys.executable} there has no edge_runtime ({last}): pip install edge-bench there")
        return Refused(f"the check of the bundle died ({last})")
