"""The gate: pairs of real processes, what it decides on drawn pairs, limits, result files, its trial."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from made_results import made_result, write_result

from edge_bench.benchmarks import budget, cli, gate_trial, pairs, trial_lines
from edge_bench.benchmarks.gate import GateOptions, gate
from edge_bench.benchmarks.gate_worker import STAGES
from edge_bench.benchmarks.sound import scene
from edge_bench.benchmarks.statistics import Interval
from edge_runtime import BundleError, ConfigError
from edge_runtime.bundle import read

SHIPPED = "swishnet-slim-int8"


def side(folder: Path, bundle: str = SHIPPED, **more: Any) -> pairs.Side:
    np.save(folder / "sound.npy", scene(0.6))
    return pairs.Side(bundle, 0.5, "auto", 1, str(folder / "sound.npy"), "cpu", **more)


def test_a_real_pair_sees_a_planted_slow_down(tmp_path: Path) -> None:
    base = side(tmp_path)
    # so much that a machine that does something else at the wrong moment hides none of it
    planted = pairs.calibrate(base, {"model": 20.0})
    assert dict(planted)["model"] > 50
    pair = pairs.run_pair(base, side(tmp_path, planted=planted), random.Random(0), turns=2, rounds=2)
    assert pair.logs["model"] > math.log(3), "twenty times the time was planted"
    assert pair.logs["model"] > pair.logs["total"] > 0, "the total has it too, diluted"
    assert abs(pair.logs["frontend"]) < pair.logs["total"], "the front end has nothing"
    assert all(pair.first[s] > 0 and pair.second[s] > 0 for s in STAGES)
    assert all(10e6 < peak < 1e9 for peak in pair.peaks)


def test_a_side_that_cannot_run_says_why(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nothing-here"):
        pairs.run_pair(side(tmp_path), side(tmp_path, bundle="nothing-here"), random.Random(0))


class Drawn:
    """Pairs that are drawn instead of measured: the gate's decisions have known answers then."""

    def __init__(self, slower: float, sigma: float = 0.02, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.slower, self.sigma, self.now = slower, sigma, 0.0

    def monotonic(self) -> float:
        return self.now

    def run_pair(self, first: pairs.Side, second: pairs.Side, rng: random.Random, **_: Any) -> pairs.Pair:
        self.now += 0.6
        logs = dict(zip(STAGES, self.rng.normal(0, self.sigma, 3).tolist(), strict=True))
        logs["model"] += math.log(self.slower) if second.planted else 0
        first_times = dict.fromkeys(STAGES, 100.0)
        second_times = {s: 100 * math.exp(logs[s]) for s in STAGES}
        return pairs.Pair(logs, first_times, second_times, (50 << 20, 50 << 20), "drawn")


def drawn_gate(monkeypatch: pytest.MonkeyPatch, slower: float, seed: int, **options: Any) -> dict[str, Any]:
    drawn = Drawn(slower, seed=seed)
    monkeypatch.setattr(pairs, "run_pair", drawn.run_pair)
    monkeypatch.setattr(pairs, "calibrate", lambda *_, **__: (("model", 1),))
    monkeypatch.setattr("edge_bench.benchmarks.gate.time", drawn)
    plant = {"model": slower} if slower != 1 else {}
    return gate(read(SHIPPED), read(SHIPPED), GateOptions(plant=plant, seed=0, **options))


@pytest.mark.slow
def test_decisions_on_drawn_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    caught = [drawn_gate(monkeypatch, 1.06, seed) for seed in range(6)]
    assert [g["verdict"] for g in caught] == ["regress"] * 6
    assert {g["stage"] for g in caught} == {"model"} and all(g["interval"][0] > 1.02 for g in caught)
    same = [drawn_gate(monkeypatch, 1.0, seed) for seed in range(6)]
    assert [g["verdict"] for g in same] == ["pass"] * 6
    assert all(g["seconds"] <= 60 and g["same_pairs"] >= 2 and g["pairs"] >= 12 for g in caught + same)
    json.dumps(caught, allow_nan=False)


def test_limits_decide_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn_gate(monkeypatch, 1.0, 0, limits={"model_us": 50.0})["verdict"] == "regress"
    found = drawn_gate(monkeypatch, 1.0, 0, limits={"ram": 60e6, "flash": 100e3, "real_time_factor": 0.1})
    assert found["verdict"] == "pass" and [c["verdict"] for c in found["budget"]] == ["within"] * 3


def test_checks_have_three_answers() -> None:
    times = {s: Interval(100, 95, 105) for s in STAGES}
    limits = {"model_us": 90.0, "total_us": 100.0, "frontend_us": 110.0, "flash": 10.0, "accuracy_drop": 0.5}
    found = budget.check(limits, times=times, clip_s=1.0, peak=None, size=10, drop=0.6)
    assert [c.verdict for c in found] == ["exceeded", "open", "within", "within", "exceeded"]
    with pytest.raises(ConfigError, match="ram, which is not known"):
        budget.check({"ram": 1.0}, times=times, clip_s=1.0, peak=None, size=10, drop=None)


@pytest.mark.parametrize(
    ("text", "words"),
    [("[budget]\nspeed = 3", "'speed' is unknown"), ("[budget]\nram = -1", "above 0"), ("x = [", "is not TOML"),
     ("[limits]\nram = 1", "no \\[budget\\]"), ("[budget]\nram = true", "above 0")],
)  # fmt: skip
def test_budgets_that_make_no_sense(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "board.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        budget.read(file)


def test_the_drop_is_in_points_and_of_the_same_clips() -> None:
    old = {"schema": "edge-bench/evaluate/1", "macro_f1": 0.95, "split": "validation", "corpus": "a", "clip_s": 2.0}
    assert budget.accuracy_drop({**old, "macro_f1": 0.94}, old) == pytest.approx(1.0)
    with pytest.raises(ConfigError, match="differ in corpus"):
        budget.accuracy_drop({**old, "corpus": "b"}, old)
    with pytest.raises(ConfigError, match="evaluation is needed"):
        budget.accuracy_drop({}, old)


@pytest.mark.parametrize(
    ("slower", "verdict", "code"), [(1.0, "pass", 0), (1.2, "regress", 1), (1.038, "inconclusive", 3)]
)
def test_result_files_and_exit_codes(tmp_path: Path, slower: float, verdict: str, code: int) -> None:
    old = write_result(tmp_path / "old.json", made_result(seed=1))
    new = write_result(tmp_path / "new.json", made_result(slower, seed=2))
    out = tmp_path / "gate.json"
    limits = ["--margin", "3.8", "--tolerated", "3.85"] if verdict == "inconclusive" else []
    done = CliRunner().invoke(cli.group, ["gate", str(new), "--baseline", str(old), "--json", str(out), *limits])
    assert done.exit_code == code, done.output
    found = json.loads(out.read_text())
    assert found["schema"] == "edge-bench/gate/1" and found["verdict"] == verdict
    assert {"ratio", "interval", "noise_floor"} <= set(found) and verdict.upper() in done.output


def test_mistakes(tmp_path: Path) -> None:
    old, other = made_result(), made_result()
    other["context"]["machine"]["cores"] = 4
    files = [str(write_result(tmp_path / f"{i}.json", r)) for i, r in enumerate((old, other))]
    run = CliRunner().invoke
    done = run(cli.group, ["gate", files[1], "--baseline", files[0]])
    assert isinstance(done.exception, ConfigError) and "cores 2 / 4" in str(done.exception)
    done = run(cli.group, ["gate", files[0], "--baseline", files[0], "--plant", "model=1.05"])
    assert isinstance(done.exception, ConfigError) and "give two bundles" in str(done.exception)
    done = run(cli.group, ["gate", files[0], "--baseline", files[0], "--clip", "3"])
    assert isinstance(done.exception, ConfigError) and "no clips of 3 s" in str(done.exception)
    done = run(cli.group, ["gate", SHIPPED, "--baseline", SHIPPED, "--margin", "7"])
    assert isinstance(done.exception, ConfigError) and "below the tolerated" in str(done.exception)
    for plant in ("model", "model=0.5", "total=1.1", "model=x"):
        assert run(cli.group, ["gate", SHIPPED, "--baseline", SHIPPED, "--plant", plant]).exit_code == 2


def test_a_trial_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gates = []

    def quick(candidate: Any, baseline: Any, options: GateOptions) -> dict[str, Any]:
        gates.append(options.seed)
        verdict = "regress" if options.plant else "pass"
        return {
            "verdict": verdict, "stage": "model", "ratio": 1.05, "interval": [1.03, 1.07], "noise_floor": 0.01,
            "pairs": 30, "look": 2, "seconds": 20.0, "stages": {}, "times": {},
            "context": {"before": {"load": 0.5}, "time": "now"},
        }  # fmt: skip

    monkeypatch.setattr(gate_trial, "gate", quick)
    monkeypatch.setattr(gate_trial, "busy", __import__("contextlib").nullcontext)
    out, plant, options = tmp_path / "trial.jsonl", {"model": 1.05}, GateOptions()
    gate_trial.trial(SHIPPED, plant, 1, out, options)
    with out.open("a") as file:
        file.write('{"cut')
    summary = gate_trial.trial(SHIPPED, plant, 3, out, options)
    assert gates == [0, 0, 1, 1, 2, 2]
    rows = {(r["kind"], r["load"]): r for r in summary["rows"]}
    assert rows["planted", "all"]["regress"] == 3 and rows["same", "all"]["pass"] == 3
    assert rows["planted", "loaded"]["gates"] == 1 and rows["planted", "quiet"]["gates"] == 2
    assert rows["same", "all"]["alarm_interval"][1] == pytest.approx(0.70760, abs=1e-4), "1 - 0.025 ** (1 / 3)"
    assert "planted (model x 1.05), all" in trial_lines.render(summary)
    with pytest.raises(ConfigError, match="another bundle, plant or rule"):
        gate_trial.trial(SHIPPED, {"model": 1.1}, 3, out, options)


@pytest.mark.slow
def test_the_whole_gate_catches_what_is_planted(tmp_path: Path) -> None:
    arguments = ["gate", SHIPPED, "--baseline", SHIPPED, "--clock", "cpu", "--seconds", "60", "--plant", "model=1.5"]
    done = CliRunner().invoke(cli.group, arguments)
    assert done.exit_code == 1 and "slower: model" in done.output, done.output
