"""The same work on many boards at once: a line of progress each, and one that fails does not stop the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge_runtime.errors import EdgeBenchError

from .targets import Target
from .transport import Transport

T = TypeVar("T")
AT_ONCE = 16


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What became of one board: a value, or an error."""

    name: str
    value: T | None
    error: EdgeBenchError | None


def on_each(
    boards: Sequence[Target],
    work: Callable[[Transport, Callable[[str], None]], T],
    say: Callable[[str], None] = lambda line: None,
) -> list[Outcome[T]]:
    """Connect to every board and do `work` there; return an outcome each, in the order given.

    Parameters
    ----------
    boards : sequence of Target
    work : callable
        Gets the transport and a function that reports what it is doing, as one line of text.
    say : callable
        Gets ``name: text`` lines, one at a time.
    """
    lock = threading.Lock()
    width = max((len(board.name) for board in boards), default=0)

    def one(board: Target) -> Outcome[T]:
        def report(text: str) -> None:
            with lock:
                say(f"{board.name:{width}s}  {text}")

        try:
            report("connecting")
            with board.connect() as transport:
                value = work(transport, report)
        except EdgeBenchError as error:
            report(f"FAILED: {error}")
            return Outcome(board.name, None, error)
        return Outcome(board.name, value, None)

    with ThreadPoolExecutor(min(AT_ONCE, max(1, len(boards)))) as pool:
        return list(pool.map(one, boards))
