"""A queue of experiments: its file, what is run and what is not run again, kills, locks, the table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import table_corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_bench.train import job_queue, job_results, job_runner, recipe
from edge_runtime import ConfigError, EdgeBenchError, bundle
from edge_runtime.files import append_json

TINY = """
model = "swishnet-slim"
copies = 0
validation_copies = 0
[fit]
epochs = {epochs}
steps = 4
batch = 8
ema = 0.9
clip_s = [0.5]
"""
# counts its calls in a file and leaves a result
COUNT = "import json, sys; open(sys.argv[1] + '/calls', 'a').write(sys.argv[2]); print('said', sys.argv[2])"


def write(folder: Path, text: str) -> Path:
    file = folder / "queue.toml"
    file.write_text(text)
    return file


def commands(folder: Path, *jobs: tuple[str, str], head: str = "") -> Path:
    """Write a queue of Python snippets; ``sys.argv[1]`` is the folder, ``[2]`` the seed."""
    text = head + "\n"
    for name, code in jobs:
        text += f"[[job]]\nname = {name!r}\ncommand = {json.dumps([sys.executable, '-c', code, '{out}', '{seed}'])}\n"
    return write(folder, text)


def silent(text: str) -> None:
    """Say nothing."""


def run(file: Path, folder: Path, say: Callable[[str], None] = silent) -> int:
    return job_runner.run(job_queue.load(file), folder, folder / "results.jsonl", nice=0, say=say)


def results_of(folder: Path) -> list[dict[str, Any]]:
    return job_results.read(folder / "results.jsonl")


# --- recipes ----------------------------------------------------------------------------------


def test_overriding_leaves_the_original() -> None:
    values = {"fit": {"epochs": 60, "masking": {"spans": 1}}}
    changed = recipe.override(values, {"fit.masking.spans": 3, "seed": 5, "options.dropout": 0.1})
    assert changed == {"fit": {"epochs": 60, "masking": {"spans": 3}}, "seed": 5, "options": {"dropout": 0.1}}
    assert values == {"fit": {"epochs": 60, "masking": {"spans": 1}}}


@pytest.mark.parametrize("name", ["", ".", "fit.", "fit..epochs", "seed.more", "fit.epochs.more"])
def test_names_that_lead_nowhere(name: str) -> None:
    with pytest.raises(ConfigError, match="here: "):
        recipe.override({"seed": 1, "fit": {"epochs": 2}}, {name: 1}, "here")


_keys = st.text("abcdefgh_", min_size=1, max_size=6)
_leaves = st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(_keys, _leaves | st.lists(_leaves, max_size=3) | st.dictionaries(_keys, _leaves, max_size=3)))
def test_a_written_recipe_reads_back(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:
    from edge_bench.train.experiment import read_toml

    file = tmp_path_factory.getbasetemp() / "written.toml"
    recipe.write(values, file, comment="two\nlines")
    assert read_toml(file) == values
    assert file.read_text().startswith("# two\n# lines\n")


# --- the file ---------------------------------------------------------------------------------


def test_every_seed_of_every_job(tmp_path: Path) -> None:
    text = 'seeds = [0, 1]\norder = "{order}"\n[[job]]\nname = "a"\nrecipe = "swishnet-slim"\n[[job]]\nname = "b"\n'
    text += 'recipe = "swishnet-slim"\nseeds = [7]\n[job.overrides]\n"fit.epochs" = 3\n'
    text += '[[job]]\nname = "c"\ncommand = ["true"]\n'
    by_job = job_queue.load(write(tmp_path, text.format(order="job")))
    assert [job.label for job in by_job.jobs] == ["a-seed0", "a-seed1", "b-seed7", "c"]
    assert by_job.jobs[2].values["fit"]["epochs"] == 3 and by_job.jobs[2].values["fit"]["seed"] == 7
    by_seed = job_queue.load(write(tmp_path, text.format(order="seed")))
    assert [job.label for job in by_seed.jobs] == ["a-seed0", "b-seed7", "c", "a-seed1"]
    assert len({job.digest for job in by_seed.jobs}) == 4
    more = job_queue.load(write(tmp_path, 'extra = ["x"]\n' + text.format(order="job") + 'extra = []\n'))
    assert [job.entry.extra for job in more.jobs] == [("x",), ("x",), ("x",), ()]
    assert more.jobs[0].digest != by_job.jobs[0].digest, "other recordings, another result"
    assert {job.label: job.digest for job in by_job.jobs} == {job.label: job.digest for job in by_seed.jobs}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"holds no \[\[job\]\]"),
        ("sede = 1", "unknown key 'sede'"),
        ("job = 3", r"job is 3; write \[\[job\]\]"),
        ("job = [3]", "name is None"),
        ('[[job]]\nrecipe = "swishnet-slim"', "name is None"),
        ('[[job]]\nname = "../x"\ncommand = ["true"]', "letters, digits"),
        ('[[job]]\nname = "a"', "either a recipe or a command"),
        ('[[job]]\nname = "a"\nrecipe = "swishnet-slim"\ncommand = ["true"]', "either a recipe or a command"),
        ('[[job]]\nname = "a"\nrecipe = "none-such"', "no such file or recipe"),
        ('[[job]]\nname = "a"\nrecipe = "swishnet-slim"\nseeds = [1, 1]', "different whole numbers"),
        ('[[job]]\nname = "a"\nrecipe = "swishnet-slim"\nseeds = ["x"]', "different whole numbers"),
        ('[[job]]\nname = "a"\nrecipe = "swishnet-slim"\noverrides = {"fit.epoch" = 3}', r"job a: \[fit\]: unknown"),
        ('[[job]]\nname = "a"\nrecipe = "swishnet-slim"\noverrides = {"fit.epochs" = 0}', "job a: training: epochs"),
        ('[[job]]\nname = "a"\nrecipe = "swishnet-slim"\noverrides = {"options.depth" = 3}', "unknown key 'depth'"),
        ('[[job]]\nname = "a"\ncommand = ["true"]\noverrides = {x = 1}', "change a recipe, not a command"),
        ('[[job]]\nname = "a"\ncommand = ["true"]\n[[job]]\nname = "a"\ncommand = ["true"]', "share the folder 'a'"),
        ('order = "size"\n[[job]]\nname = "a"\ncommand = ["true"]', "must be job or seed"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        job_queue.judge(job_queue.load(write(tmp_path, text)))


# --- running ----------------------------------------------------------------------------------


def test_finished_jobs_are_not_repeated(tmp_path: Path) -> None:
    file = commands(tmp_path, ("one", COUNT), ("two", COUNT))
    said: list[str] = []
    assert run(file, tmp_path / "q", said.append) == 0
    assert "  said None" in said and "one done" in said
    assert run(file, tmp_path / "q") == 0
    assert (tmp_path / "q" / "calls").read_text() == "NoneNone"
    assert [r["name"] for r in results_of(tmp_path / "q")] == ["one", "two"]


def test_a_failed_job_does_not_stop_the_others_and_is_tried_again(tmp_path: Path) -> None:
    fails = "import os, sys; os.path.exists(sys.argv[1] + '/calls') or sys.exit('not yet')"
    file = commands(tmp_path, ("first", fails), ("second", COUNT))
    said: list[str] = []
    assert run(file, tmp_path / "q", said.append) == 1
    assert any(line.startswith("first failed: exit code 1, not yet; see") for line in said)
    assert job_runner.states(job_queue.load(file), tmp_path / "q")["first"] == "failed"
    assert run(file, tmp_path / "q") == 0
    assert [r["name"] for r in results_of(tmp_path / "q")] == ["second", "first"]
    assert not (tmp_path / "q" / "first" / "error.txt").exists()


def test_a_command_that_cannot_be_started(tmp_path: Path) -> None:
    said: list[str] = []
    assert run(write(tmp_path, '[[job]]\nname = "a"\ncommand = ["no-such-program"]'), tmp_path / "q", said.append) == 1
    assert "no-such-program: cannot be started" in said[-1]


def test_a_command_leaves_its_own_result(tmp_path: Path) -> None:
    code = "import json, sys; json.dump({'score': float(sys.argv[2])}, open(sys.argv[1] + '/s' + sys.argv[2], 'w'))"
    text = 'metric = "score"\n[[job]]\nname = "a"\nseeds = [1, 3]\nresult = "{out}/s{seed}"\ncommand = '
    file = write(tmp_path, text + json.dumps([sys.executable, "-c", code, "{out}", "{seed}"]))
    assert run(file, tmp_path / "q") == 0
    queue = job_queue.load(file)
    found = job_results.of_jobs(queue, results_of(tmp_path / "q"), tmp_path / "q" / "results.jsonl")
    (row,) = job_results.summary(queue, found, {})
    assert row["values"] == [1, 3] and row["mean"] == 2 and row["sd"] == pytest.approx(2**0.5)
    assert row["n"] == row["of"] == 2 and row["state"] == "done"


def test_a_changed_job_is_refused(tmp_path: Path) -> None:
    assert run(commands(tmp_path, ("one", "pass")), tmp_path / "q") == 0
    with pytest.raises(ConfigError, match="one with other settings or another shipped bundle than the queue's"):
        run(commands(tmp_path, ("one", "print(1)")), tmp_path / "q")


def test_another_shipped_bundle_is_another_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[[job]]\nname = "a"\ncommand = ["edge-bench", "verify", "swishnet-slim-int8"]\n'
    (before,) = job_queue.load(write(tmp_path, text)).jobs
    monkeypatch.setattr(job_queue, "read", lambda name: bundle.read("swishnet-wide-int8"))
    (after,) = job_queue.load(tmp_path / "queue.toml").jobs
    assert before.digest != after.digest and before.label == after.label


def test_a_killed_queue_takes_its_job_along_and_goes_on(tmp_path: Path) -> None:
    slow = COUNT + "; import time, os; os.path.exists(sys.argv[1] + '/fast') or time.sleep(60)"
    file = commands(tmp_path, ("one", COUNT), ("slow", slow))
    folder = tmp_path / "q"
    code = "from edge_bench.benchmarks.cli import main; main()"
    arguments = ["queue", str(file), "--out", str(folder)]
    queue = subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE)
    try:
        wait_for(lambda: (folder / "calls").exists() and (folder / "calls").read_text() == "NoneNone")
        assert job_runner.states(job_queue.load(file), folder) == {"one": "interrupted", "slow": "running"}
        with pytest.raises(ConfigError, match=r"running already \(process \d+: slow\)"):
            run(file, folder)
        queue.send_signal(signal.SIGTERM)
        assert queue.wait(20) == 143
    finally:
        queue.kill()
        queue.wait()
    assert job_runner.running(folder) == "", "the job of a queue that was told to end has ended"
    assert job_runner.states(job_queue.load(file), folder)["slow"] == "interrupted"
    (folder / "fast").touch()
    assert run(file, folder) == 0
    assert [r["name"] for r in results_of(folder)] == ["one", "slow"]
    assert (folder / "calls").read_text() == "None" * 3


MEET = """
import pathlib, sys, time
here = pathlib.Path(sys.argv[1])
(here / f"there-{sys.argv[2]}").touch()
while len(list(here.glob("there-*"))) < 3:
    time.sleep(0.02)
"""


def test_several_at_once(tmp_path: Path) -> None:
    head = "[[job]]\nname = 'meet'\nseeds = [0, 1, 2]\ncommand = "
    file = write(tmp_path, head + json.dumps([sys.executable, "-c", MEET, "{out}", "{seed}"]))
    said: list[str] = []
    queue, lines = job_queue.load(file), tmp_path / "q" / "results.jsonl"
    assert job_runner.run(queue, tmp_path / "q", lines, nice=0, jobs=3, say=said.append) == 0  # else they wait forever
    assert sorted(r["seed"] for r in results_of(tmp_path / "q")) == [0, 1, 2]
    assert {line for line in said if line.endswith(" done")} == {f"meet-seed{i} done" for i in range(3)}


@pytest.mark.parametrize("command", ["queue", pytest.param("reproduce", marks=pytest.mark.slow)])
def test_a_killed_queue_takes_all_its_jobs_along(tmp_path: Path, command: str) -> None:
    slow = (
        "import pathlib, subprocess, sys, time; "
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        "pathlib.Path(sys.argv[1], 'there-' + sys.argv[2]).touch(); time.sleep(60)"
    )  # a worker that would outlive its job, and holds the job's output
    head = "[[job]]\nname = 'slow'\nseeds = [0, 1, 2]\ncommand = "
    file = write(tmp_path, head + json.dumps([sys.executable, "-c", slow, "{out}", "{seed}"]))
    folder = tmp_path / "q"
    code = "from edge_bench.benchmarks.cli import main; main()"
    arguments = {
        "queue": ["--out", str(folder)],
        "reproduce": ["--runs", str(folder), "--out", str(folder), "--corpus", str(tmp_path)],
    }[command]
    arguments = [command, str(file), *arguments, "--jobs", "2"]
    queue = subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE)
    try:
        wait_for(lambda: len(list(folder.glob("there-*"))) == 2)
        states = job_runner.states(job_queue.load(file), folder)
        assert list(states.values()) == ["running", "running"]
        queue.send_signal(signal.SIGTERM)
        assert queue.wait(20) == 143
    finally:
        queue.kill()
        queue.wait()
    assert job_runner.running(folder) == "" and not (folder / "there-2").exists()
    assert not list(folder.glob("*/error.txt")) and not results_of(folder), "stopped is not failed"


def test_the_job_of_a_queue_that_was_killed_hard_holds_the_lock(tmp_path: Path) -> None:
    slow = "import os, sys, time; open(sys.argv[1] + '/pid', 'w').write(str(os.getpid())); time.sleep(60)"
    file = commands(tmp_path, ("slow", slow))
    folder = tmp_path / "q"
    code = "from edge_bench.benchmarks.cli import main; main()"
    queue = subprocess.Popen([sys.executable, "-c", code, "queue", str(file), "--out", str(folder)],
                             stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        wait_for(lambda: (folder / "pid").exists() and (folder / "pid").read_text() != "")
        queue.kill()
        queue.wait()
        with pytest.raises(ConfigError, match="running already"):
            run(file, folder)
    finally:
        queue.kill()
        os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    wait_for(lambda: job_runner.running(folder) == "")


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


# --- results ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 200))
def test_a_torn_last_line_is_dropped(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    file = tmp_path_factory.getbasetemp() / "torn.jsonl"
    file.unlink(missing_ok=True)
    rows = [{"schema": job_results.SCHEMA, "name": str(i)} for i in range(3)]
    for row in rows:
        append_json(file, row)
    text = file.read_bytes()
    file.write_bytes(text[:cut])
    kept = text[:cut].count(b"\n")
    assert job_results.read(file) == rows[:kept]
    append_json(file, rows[2])
    assert job_results.read(file) == [*rows[:kept], rows[2]]


@pytest.mark.parametrize("text", ["no JSON\n", "{}\n", '{"schema": "other/1"}\n', "[1]\n", '"x"\n'])
def test_a_foreign_results_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=r"r\.jsonl line 1: is no result of edge-bench queue"):
        job_results.read(tmp_path / "r.jsonl")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EdgeBenchError, match="cannot be written"):
        append_json(tmp_path / "file" / "r.jsonl", {})
    with pytest.raises(EdgeBenchError, match="cannot be written"), job_runner.lock(tmp_path / "file"):
        pass


def test_status_of_a_queue_that_has_not_begun(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from edge_bench.benchmarks.cli import group

    file = write(tmp_path, 'seeds = [0, 1, 2]\n[[job]]\nname = "a"\nrecipe = "swishnet-slim"\n')
    done = CliRunner().invoke(group, ["queue", str(file), "--out", str(tmp_path / "q"), "--status", "--json", "-"])
    assert done.exit_code == 0, done.output
    value = json.loads(done.output)
    assert value["schema"] == "edge-bench/queue/1" and value["results"] == []
    assert value["jobs"][0]["n"] == 0 and value["jobs"][0]["of"] == 3 and value["jobs"][0]["state"] == "waiting"
    assert not (tmp_path / "q").exists(), "to look changes nothing"


@pytest.mark.slow
def test_a_killed_training_goes_on(tmp_path: Path) -> None:
    """Killed without warning in the middle, the training ends as if it had not been."""
    pytest.importorskip("tensorflow")
    table_corpus(tmp_path / "corpus")
    (tmp_path / "tiny.toml").write_text(TINY.format(epochs=5))
    file = write(tmp_path, f'[[job]]\nname = "tiny"\nseeds = [0]\nrecipe = "{tmp_path / "tiny.toml"}"\n')
    code = "from edge_bench.benchmarks.cli import main; main()"
    environment = {**os.environ, "EDGE_BENCH_CORPUS": str(tmp_path / "corpus"), "EDGE_BENCH_CACHE": str(tmp_path / "c")}

    def start(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", code, "queue", str(file), "--out", str(tmp_path / name)],
                                env=environment, start_new_session=True, stderr=subprocess.DEVNULL)  # fmt: skip

    whole = start("whole")
    assert whole.wait(300) == 0
    broken = start("broken")
    history = tmp_path / "broken" / "tiny-seed0" / "history.json"
    wait_for(lambda: history.exists() and len(json.loads(history.read_text())) >= 2, 120)
    os.killpg(broken.pid, signal.SIGKILL)
    broken.wait()
    wait_for(lambda: job_runner.running(tmp_path / "broken") == "")
    assert results_of(tmp_path / "broken") == [] and len(json.loads(history.read_text())) < 5
    again = start("broken")
    assert again.wait(300) == 0
    (one,), (two,) = results_of(tmp_path / "whole"), results_of(tmp_path / "broken")
    assert one["best"]["score"] == two["best"]["score"] and one["best"]["loss"] == pytest.approx(two["best"]["loss"])
    assert one["corpus"] == two["corpus"] and one["seed"] == 0 and one["parameters"] == 5483
