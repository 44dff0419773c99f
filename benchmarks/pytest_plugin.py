"""A pytest plugin: a project gates its model in its own tests.

It is registered under the entry point ``edge_bench`` and imports nothing until a test asks for the fixture
`edge_bench_gate`. Every test that does gets the marker ``edge_bench``, so ``pytest -m "not edge_bench"`` is quick.

Settings in the project's own pytest configuration::

    edge_bench_seconds = 60          # budget of a gate
    edge_bench_inconclusive = fail   # or skip, warn, pass
"""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

INCONCLUSIVE = ("fail", "skip", "warn", "pass")


class InconclusiveWarning(UserWarning):
    """A gate could not tell within its budget, and the project asked not to fail for it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings and their options."""
    parser.addini("edge_bench_seconds", "Budget of a gate of edge-bench, seconds.", default="60")
    words = ", ".join(INCONCLUSIVE)
    parser.addini("edge_bench_inconclusive", f"What an inconclusive gate does: {words}.", default="fail")
    group = parser.getgroup("edge-bench")
    group.addoption("--edge-bench-seconds", type=float, metavar="S", help="Budget of a gate, seconds.")
    group.addoption("--edge-bench-inconclusive", choices=INCONCLUSIVE, help="What an inconclusive gate does.")
    group.addoption("--edge-bench-json", metavar="DIR", help="Write each gate's result to DIR/TEST.json.")


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker."""
    config.addinivalue_line("markers", "edge_bench: measures with edge-bench; takes up to a minute")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark every test that uses the fixture."""
    if "edge_bench_gate" in getattr(item, "fixturenames", ()):
        item.add_marker("edge_bench")


class Gate:
    """What the fixture gives: a function that gates, and fails the test with the gate's own table."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._count = 0

    def __call__(
        self, candidate: str | Path, *, baseline: str | Path, budget: str | Path | None = None,
        evaluations: tuple[str | Path, str | Path] | None = None, margin: float = 2.0, tolerated: float = 5.0,
        seconds: float | None = None, clip_s: float = 2.0, clock: str = "wall", backend: str = "auto",
        threads: int = 1, inconclusive: str | None = None, build: str | None = None, force: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Measure both and fail the test when the candidate is slower or over budget.

        Parameters
        ----------
        candidate : path or shipped name
        baseline : path, shipped name or git ref
            As ``edge-bench gate --baseline`` takes it.
        budget : path, optional
            TOML file with absolute limits.
        evaluations : pair of paths, optional
            Files of ``edge-bench evaluate --json`` of candidate and baseline, for the limit ``accuracy_drop``.
        margin, tolerated : float
            Percent of slow-down that never alarms, and below which a pass must be.
        seconds, inconclusive : optional
            Instead of the project's settings.

        Returns
        -------
        dict
            ``edge-bench/gate/1``.
        """
        from edge_runtime import EdgeBenchError

        from .gate_cli import options_of, render
        from .gating import gate_any

        try:
            options = options_of(
                board=None if budget is None else Path(budget),
                evaluations=None if evaluations is None else (Path(evaluations[0]), Path(evaluations[1])),
                margin=margin, tolerated=tolerated, budget_s=self._seconds(seconds), clip_s=clip_s, clock=clock,
                backend=backend, threads=threads,
            )  # fmt: skip
            found = gate_any(str(candidate), str(baseline), options, build=build, force=force)
        except EdgeBenchError as error:
            pytest.fail(f"edge-bench: {error}", pytrace=False)
        self._keep(found)
        if found["verdict"] == "regress":
            pytest.fail(render(found), pytrace=False)
        if found["verdict"] == "inconclusive":
            self._open(render(found), inconclusive)
        return found

    def _seconds(self, given: float | None) -> float:
        config = self._request.config
        value = given or config.getoption("--edge-bench-seconds") or config.getini("edge_bench_seconds")
        try:
            seconds = float(value)
        except ValueError:
            seconds = 0.0
        if seconds < 5:
            raise pytest.UsageError(f"edge_bench_seconds is {value!r}, must be a number of at least 5")
        return seconds

    def _open(self, text: str, given: str | None) -> None:
        config = self._request.config
        way = given or config.getoption("--edge-bench-inconclusive") or config.getini("edge_bench_inconclusive")
        if way not in INCONCLUSIVE:
            raise pytest.UsageError(f"edge_bench_inconclusive is {way!r}, must be one of {', '.join(INCONCLUSIVE)}")
        if way == "fail":
            pytest.fail(text, pytrace=False)
        if way == "skip":
            pytest.skip(text)
        if way == "warn":
            warnings.warn(InconclusiveWarning(text), stacklevel=3)

    def _keep(self, found: dict[str, Any]) -> None:
        """Put the verdict into the test's report, and the whole into a file where one is asked for."""
        self._count += 1
        node = self._request.node
        node.user_properties += [("edge_bench_verdict", found["verdict"]), ("edge_bench_ratio", found["ratio"])]
        folder = self._request.config.getoption("--edge-bench-json")
        if folder:
            name = re.sub(r"[^\w.-]+", "-", node.nodeid).strip("-") + (f"-{self._count}" if self._count > 1 else "")
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / f"{name}.json").write_text(json.dumps(found) + "\n", encoding="utf-8")


@pytest.fixture
def edge_bench_gate(request: pytest.FixtureRequest) -> Gate:
    """Gate a model against a baseline: ``edge_bench_gate("new.tflite", baseline="origin/main")``.

    Fails the test when the new one is slower or over budget; see `Gate.__call__` for what it takes. Tests that run
    beside others (``pytest -n``) disturb its timings: give such tests a run of their own.
    """
    return Gate(request)
