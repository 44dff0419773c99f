"""Instruction counts: marks to counts, what is refused, and that the same program counts the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edge_bench.benchmarks import budget, cli, gate_instructions, instructions, instructions_trial, trees
from edge_bench.benchmarks.instructions import WORKER, Instructions, arguments, count, environment, from_marks
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
    def counted(turns: int) -> Instructions:
        """The same command but for one number: longer arguments move arrays, and copies count up to 0.2 % apart."""
        return count("swishnet-slim-int8", clip_s=0.5, source="callgrind", plant={"model": turns})

    plain, longer = counted(0), counted(100)
    assert counted(0) == plain
    for stage in ("frontend_hop", "frontend", "invoke"):
        assert getattr(longer, stage) == pytest.approx(getattr(plain, stage), rel=2e-3)
    assert 500 < longer.model - plain.model < 20_000
    assert plain.invoke < plain.model and plain.frontend > 10 * plain.frontend_hop / 4


def made(bundle: str = "b", *, model: int = 100_000, **context: object) -> Instructions:
    about = {"bundle": bundle, "clip_s": 2.0, "backend": "litert", "backend_version": "2", "python": "3", "numpy": "1",
             "architecture": "x86_64", "processor_features": ["AVX", "AVX2"], **context}  # fmt: skip
    return Instructions(1000, 50_000, model, 90_000, "callgrind", about)


def write(path: Path, *counts: Instructions, commit: str | None = None) -> str:
    value = {"schema": instructions.SCHEMA, "commit": commit, "counts": [c.to_dict() for c in counts]}
    path.write_text(json.dumps(value))
    return str(path)


@pytest.mark.parametrize(
    ("model", "verdict"), [(100_000, "pass"), (100_490, "pass"), (100_510, "regress"), (1, "pass")]
)
def test_the_ratio_itself_decides(tmp_path: Path, model: int, verdict: str) -> None:
    old, new = write(tmp_path / "old.json", made("a"), made()), write(tmp_path / "new.json", made(model=model))
    done = CliRunner().invoke(cli.group, ["gate", new, "--baseline", old, "--instructions", "--json", "-"])
    found = json.loads(done.output)
    assert found["verdict"] == verdict and done.exit_code == {"pass": 0, "regress": 1}[verdict]
    assert found["stages"]["model"]["ratio"] == model / 100_000 and found["stages"]["invoke"]["verdict"] == "pass"
    text = CliRunner().invoke(cli.group, ["gate", new, "--baseline", old, "--instructions"]).output
    assert ("grown by more than 0.5 %: model" in text) == (verdict == "regress")
    assert CliRunner().invoke(
        cli.group, ["gate", new, "--baseline", old, "--instructions", "--margin", "0.6"]
    ).exit_code == 0  # fmt: skip


def test_counts_of_other_software_are_not_compared(tmp_path: Path) -> None:
    other = made(numpy="2", processor_features=["AVX", "AVX512F"])
    old, new = write(tmp_path / "old.json", other, commit="0" * 40), write(tmp_path / "new.json", made())
    done = CliRunner().invoke(cli.group, ["gate", new, "--baseline", old, "--instructions"])
    with pytest.raises(ConfigError, match=r"numpy 2 / 1; processor features \['AVX512F'\] / \['AVX2'\].*--force"):
        raise done.exception or AssertionError(done.output)
    forced = CliRunner().invoke(cli.group, ["gate", new, "--baseline", old, "--instructions", "--force"])
    assert forced.exit_code == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "is no result"),
        ("{", "is no result"),
        ('{"schema": "x"}', "schema is 'x'"),
        ('{"schema": "edge-bench/instructions/1", "counts": []}', "holds no instruction counts"),
        ('{"schema": "edge-bench/instructions/1", "counts": [{"model": 1}]}', "missing or damaged"),
    ],
)
def test_files_without_counts(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        gate_instructions.read(str(path), "b", 2.0)
    several = write(path, made("a"), made("c"))
    with pytest.raises(ConfigError, match="no counts of b with clips of 2 s"):
        gate_instructions.read(several, "b", 2.0)


def test_a_commit_gives_its_own_runtime(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    models = tmp_path / "edge_runtime" / "models"
    models.mkdir(parents=True)
    (models / "old.tflite").write_bytes(b"old")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "x")
    (models / "old.tflite").write_bytes(b"new")
    with trees.tree("HEAD", where=models) as then:
        assert Path(then.bundle("old")).read_bytes() == b"old" and then.bundle("other.tflite") == "other.tflite"
        assert then.commit == trees.commit_of("HEAD", where=tmp_path)
    assert not then.folder.exists()
    for ref in ("nothing", "--all", "-x", "a b", ""):
        with pytest.raises(ConfigError, match="no commit that git knows here"), trees.tree(ref, where=tmp_path):
            pass
    git("rm", "-qrf", "edge_runtime")
    git("commit", "-qm", "gone", "--allow-empty")
    with pytest.raises(ConfigError, match="has no edge_runtime"), trees.tree("HEAD", where=tmp_path):
        pass


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_a_planted_percent_is_caught_and_nothing_is_not(tmp_path: Path) -> None:
    """A whole trial of one gate of each kind; every side is counted out of its own folder."""
    how = gate_instructions.CountOptions(clip_s=0.5, source="callgrind")
    summary = instructions_trial.trial("swishnet-slim-int8", {"model": 1.01}, 1, tmp_path / "t.jsonl", how)
    verdicts = [(row["kind"], row["regress"], row["pass"]) for row in summary["rows"]]
    assert verdicts == [("planted", 1, 0), ("same", 0, 1)]
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert lines[0]["ratios"]["model"] == pytest.approx(1.01, abs=0.002)
    assert instructions_trial.trial("swishnet-slim-int8", {"model": 1.01}, 1, tmp_path / "t.jsonl", how) == summary


def test_limits_of_counts(tmp_path: Path) -> None:
    old, new = write(tmp_path / "old.json", made()), write(tmp_path / "new.json", made())
    board = tmp_path / "board.toml"
    command = ["gate", new, "--baseline", old, "--instructions", "--budget", str(board)]
    board.write_text("[budget]\nmodel_instructions = 100_000\nmodel_us = 5\n")
    done = CliRunner().invoke(cli.group, command)
    assert done.exit_code == 0 and "model_instructions 100,000 of 100,000: within" in done.output, done.output
    assert "not checked by counting: model_us" in done.output
    board.write_text("[budget]\nfrontend_hop_instructions = 999\n")
    done = CliRunner().invoke(cli.group, command)
    assert done.exit_code == 1 and "over budget: frontend_hop_instructions" in done.output
    board.write_text("[budget]\nflash = 1000\n")
    assert "a file of counts has no size" in str(CliRunner().invoke(cli.group, command).exception)
    with pytest.raises(ConfigError, match="model_instructions, which is not known: measure with `edge-bench run"):
        budget.check({"model_instructions": 1.0}, times={}, clip_s=2.0, peak=None, size=1, drop=None)
