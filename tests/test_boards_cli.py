"""`edge-bench run` and `gate` on boards: with this machine as the board. See test_emulate.py for emulated ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from made_results import made_result, write_result

from edge_bench.benchmarks import results
from edge_bench.benchmarks.cli import group
from edge_bench.benchmarks.compare import compare
from edge_bench.benchmarks.gate_instructions import CountOptions
from edge_bench.benchmarks.gate_instructions import gate as gate_counts
from edge_bench.benchmarks.gate_results import gate_results
from edge_bench.benchmarks.instructions import Instructions
from edge_bench.boards import board_options, counted, gate_there, plan, profile, run_there
from edge_bench.boards.emulation import instruction_table
from edge_bench.boards.transport import Local
from edge_runtime.bundle import read
from edge_runtime.errors import BoardError, ConfigError

QUICK = ["--clips", "0.5", "--rounds", "10", "--cold", "1", "--budget", "1"]


def counts(model: int = 700_000, source: str = "qemu cortex-a72", **more: Any) -> Instructions:
    context = {"bundle": "swishnet-slim-int8", "clip_s": 2.0, "python": "3.11.2", "qemu": "7.2.22", **more}
    return Instructions(240_000, 4_800_000, model, model - 130_000, source, context)


def here() -> profile.Profile:
    found = profile.detect()
    if found is None or found.name not in ("x86-64", "aarch64"):
        pytest.skip("this machine has a profile of its own")
    return found


@pytest.mark.slow
def test_a_board_is_benchmarked_and_left_clean(tmp_path: Path) -> None:
    with Local(tmp_path) as transport:
        result = run_there.run(transport, here(), "swishnet-slim-int8", QUICK, cache=tmp_path / "cache")
    assert result["schema"] == "edge-bench/run/1" and result["context"]["board"] == here().name
    assert [c["clip_s"] for c in result["clips"]] == [0.5] and result["model"]["sha256"] == read(
        "swishnet-slim-int8"
    ).sha256
    folder = Path(result["context"]["command"].split("--json ")[1].split()[0]).parent
    assert folder.name.startswith("edge-bench-") and not folder.exists()
    assert not list(tmp_path.iterdir())  # the runtime was there, nothing was fetched


def test_another_board_than_was_named_is_refused() -> None:
    pi4 = profile.load("pi4")
    machine = {"architecture": "aarch64", "board": "Raspberry Pi 4 Model B Rev 1.4", "cpu": "x"}
    run_there.check_board(machine, pi4, "h")
    with pytest.raises(ConfigError, match="h: calls itself 'Raspberry Pi 5 Model B', not Raspberry Pi 4B"):
        run_there.check_board({**machine, "board": "Raspberry Pi 5 Model B"}, pi4, "h")
    with pytest.raises(ConfigError, match="h: is x86_64, pi4 is aarch64: give its own --board"):
        run_there.check_board({**machine, "architecture": "x86_64"}, pi4, "h")


@pytest.mark.slow
def test_what_fails_there_is_said_and_cleaned_up(tmp_path: Path) -> None:
    with Local(tmp_path) as transport:
        with pytest.raises(BoardError, match="this machine: run failed there: backend 'coral' is unknown"):
            run_there.run(transport, here(), "swishnet-slim-int8", ["--backend", "coral"], cache=tmp_path)
        with run_there.scratch(transport) as folder:
            assert Path(folder).is_dir()
        assert not Path(folder).exists()


@pytest.mark.slow
def test_a_gate_on_a_board(tmp_path: Path) -> None:
    with Local(tmp_path) as transport:
        found = gate_there.gate(
            transport, here(), "swishnet-slim-int8", "swishnet-slim-int8",
            ["--seconds", "60", "--clock", "cpu", "--baseline", "x", "--plant", "model=3"], cache=tmp_path,
        )  # fmt: skip
    assert found["schema"] == "edge-bench/gate/1" and found["verdict"] == "regress"
    assert found["context"]["machine"]["architecture"] == here().processor.architecture


def test_a_gate_on_a_board_takes_files_only(tmp_path: Path) -> None:
    with Local(tmp_path) as transport:
        with pytest.raises(ConfigError, match="on a board both sides are files or shipped names"):
            gate_there.gate(transport, here(), "swishnet-slim-int8", "origin/main", cache=tmp_path)
        with pytest.raises(ConfigError, match="--budget goes with a gate on this machine"):
            gate_there.gate(transport, here(), "a", "b", ["--budget", "x.toml"], cache=tmp_path)


def test_options_reach_the_board_as_they_were_given() -> None:
    seen: list[list[str]] = []
    run = group.get_command(click.Context(group), "run")
    assert run is not None
    arguments = [
        "wide",
        "--clips",
        "0.5,2",
        "--precision",
        "1%",
        "--sandbox",
        "--budget",
        "3",
        "--json",
        "x",
        "--board",
        "pi4",
    ]
    context = run.make_context("run", list(arguments))
    seen.append(board_options.forwarded(context))
    assert seen == [["--clips", "0.5,2", "--budget", "3.0", "--precision", "1%", "--sandbox"]]
    gate = group.get_command(click.Context(group), "gate")
    assert gate is not None
    context = gate.make_context(
        "gate", ["a", "--baseline", "b", "--plant", "model=1.05", "--plant", "frontend=2", "--host", "h"]
    )
    assert board_options.forwarded(context) == ["--baseline", "b", "--plant", "model=1.05", "--plant", "frontend=2"]


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["run", "--host", "h"], "which board is it?"),
        (["run", "--board", "pi4"], "no board is named: give --host"),
        (["run", "--board", "pico", "--host", "h"], "a microcontroller runs nothing of ours"),
        (["run", "--board", "pi4", "--emulated", "/nowhere"], "no emulated board"),
        (["gate", "a", "--baseline", "b", "--board", "pi4", "--host", "h", "--host", "g"], "a gate is of one board"),
    ],
)
def test_mistakes_are_told_before_anything_is_done(arguments: list[str], wrong: str) -> None:
    done = CliRunner().invoke(group, arguments)
    assert isinstance(done.exception, ConfigError) and wrong in str(done.exception)


def test_times_of_an_emulated_board_are_never_compared(tmp_path: Path) -> None:
    plain = made_result()
    emulated = run_there.marked(made_result(seed=1), "cortex-a72", counts().to_dict())
    assert emulated["memory"]["peak"] is None and emulated["memory"]["pss"]["steady"] is None
    assert emulated["context"]["emulated"] == {"by": "QEMU user mode", "version": "7.2.22", "cpu": "cortex-a72"}
    assert emulated["context"]["trust"] == "doubtful" and run_there.REMARK in emulated["context"]["remarks"]
    files = [str(write_result(tmp_path / f"{n}.json", r)) for n, r in (("plain", plain), ("emulated", emulated))]
    from edge_bench.benchmarks.gate import GateOptions

    for work in (
        lambda: compare(plain, emulated, force=True),
        lambda: gate_results(files[1], files[0], GateOptions(), force=True),
        lambda: plan.against(plan.plan(read("swishnet-slim-int8"), profile.load("pi4")), emulated),
    ):
        with pytest.raises(ConfigError, match="of an emulated cortex-a72, whose times say nothing"):
            work()
    assert results.read(files[1])["instructions"]["model"] == 700_000


def test_an_emulated_result_is_shown_by_its_instructions() -> None:
    emulated = run_there.marked(made_result(), "cortex-a72", counts().to_dict())
    emulated["context"]["board"] = "pi4"
    shown = run_there.text(emulated)
    assert "4,800,000" in shown and "700,000" in shown and "emulated" in shown
    assert f"{4_800_000 / 3 / 1500:,.0f} us" in shown and "real time" not in shown


def test_the_table_by_hand() -> None:
    bundle, pi4 = read("swishnet-slim-int8"), profile.load("pi4")
    runs = [counts(700_000), counts(700_700), counts(700_000)]
    row = instruction_table.row(bundle, pi4, runs)
    assert row["stages"]["model"] == {"median": 700_000, "runs": [700_000, 700_700, 700_000], "spread": 0.001}
    front = row["prediction"]["frontend"]
    assert front["bound_us"] == round(4_800_000 / 3 / 1500, 3)
    assert front["instructions_per_roofline_cycle"] == round(4_800_000 / (front["roofline_us"] * 1500), 2)
    values = instruction_table.document([row])
    assert values["largest_spread"] == 700 / 570_000 and values["emulated"] is True
    assert "| swishnet-slim-int8 | Cortex-A72 (pi4) | 240,000 | 4,800,000 | 700,000 |" in instruction_table.markdown(
        values
    )
    assert "0.1228%" in instruction_table.text(values)


def test_the_table_predicts_times_and_is_a_gates_baseline(tmp_path: Path) -> None:
    bundle = read("swishnet-slim-int8")
    rows = [
        instruction_table.row(bundle, profile.load(name), [counts(model, f"qemu {cpu}")])
        for name, cpu, model in (
            ("pi4", "cortex-a72", 700_000), ("pi5", "cortex-a76", 450_000), ("pi-zero-2w", "cortex-a53", 660_000),
        )
    ]
    file = tmp_path / "table.json"
    file.write_text(json.dumps(instruction_table.document(rows)))
    for name, model, width, clock in (
        ("pi4", 700_000, 3, 1500), ("pi5", 450_000, 4, 2400), ("pi-zero-2w", 660_000, 2, 1000),
    ):  # fmt: skip
        found = counted.predict(bundle.sha256, profile.load(name), file)
        assert found is not None and found["prediction"]
        assert found["model"] == {"instructions": model, "us": round(model / width / clock, 3)}
        total = (4_800_000 + model) / width / clock
        assert found["real_time_factor"] == pytest.approx(total / 2e6, rel=1e-4)
    assert counted.predict("0" * 64, profile.load("pi4"), file) is None
    assert counted.predict(bundle.sha256, profile.load("x86-64"), file) is None
    # a gate takes the row of the same processor
    for cpu, model, verdict in (
        ("cortex-a76", 450_100, "pass"),
        ("cortex-a76", 453_000, "regress"),
        ("cortex-a72", 700_000, "pass"),
    ):
        how = CountOptions(counter=lambda name, m=model, c=cpu, **how: counts(m, f"qemu {c}"))
        assert gate_counts("swishnet-slim-int8", str(file), how)["verdict"] == verdict


def test_a_damaged_table_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be read as a table of instructions"):
        counted.lookup("0", profile.load("pi4"), tmp_path / "t.json")
