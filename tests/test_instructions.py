"""Instruction counts: marks to counts, what is refused, and that the same program counts the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_bench.benchmarks import instructions
from edge_bench.benchmarks.instructions import WORKER, arguments, count, environment, from_marks
from edge_bench.benchmarks.instructions_worker import STAGES, Counter
from edge_runtime import ConfigError, EdgeBenchError


def said(calls: int) -> str:
    return json.dumps({"bundle": "b", "stages": STAGES, "calls": calls, "counts": None})


@given(
    st.lists(st.integers(1, 10**9), min_size=len(STAGES), max_size=len(STAGES)),
    st.integers(1, 1000), st.integers(0, 10**6), st.lists(st.integers(0, 10**6), max_size=3),
)  # fmt: skip
def test_marks_give_a_call_free_of_what_the_loop_and_the_mark_cost(
    each: list[int], calls: int, overhead: int, before: list[int]
) -> None:
    counts, now = sorted(before), 10**7
    for cost in each:
        now += 12345  # warm-up
        for times in (0, calls, 2 * calls):
            now += times * cost + (overhead if times else 0)
            counts.append(now)
    found = from_marks(said(calls), counts, "made")
    assert [getattr(found, stage) for stage in STAGES] == each
    assert found.source == "made" and found.context == {"bundle": "b"}


@pytest.mark.parametrize(
    ("line", "counts", "words"),
    [
        ("Illegal instruction", range(12), "in place of its answer"),
        ("[]", range(12), "in place of its answer"),
        (said(4), range(11), "11 marks were counted, 12 are needed"),
        (said(4), range(12), "do not grow with its calls"),
        (said(4), [5] * 12, "do not grow"),
    ],
)
def test_counts_that_make_no_sense(line: str, counts: list[int], words: str) -> None:
    with pytest.raises(EdgeBenchError, match=words):
        from_marks(line, counts, "made")


def test_the_counted_program_runs_by_itself_with_the_runtime_only(tmp_path: Path) -> None:
    """As it will on a board: a file, and nothing of the benchmarks."""
    file = shutil.copy(WORKER, tmp_path / "program.py")
    check = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__'); "
    check += "assert not any(m.startswith('edge_bench') for m in sys.modules), 'benchmarks were imported'"
    done = subprocess.run(
        [sys.executable, "-c", check, str(file), *arguments("swishnet-slim-int8", clip_s=0.5, calls=1)],
        capture_output=True, text=True, check=True, env=environment(),
    )  # fmt: skip
    about = json.loads(done.stdout)
    assert tuple(about["stages"]) == STAGES and about["clip_s"] == 0.5 and about["bundle"] == "swishnet-slim-int8"


def test_a_source_that_is_unknown_or_absent_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="must be one of auto, perf, callgrind"):
        instructions.available("vtune")
    monkeypatch.setattr(instructions, "Counter", lambda: (_ for _ in ()).throw(OSError(2, "no such counter")))
    with pytest.raises(ConfigError, match="perf_event_paranoid"):
        instructions.available("perf")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"apt install valgrind.*no such counter"):
        instructions.available()


def test_the_kernels_counter_ascends() -> None:
    """Its software clock, in place of the processor's counter that virtual machines lack: the same calls."""
    try:
        counter = Counter(kind=1, what=1)  # PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK
    except OSError as error:
        pytest.skip(f"the kernel has no perf: {error}")
    first = counter.read()
    sum(range(100_000))
    assert counter.read() > first


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_callgrind_counts_the_same_and_sees_what_is_planted() -> None:
    plain = count("swishnet-slim-int8", clip_s=0.5, source="callgrind")
    longer = count("swishnet-slim-int8", clip_s=0.5, source="callgrind", plant={"model": 100})
    for stage in ("frontend_hop", "frontend", "invoke"):
        assert getattr(longer, stage) == pytest.approx(getattr(plain, stage), rel=3e-4)
    assert 500 < longer.model - plain.model < 20_000
    assert plain.invoke < plain.model and plain.frontend > 10 * plain.frontend_hop / 4
