"""A search: its file, the values that are drawn, what the folder tells, and one real run on Ray with a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers import table_corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_bench.benchmarks.cli import group
from edge_bench.train import search_plot, search_results, search_space
from edge_bench.train.experiment import RECIPES, read_toml
from edge_runtime import ConfigError

BASE = """
model = "swishnet-slim"
copies = 0
validation_copies = 0
[fit]
epochs = 40
steps = 3
batch = 8
first_cycle = 40
ema = 0.5
clip_s = [0.5]
"""


def write(folder: Path, text: str) -> Path:
    (folder / "base.toml").write_text(BASE)
    file = folder / "search.toml"
    file.write_text(f'recipe = "{folder / "base.toml"}"\n{text}')
    return file


def load(folder: Path, text: str) -> search_space.Search:
    return search_space.load(write(folder, text))


# --- the file ---------------------------------------------------------------------------------


def test_a_grid_is_every_combination(tmp_path: Path) -> None:
    search = load(tmp_path, '[search]\nmethod = "grid"\n[space]\n"fit.learning_rate" = [1e-3, 1e-2]\nseed = [0, 1, 2]')
    assert len(search.trials) == 6 and len({json.dumps(t) for t in search.trials}) == 6
    assert search.recipe(5)["fit"]["learning_rate"] == 1e-2 and search.recipe(5)["seed"] == 2
    assert search.recipe(5)["fit"]["steps"] == 3, "the rest is the recipe's"


def test_the_budget_is_the_trials_and_not_the_best_recipes(tmp_path: Path) -> None:
    search = load(tmp_path, '[search]\nepochs = 7\n[space]\n"seed" = [0, 1]')
    assert search.experiment(0)["fit"]["epochs"] == search.experiment(0)["fit"]["first_cycle"] == 7
    assert search.recipe(0)["fit"]["epochs"] == 40


@settings(deadline=None, max_examples=60)
@given(
    low=st.floats(1e-6, 1e3), factor=st.floats(1.001, 1e4), log=st.booleans(), seed=st.integers(0, 2**31),
    trials=st.integers(1, 20),
)  # fmt: skip
def test_draws_lie_in_the_range(
    tmp_path_factory: pytest.TempPathFactory, low: float, factor: float, log: bool, seed: int, trials: int
) -> None:
    text = f"[search]\nseed = {seed}\ntrials = {trials}\n[space]\n"
    text += f'"fit.learning_rate" = {{ low = {low!r}, high = {low * factor!r}, log = {str(log).lower()} }}\n'
    text += '"options.width" = { low = 1, high = 3 }\n"fit.ema" = [0.9, 0.99]\n'
    folder = tmp_path_factory.getbasetemp()
    search = load(folder, text)
    assert 1 <= len(search.trials) <= trials
    assert len({json.dumps(t) for t in search.trials}) == len(search.trials), "no trial is run twice"
    for values in search.trials:
        assert low <= values["fit.learning_rate"] <= low * factor
        assert values["options.width"] in (1, 2, 3) and isinstance(values["options.width"], int)
    assert load(folder, text).trials == search.trials, "the same seed draws the same"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"\[space\] is empty"),
        ("[spaec]\nx = [1]", "unknown key 'spaec'"),
        ('[search]\nmethod = "bayes"\n[space]\nseed = [1]', "must be one of grid, random, asha"),
        ('[search]\ntrails = 3\n[space]\nseed = [1]', "unknown key 'trails'"),
        ("[search]\nthreads = 0\n[space]\nseed = [1]", "threads is 0"),
        ("[search]\ntrials = 2.5\n[space]\nseed = [1]", "trials is 2.5, expected int"),
        ("[space]\nseed = []", "at least one"),
        ("[space]\nseed = [1, 1]", "different values"),
        ("[space]\nseed = 3", "must be a list or"),
        ("[space]\nseed = {low = 1, hihg = 3}", "must be a list or"),
        ("[space]\nseed = {low = 3, high = 1}", "low must be below high"),
        ("[space]\nseed = {low = 0, high = 1, log = true}", "above 0 with log"),
        ('[space]\nseed = {low = "a", high = 1}', "must be numbers"),
        ("[space]\nseed = {low = 0, high = nan}", "low must be below high"),
        ("[space]\nseed = {low = 0, high = 5}", "trials is missing"),
        ('[search]\nmethod = "grid"\n[space]\nseed = {low = 0, high = 5}', "a grid needs lists"),
        ('[search]\nmethod = "grid"\ntrials = 3\n[space]\nseed = [1, 2]', "a grid of 2 has no 3 trials"),
        ("[space]\n" + "\n".join(f'"options.a{i}" = [1, 2, 3, 4]' for i in range(7)), "combinations are too many"),
        ('[space]\n"model.x" = [1]', "'model' is no table"),
        ('[space]\n"fit.learning_rat" = [1]', "unknown key 'learning_rat'"),
        ('[space]\n"fit.learning_rate" = [0.001, -1.0]', "learning_rate -1: training: rates"),
        ('[space]\n"options.depth" = [1]', "unknown key 'depth'"),
        ('[space]\nmodel = ["swishnet-slim", "swishnet"]', "model 'swishnet' is unknown"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        file = write(tmp_path, text)
        search_space.judge(search_space.load(file), file)


def test_a_file_without_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("[space]\nseed = [1]")
    with pytest.raises(ConfigError, match="names no recipe"):
        search_space.load(tmp_path / "s.toml")


@pytest.mark.parametrize("file", sorted(RECIPES.glob("search-*.toml")), ids=lambda file: file.stem)
def test_the_searches_of_the_package(file: Path) -> None:
    search = search_space.load(file)
    search_space.judge(search, file)
    assert len(search.trials) >= 12


def test_the_command_without_ray(tmp_path: Path) -> None:
    file = write(tmp_path, "[space]\nseed = [0, 1]")
    table_corpus(tmp_path / "corpus")
    code = "import sys; sys.modules['ray'] = None\nfrom edge_bench.benchmarks.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "search", str(file), "--corpus", str(tmp_path / "corpus"), "--out",
         str(tmp_path / "out")], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "edge-bench: edge-bench search needs Ray Tune: pip install 'edge-bench[search]'\n"
    assert not (tmp_path / "out").exists()


# --- the folder -------------------------------------------------------------------------------


def pretend(folder: Path, number: int, scores: list[float], *, ended: str = "") -> None:
    """Lay the files of a trial, as a training and the driver write them."""
    place = search_results.trial_folder(folder, number)
    place.mkdir(parents=True)
    rows = [{"epoch": i + 1.0, "score": s, "2s": 1 - s, "seconds": 30.0} for i, s in enumerate(scores)]
    (place / "history.json").write_text(json.dumps(rows))
    if ended == "metrics.json":
        (place / ended).write_text(json.dumps({"best": max(rows, key=lambda r: r["score"]), "parameters": 5}))
    elif ended:
        (place / ended).write_text("told\nmore\n")


@pytest.fixture
def begun(tmp_path: Path) -> tuple[search_space.Search, Path]:
    """A search of five trials, one of each state."""
    search = load(tmp_path, '[search]\nmethod = "grid"\n[space]\n"fit.learning_rate" = [1e-4, 1e-3, 1e-2, 2e-2, 3e-2]')
    pretend(tmp_path, 0, [0.2, 0.5, 0.4], ended="metrics.json")
    pretend(tmp_path, 1, [0.6, 0.7], ended="stopped")
    pretend(tmp_path, 2, [0.1])
    pretend(tmp_path, 3, [], ended="error.txt")
    return search, tmp_path


def test_what_the_folder_tells(begun: Any) -> None:
    search, folder = begun
    result = search_results.write(search, folder, "search.toml")
    assert [t["trial"] for t in result["trials"]] == [1, 0, 2, 3, 4], "best first, those without a score last"
    assert [t["state"] for t in result["trials"]] == ["stopped", "done", "begun", "failed", "waiting"]
    assert [t["best"] for t in result["trials"]] == [0.7, 0.5, 0.1, None, None]
    assert result["trials"][1]["best_epoch"] == 2 and result["trials"][1]["seconds"] == 90
    assert result["trials"][3]["error"] == "told\nmore"
    assert result["ended"] == 3 and not result["finished"]
    assert json.loads((folder / "search.json").read_text()) == result
    best = read_toml(folder / "best.toml")
    assert best["fit"]["learning_rate"] == 1e-3 and best["fit"]["epochs"] == 40


def test_another_metric(begun: Any, tmp_path: Path) -> None:
    _, folder = begun
    search = load(tmp_path, '[search]\nmethod = "grid"\nmetric = "2s"\n[space]\nseed = [1, 2, 3]')
    assert [t["best"] for t in search_results.collect(search, folder, "s")["trials"]] == [0.9, 0.8, 0.4]


def test_the_picture(begun: Any) -> None:
    search, folder = begun
    search_plot.draw(search_results.collect(search, folder, "s"), search.axes, folder / "search.png")
    assert (folder / "search.png").read_bytes()[:4] == b"\x89PNG"


def test_status_reads_only(begun: Any) -> None:
    _, folder = begun
    before = sorted(folder.rglob("*"))
    arguments = ["search", str(folder / "search.toml"), "--out", str(folder), "--status", "--json", "-"]
    done = CliRunner().invoke(group, arguments)
    assert done.exit_code == 0 and '"schema": "edge-bench/search/1"' in done.output
    assert sorted(folder.rglob("*")) == before


def test_another_search_in_the_folder_is_refused(begun: Any) -> None:
    search, folder = begun
    search_results.write(search, folder, "s")
    write(folder, "[space]\nseed = [1, 2]")
    done = CliRunner().invoke(group, ["search", str(folder / "search.toml"), "--out", str(folder), "--status"])
    assert isinstance(done.exception, ConfigError) and "holds another search" in str(done.exception)


# --- Ray --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_real_search_that_is_killed_goes_on(tmp_path: Path) -> None:
    """Killed without warning, it goes on: finished trials stay as they are, the best recipe trains."""
    pytest.importorskip("ray.tune")
    table_corpus(tmp_path / "corpus")
    file = write(
        tmp_path, '[search]\nmethod = "asha"\ngrace = 1\nreduction = 2\nepochs = 4\nconcurrent = 1\n'
        '[space]\n"fit.learning_rate" = [1e-2, 1e-3, 2e-5]\n',
    )  # fmt: skip
    out = tmp_path / "out"
    environment = {**os.environ, "EDGE_BENCH_CORPUS": str(tmp_path / "corpus"), "EDGE_BENCH_CACHE": str(tmp_path / "c"),
                   "RAY_worker_niceness": "0"}  # fmt: skip - a test does not wait for others
    code = "from edge_bench.benchmarks.cli import main; main()"
    command = [sys.executable, "-c", code, "search", str(file), "--out", str(out), "--json", str(tmp_path / "j.json")]

    killed = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    first = search_results.trial_folder(out, 0) / "metrics.json"
    end = time.monotonic() + 900
    try:
        while not (first.exists() and (search_results.trial_folder(out, 1) / "history.json").exists()):
            assert time.monotonic() < end and killed.poll() is None
            time.sleep(0.2)
    finally:
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    written = first.stat().st_mtime_ns

    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "going on" in again.stderr and "WARNING" not in again.stderr
    assert first.stat().st_mtime_ns == written, "a finished trial is not repeated"
    result = json.loads((tmp_path / "j.json").read_text())
    assert result["finished"] and {t["state"] for t in result["trials"]} <= {"done", "stopped"}
    assert len(result["trials"]) == 3 and all(t["best"] is not None for t in result["trials"])
    assert any(t["state"] == "stopped" and t["epochs"] < 4 for t in result["trials"]), "some rate learns nothing"
    assert (out / "search.png").read_bytes()[:4] == b"\x89PNG"

    third = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert third.returncode == 0 and "trial" not in third.stderr, "nothing is left to do"
    best = read_toml(out / "best.toml")
    assert best["fit"]["learning_rate"] == result["trials"][0]["values"]["fit.learning_rate"]
