"""Tables of results: what is computed of the runs, and the command that re-makes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from edge_bench.benchmarks.cli import group
from edge_bench.train import job_results, tables
from edge_runtime import ConfigError
from edge_runtime.files import append_json

RESULTS = Path(__file__).parent.parent / "results"
F1 = {"slim": 0.80, "slim-distilled": 0.83, "wide": 0.81, "wide-distilled": 0.86, "slim-distilled-mean": 0.84,
      "wide-distilled-mean": 0.86}  # fmt: skip


def write_results(path: Path, *, skip: tuple[str, ...] = ()) -> None:
    """Write what a queue would have written for the table ``distillation``."""
    _, queue = tables.load("distillation")
    for job in queue.jobs:
        if job.label in skip:
            continue
        assert job.seed is not None
        value = F1[job.entry.name] + 0.01 * job.seed
        clip = {"macro_f1": value, "recall": {"noise": value - 0.1}}
        append_json(
            path,
            {
                "schema": job_results.SCHEMA, "name": job.entry.name, "seed": job.seed, "digest": job.digest,
                "seconds": 1.0, "corpus": "abc", "validation": {f"{s}s": clip for s in ("0.5", "1", "2")},
            },
        )  # fmt: skip


def test_every_table_of_the_package_makes_sense():
    names = sorted(path.stem for path in tables.TABLES.glob("*.toml"))
    assert {"ablation", "distillation"} <= set(names)
    for name in names:
        head, queue = tables.load(name)
        assert head.title and set(head.rows) == {job.entry.name for job in queue.jobs}


@pytest.mark.parametrize("name", sorted(path.stem for path in tables.TABLES.glob("*.toml")))
def test_the_results_are_of_the_jobs_as_they_are_now(name: str) -> None:
    """Of their recipes and of the shipped bundles: a change of either is no longer what the table says."""
    _, queue = tables.load(name)
    lines = RESULTS / f"{name}.jsonl"
    assert job_results.of_jobs(queue, job_results.read(lines), lines)


def test_means_intervals_and_differences_over_seeds(tmp_path):
    head, queue = tables.load("distillation")
    lines = tmp_path / "distillation.jsonl"
    write_results(lines, skip=("wide-distilled-seed2",))
    found = job_results.of_jobs(queue, job_results.read(lines), lines)
    made = tables.of_seeds(head, queue, found)
    rows = {row["name"]: row for row in made["rows"]}
    cell = rows["slim"]["cells"]["macro_f1 2s"]
    values = [0.80, 0.81, 0.82]
    assert cell["values"] == pytest.approx(values) and rows["slim"]["n"] == 3
    oracle = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert cell["interval"] == pytest.approx(oracle)
    assert rows["wide-distilled"]["n"] == 2 and rows["wide"]["cells"]["noise recall 0.5s"]["mean"] == pytest.approx(
        0.72
    )
    by_pair = {(d["second"], d["clip"]): d for d in made["differences"]}
    assert by_pair["slim-distilled", "1s"]["mean"] == pytest.approx(0.03)
    assert by_pair["slim-distilled", "1s"]["interval"] == pytest.approx((0.03, 0.03))
    assert by_pair["wide-distilled", "2s"]["n"] == 2
    assert by_pair["wide-distilled", "2s"]["mean"] == pytest.approx(0.05)


def test_a_table_of_nothing_says_so(tmp_path):
    head, queue = tables.load("distillation")
    made = tables.of_seeds(head, queue, {})
    assert all(row["n"] == 0 for row in made["rows"])
    table = {
        **made,
        "kind": "seeds",
        "title": "t",
        "command": "c",
        "corpus": [],
        "split": "validation",
        "software": "s",
        "made": "now",
    }
    assert "| slim | 0 | - |" in tables.markdown(table)
    tables.draw(table, tmp_path / "empty.png")


def test_the_command_renders_what_is_there(tmp_path, corpus_root):
    out = tmp_path / "results"
    write_results(out / "distillation.jsonl")
    arguments = ["reproduce", "distillation", "--render", "--corpus", str(corpus_root), "--out", str(out)]
    result = CliRunner().invoke(group, [*arguments, "--json", str(tmp_path / "t.json")])
    assert result.exit_code == 0, result.output
    table = json.loads((out / "distillation.json").read_text())
    assert table == json.loads((tmp_path / "t.json").read_text())
    assert table["schema"] == "edge-bench/table/1" and table["command"] == "edge-bench reproduce distillation"
    text = (out / "distillation.md").read_text()
    assert "| slim | 3 | 81.00 (78.5 to 83.5)" in text and "+3.00" in text and text in result.output
    assert (out / "distillation.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_mistakes(tmp_path, corpus_root):
    with pytest.raises(ConfigError, match="nowhere: no such file or table; tables are ablation, distillation"):
        tables.load("nowhere")
    file = tmp_path / "t.toml"
    head = '[table]\nkind = "pie"\n[[job]]\nname = "a"\nrecipe = "swishnet-slim"\n'
    file.write_text(head)
    with pytest.raises(ConfigError, match="kind is 'pie'"):
        tables.load(str(file))
    file.write_text(head.replace('kind = "pie"', 'pairs = [["a", "b"]]'))
    with pytest.raises(ConfigError, match="there is no job 'b'"):
        tables.load(str(file))
    found = CliRunner().invoke(group, ["reproduce", "ablation", "--render", "--corpus", str(corpus_root),
                                       "--out", str(tmp_path)])  # fmt: skip
    assert found.exit_code != 0 and not list(tmp_path.glob("ablation*"))


def test_seeds_are_judged_together(monkeypatch, tmp_path):
    """Differences are of the same seeds, against the first row or the one that ``pairs`` names."""
    from edge_bench.train import evaluate
    from edge_bench.train.clips import ClipSet

    labels = np.repeat([0, 1, 2], 20)
    right = {"a-seed0": 30, "a-seed1": 40, "b-seed0": 50, "c-seed0": 50, "d-seed1": 60, "d-seed0": 60}

    def answers(path, *_, **__):
        truth = np.eye(3, dtype=np.float32)[labels]
        wrong = np.roll(truth, 1, axis=1)
        order = np.random.default_rng(1).permutation(60)
        probabilities = np.where((order < right[Path(path).name])[:, None], truth, wrong)
        clips = ClipSet(np.zeros((60, 1, 1)), labels, np.array([f"g{i % 15}" for i in range(60)]), np.arange(60))
        files = tuple(map(str, range(60)))
        return evaluate.Answers("net", ("speech", "music", "noise"), "abc", files, {2.0: (clips, probabilities)})

    monkeypatch.setattr(evaluate, "answers", answers)
    file = tmp_path / "t.toml"
    jobs = "".join(f'[[job]]\nname = "{name}"\nrecipe = "screen"\n' for name in "abcd")
    text = f'seeds = [0, 1]\n{jobs}[table]\nkind = "paired"\nclips = [2.0]\npairs = [["c", "d"]]\n'
    file.write_text(text)
    head, queue = tables.load(str(file))
    made = tables.of_pairs(head, queue, tmp_path, {label: {} for label in right}, corpus=tmp_path)
    cells = {row["name"]: row["cells"] for row in made["rows"]}
    assert [row["n"] for row in made["rows"]] == [2, 1, 1, 2]
    assert "difference 2s" not in cells["a"] and "difference 2s" not in cells["c"]
    assert cells["a"]["macro_f1 2s"]["mean"] == pytest.approx(70 / 120, abs=0.02)
    assert cells["b"]["difference 2s"]["mean"] == pytest.approx(20 / 60, abs=0.03), "seed 0 of a alone"
    assert cells["d"]["difference 2s"]["mean"] == pytest.approx(10 / 60, abs=0.03), "against c"
    assert cells["d"]["difference 2s"]["interval"][0] > 0


@pytest.mark.slow
def test_int8_is_compared_on_interpreters(tmp_path, corpus_root, cache):
    """A job's models are evaluated by the command itself; a row for each but the first."""
    names = ["swishnet-slim-float32", "swishnet-slim-int8"]
    jobs = "".join(
        f'[[job]]\nname = "{backend}"\nresult = "{{out}}/{backend}.json"\n'
        f'command = {["edge-bench", "evaluate", *names, "--backend", backend, "--json", f"{{out}}/{backend}.json"]}\n'
        for backend in ("litert", "numpy")
    )
    file, out = tmp_path / "t.toml", tmp_path / "results"
    file.write_text(f'{jobs}[table]\nkind = "evaluations"\ntitle = "t"\n[table.rows]\nnumpy = "ours"\n')
    places = {"--corpus": corpus_root, "--out": out, "--runs": tmp_path / "runs", "--cache": cache, "--nice": 0}
    done = CliRunner().invoke(group, ["reproduce", str(file), *(str(x) for pair in places.items() for x in pair)])
    assert done.exit_code == 0, done.output
    table = json.loads((out / "t.json").read_text())
    assert [row["label"] for row in table["rows"]] == ["litert", "ours"] and table["corpus"]
    of_job = json.loads((tmp_path / "runs" / "numpy.json").read_text())
    cell = table["rows"][1]["cells"]
    assert cell["macro_f1 1s"]["mean"] == of_job["evaluations"][1]["clips_by_length"]["1"]["macro_f1"]
    assert cell["difference 1s"]["mean"] == pytest.approx(
        cell["macro_f1 1s"]["mean"] - of_job["evaluations"][0]["clips_by_length"]["1"]["macro_f1"]
    )
    assert "difference 0.5s" in (out / "t.md").read_text() and (out / "t.png").is_file()

    head, queue = tables.load(str(file))
    with pytest.raises(ConfigError, match="litert: is no evaluation of two models"):
        tables.of_evaluations(head, queue, {"litert": of_job["evaluations"][0]})


def test_systems_are_scored_timed_and_logged(tmp_path, corpus_root, cache):
    file = tmp_path / "pair.toml"
    file.write_text(
        '[table]\ntitle = "Two"\nkind = "systems"\nsplit = "test"\nclips = [1.0]\n'
        'systems = [["int8", "swishnet-slim-int8"], ["float", "swishnet-slim-float32"], ["later", "a"]]\n'
        '[table.rows]\na = "a"\n[[job]]\nname = "a"\nrecipe = "swishnet-slim"\n'
    )
    out = tmp_path / "results"
    arguments = ["reproduce", str(file), "--render", "--corpus", str(corpus_root), "--cache", str(cache)]
    result = CliRunner().invoke(group, [*arguments, "--out", str(out), "--runs", str(tmp_path / "runs")])
    assert result.exit_code == 0, result.output
    rows = json.loads((out / "pair.json").read_text())["rows"]
    assert [row["label"] for row in rows] == ["int8", "float"] and "a is not there" in result.output
    assert all(row["us"]["p50"] > 0 and row["parameters"] == 5483 for row in rows)
    assert rows[0]["bytes"] < rows[1]["bytes"] and set(rows[1]["difference"]) == {"1"}
    assert len((out / "test-log.jsonl").read_text().splitlines()) == 2  # every look at the test split leaves a trace
    assert (out / "pair.png").stat().st_size > 10_000 and "| int8 | s m n | 5,483 |" in (out / "pair.md").read_text()
