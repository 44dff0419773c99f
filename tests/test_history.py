"""Histories: what is kept, series and changes of level, writers at the same time, databases that are none of ours."""

from __future__ import annotations

import copy
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import made_result, write_result

from edge_bench.benchmarks import cli, documents
from edge_bench.benchmarks.changepoints import change_points
from edge_bench.benchmarks.history import series_of
from edge_bench.benchmarks.series import Environment, entry, utc
from edge_bench.benchmarks.store import Store, to_prune
from edge_runtime import ConfigError

RESULTS = Path(__file__).parent.parent / "results"
BASE = made_result(clips=(2.0,))


def result_of(number: int, slower: float = 1.0, name: str = "made-int8") -> dict[str, Any]:
    """A result of day `number`, quickly made: 40 us for the model, times `slower`."""
    value = copy.deepcopy(BASE)
    value["context"]["time"] = f"2026-{1 + number // 28:02d}-{1 + number % 28:02d}T12:00:00+00:00"
    value["model"].update(name=name, sha256=f"{number:064x}")
    value["clips"][0]["stages"]["model"]["p50"] = 40 * slower * (1 + 0.004 * ((7 * number) % 5 - 2))
    return value


def entries_of(*values: dict[str, Any]) -> list[Any]:
    return [entry("run", value) for value in values]


def history(*arguments: str) -> Any:
    return CliRunner().invoke(cli.group, ["history", *arguments])


# --- change points ---


@pytest.mark.slow
@given(st.integers(6, 20), st.integers(6, 20), st.integers(0, 99), st.sampled_from([0.5, 0.8, 1.3, 4.0]))
@settings(max_examples=25, deadline=None)
def test_a_clear_step_is_found_where_it_is(before: int, after: int, seed: int, factor: float) -> None:
    x = 40 * np.random.default_rng(seed).uniform(0.99, 1.01, before + after)
    x[before:] *= factor
    assert [c.index for c in change_points(x)] == [before]
    (change,) = change_points(x)
    assert change.ratio == pytest.approx(factor, rel=0.03) and change.p <= 0.01


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_alpha_says() -> None:
    rng = np.random.default_rng(3)
    alarms = sum(bool(change_points(np.exp(rng.normal(0, 0.05, 30)), alpha=0.05, smallest=0)) for _ in range(200))
    assert alarms <= 20, "10 of 200 are expected; more than 20 have a chance of 0.1 %"


def test_outliers_trends_and_small_changes() -> None:
    rng = np.random.default_rng(4)
    quiet = np.exp(rng.normal(0, 0.01, 60))
    spiked = quiet.copy()
    spiked[[10, 30, 50]] *= 20
    assert change_points(quiet) == change_points(spiked) == []
    quiet[30:] *= 1.015
    assert change_points(quiet) == [] and len(change_points(quiet, smallest=0.005)) == 1
    steps = np.repeat([1.0, 1.2, 0.9], 200) * np.exp(rng.normal(0, 0.02, 600))
    found = [c.index for c in change_points(steps)]
    assert len(found) == 2 and abs(found[0] - 200) <= 3 and abs(found[1] - 400) <= 3


def test_short_constant_and_bad_series() -> None:
    for flat in ([], [3.0], [3.0] * 50, [1, 1, 1, 9, 9, 9]):
        assert change_points(flat) == []
    (change,) = change_points([0.0] * 10 + [2.0] * 10)
    assert change.ratio is None and change.index == 10
    with pytest.raises(ValueError, match="finite"):
        change_points([1.0, float("nan")])
    with pytest.raises(ValueError, match="alpha"):
        change_points([1.0], alpha=1e-6)


# --- what a result contributes ---


def test_figures_of_every_kind(tmp_path: Path) -> None:
    run = entry("run", BASE)
    metrics = {m.name: m for m in run.metrics}
    assert metrics["2s/model"].value == BASE["clips"][0]["stages"]["model"]["p50"] and metrics["2s/model"].unit == "us"
    assert metrics["memory/peak"].value == BASE["memory"]["peak"] and metrics["size"].unit == "bytes"
    assert "Made 1, x86_64, 2 core(s), Python 3.11.7" in run.environment.words
    evaluation = json.loads((RESULTS / "swishnet-slim-int8-validation.json").read_text())
    scores = {m.name: m for m in entry("evaluate", evaluation, time="2026-01-01").metrics}
    assert scores["2s/macro_f1"].value == evaluation["macro_f1"]
    assert [scores["2s/macro_f1"].low, scores["2s/macro_f1"].high] == evaluation["intervals"]["macro_f1"]
    with pytest.raises(ConfigError, match="does not say when"):
        entry("evaluate", evaluation)
    with pytest.raises(ConfigError, match="a history keeps files of"):
        entry("doctor", {})
    bench = {
        "machine_info": {"cpu": {"brand_raw": "Made 1", "count": 2}, "machine": "x", "python_version": "3.11.7"},
        "commit_info": {"id": "abc"}, "datetime": "2026-01-01T00:00:00",
        "benchmarks": [{"name": "t", "fullname": "suite/test_a.py::t", "stats": {"median": 2e-6}}],
    }  # fmt: skip
    timed = entry(documents.PYTEST, bench)
    assert timed.commit == "abc" and timed.metrics[0].name == "suite/test_a.py::t"
    assert timed.metrics[0].value == pytest.approx(2.0)


def test_other_surroundings_are_another_series() -> None:
    other = copy.deepcopy(BASE)
    other["context"]["machine"]["cpu"] = "Made 2"
    first, second = entry("run", BASE), entry("run", other)
    assert first.environment != second.environment and first.digest != second.digest
    reordered = dict(reversed(list(BASE.items())))
    assert entry("run", reordered) == first, "the same result, however its keys are ordered"


def test_times_are_in_utc() -> None:
    assert utc("2026-11-21T17:11:38+01:00") == utc("2026-11-21T16:11:38Z") == utc("2026-11-21T16:11:38")
    for bad in ("yesterday", "", "2026-13-01"):
        with pytest.raises(ConfigError, match="is not ISO 8601"):
            utc(bad)


# --- the store ---


@pytest.fixture(params=["file", "url"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An SQLite file, by the standard library and through SQLAlchemy."""
    file = tmp_path / "deep" / "history.sqlite"
    if request.param == "url":
        file.parent.mkdir()
        return f"sqlite:///{file}"
    return str(file)


def test_what_is_added_comes_back_in_order_and_once(place: str) -> None:
    values = [result_of(2), result_of(0), result_of(1, name="other")]
    with Store(place, create=True) as store:
        assert store.add(entries_of(*values), commit="c0ffee", label="a branch") == 3
        assert store.add(entries_of(*values, result_of(3))) == 1
    with Store(place) as store:
        rows = store.results()
        assert [r["time"][:10] for r in rows] == ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]
        assert [r["commit_id"] for r in rows] == ["c0ffee"] * 3 + [None] and rows[0]["label"] == "a branch"
        assert json.loads(store.document(rows[0]["digest"][:12])) == result_of(0)
        assert {p["name"] for p in store.points(name="other")} == {"other"}
        assert store.remove([rows[0]["digest"], "nothing"]) == 1
        assert len(store.results()) == 3 and rows[0]["digest"] not in {p["digest"] for p in store.points()}
        with pytest.raises(ConfigError, match="no result with digest"):
            store.document(rows[0]["digest"])


def test_adding_is_all_or_nothing(place: str) -> None:
    broken = entries_of(result_of(0), result_of(1))
    object.__setattr__(broken[1], "environment", Environment("key", None))  # type: ignore[arg-type]
    with Store(place, create=True) as store:
        with pytest.raises(ConfigError):
            store.add(broken)
        assert store.results() == [] and store.points() == []


WRITER = """
import json, sys
from edge_bench.benchmarks.series import entry
from edge_bench.benchmarks.store import Store
base = json.load(open(sys.argv[2]))
for number in range(int(sys.argv[3]), int(sys.argv[3]) + 12):
    base["model"]["sha256"] = f"{number:064x}"
    with Store(sys.argv[1], create=True) as store:
        store.add([entry("run", base)])
"""


def written_at_once(place: str, tmp_path: Path) -> int:
    """Let four processes write, with results that overlap; return how many are kept."""
    file = write_result(tmp_path / "base.json", BASE)
    command = [sys.executable, "-c", WRITER, place, str(file)]
    writers = [subprocess.Popen([*command, str(6 * k)], stderr=subprocess.PIPE, text=True) for k in range(4)]
    for writer in writers:
        assert writer.communicate(timeout=120)[1] == "" and writer.returncode == 0
    with Store(place) as store:
        assert len(store.points()) == len(store.results()) * len(entry("run", BASE).metrics)
        return len(store.results())


def test_writers_at_the_same_time(tmp_path: Path) -> None:
    assert written_at_once(str(tmp_path / "history.sqlite"), tmp_path) == 3 * 6 + 12


@pytest.fixture
def postgresql() -> Iterator[str]:
    """A PostgreSQL server on a socket in a folder of its own; it refuses to run as root, so nobody runs it."""
    programs = sorted(glob("/usr/lib/postgresql/*/bin"))
    if not programs:
        pytest.skip("no PostgreSQL server is installed here")
    with tempfile.TemporaryDirectory(prefix="edge-bench-", ignore_cleanup_errors=True) as folder:
        more: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if os.getuid() == 0:
            os.chown(folder, 65534, 65534)
            more |= {"user": 65534, "group": 65534, "extra_groups": []}
        data = f"{folder}/data"
        command = [f"{programs[-1]}/initdb", "-D", data, "-U", "ci", "-A", "trust", "--no-sync"]
        subprocess.run(command, check=True, **more)
        server = subprocess.Popen([f"{programs[-1]}/postgres", "-D", data, "-k", folder, "-h", "", "-F"], **more)
        try:
            for _ in range(600):
                if Path(folder, ".s.PGSQL.5432").exists():
                    break
                time.sleep(0.1)
            yield f"postgresql+psycopg://ci@/postgres?host={folder}"
        finally:
            server.terminate()
            server.wait(30)


@pytest.mark.slow
def test_a_fleets_database(postgresql: str, tmp_path: Path) -> None:
    assert written_at_once(postgresql, tmp_path) == 30
    file = write_result(tmp_path / "x.json", result_of(1))
    assert "1 of 1 results are new" in history("add", str(file), "--store", postgresql).output
    assert "made-int8 2s/model" in history("show", "--store", postgresql).output
    assert "31 results removed" in history("prune", "--keep", "0", "--store", postgresql).output


# --- files that are none of ours ---


def test_databases_that_cannot_be_used(tmp_path: Path) -> None:
    noise, foreign, newer = (tmp_path / f"{name}.sqlite" for name in ("noise", "foreign", "newer"))
    noise.write_bytes(b"this is no database, but long enough to have a header" * 20)
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE cats (name TEXT)")
    with Store(str(newer), create=True):
        pass
    with sqlite3.connect(newer) as connection:
        connection.execute("UPDATE edge_bench_meta SET value = '7'")
    cut = tmp_path / "cut.sqlite"
    with Store(str(cut), create=True) as store:
        store.add(entries_of(result_of(0)))
    cut.write_bytes(cut.read_bytes()[:5000])
    places = {
        str(noise): "no SQLite file or is damaged", str(foreign): "database of another program",
        str(newer): "layout is version 7", str(tmp_path): "cannot be used as a history",
        str(tmp_path / "none.sqlite"): "there is no history yet", str(cut): "cannot be used as a history",
        "nothing://here": "the database refused", f"sqlite:///{noise}": "the database refused",
    }  # fmt: skip
    for place, words in places.items():
        before = {p: p.read_bytes() for p in tmp_path.iterdir()}
        with pytest.raises(ConfigError, match=words):
            with Store(place) as store:
                store.points()
        assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before, "nothing is touched"
    with pytest.raises(ConfigError) as error:
        Store("nothing://me:secret@host/db")
    assert "secret" not in str(error.value)


# --- the command ---


def test_from_files_to_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_BENCH_HISTORY", str(tmp_path / "h.sqlite"))
    monkeypatch.setenv("GITHUB_SHA", "abcdef0123456789")
    files = [str(write_result(tmp_path / f"{i}.json", result_of(i, 1.1 if i >= 12 else 1.0))) for i in range(24)]
    assert "24 of 24" in history("add", *files, "--label", "ci").output
    out = tmp_path / "out.json"
    done = history("show", "--metric", "2s/*", "--json", str(out))
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.output.splitlines() if " -> " in line]
    assert line == (
        "made-int8 2s/model: 40 us -> 44 us (+10.0 %) from 2026-01-13 12:00, commit abcdef0123, ci, p 0.0005"
    )
    found = json.loads(out.read_text())
    jsonschema.validate(found, documents.schema_of("history"))
    assert documents.read(out)[0] == "history"
    (series,) = [s for s in found["series"] if s["metric"] == "2s/model"]
    assert [c["index"] for c in series["changes"]] == [12] and len(series["points"]) == 24
    assert "21 older ones not shown" in history("list", "-n", "3").output
    assert history("show", "--metric", "none").output.startswith("nothing is kept that fits")
    assert "would go" in history("prune", "--keep", "10", "--dry-run").output
    assert "14 results removed" in history("prune", "--keep", "10").output
    assert "0 results removed" in history("prune", "--keep", "10").output


def test_what_prune_takes() -> None:
    rows = [{"kind": "run", "name": n, "environment": "e", "time": t} for t, n in zip("123456", "ababaa", strict=True)]
    assert [r["time"] for r in to_prune(rows, keep=2)] == ["1", "3"]
    assert [r["time"] for r in to_prune(rows, before="3")] == ["1", "2"]
    assert [r["time"] for r in to_prune(rows, keep=2, before="3")] == ["1"]


def test_mistakes_of_the_command(tmp_path: Path) -> None:
    store = ["--store", str(tmp_path / "h.sqlite")]
    for arguments, words in (
        (["prune", *store], "give --keep N or --before TIME"),
        (["list", *store], "there is no history yet"),
        (["add", str(RESULTS / "distillation.json"), *store], "schema is 'edge-bench/table/1'"),
        (["add", "none.json", *store], "cannot be read"),
    ):
        done = history(*arguments)
        assert isinstance(done.exception, ConfigError) and words in str(done.exception)
        assert not (tmp_path / "h.sqlite").exists(), "a file that cannot be read makes no history"


def test_series_can_be_chosen() -> None:
    points = [
        {"name": "n", "metric": m, "unit": "us", "environment": e, "words": "w", "time": "t", "value": 1.0, "low": None,
         "high": None, "digest": "d", "sha256": None, "commit_id": None, "label": None}
        for m in ("2s/model", "2s/total", "size") for e in ("e1", "f2")
    ]  # fmt: skip
    assert len(series_of(points)) == 6
    assert [s["metric"] for s in series_of(points, metric="2s/*", environment="e")] == ["2s/model", "2s/total"]
