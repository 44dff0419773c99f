"""Board profiles and predictions."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_bench.benchmarks.cli import group
from edge_bench.boards import counted, profile
from edge_bench.boards import plan as planning
from edge_runtime.bundle import read
from edge_runtime.config import FrontEndConfig
from edge_runtime.errors import ConfigError

TABLE = {
    "pi-zero-w", "pi-zero-2w", "pi3b-plus", "pi4", "pi5", "jetson-nano", "aarch64", "x86-64", "pico", "pico2",
    "nano33-ble", "nucleo-l4r5zi", "esp32-s3",
}  # fmt: skip
SLIM = read("swishnet-slim-int8")


def run(*arguments: str) -> tuple[int, str]:
    """Return exit code and output; errors of ours keep their type."""
    result = CliRunner().invoke(group, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_every_board_loads() -> None:
    assert set(profile.names()) == TABLE
    for name in TABLE:
        board = profile.load(name)
        assert board.budget.ram < board.memory.ram and board.budget.flash < board.memory.flash, name
        assert (board.transport == "none") == (board.kind == "microcontroller"), name


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Raspberry Pi 4 Model B Rev 1.4", "pi4"),
        ("Raspberry Pi Zero 2 W Rev 1.0", "pi-zero-2w"),
        ("Raspberry Pi Zero W Rev 1.1", "pi-zero-w"),
        ("Raspberry Pi 5 Model B Rev 1.0", "pi5"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "pi3b-plus"),
        ("NVIDIA Jetson Nano Developer Kit", "jetson-nano"),
    ],
)
def test_detect_reads_the_device_tree(tmp_path: Path, model: str, name: str) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(model.encode() + b"\0")
    found = profile.detect(tmp_path)
    assert found is not None and found.name == name


def test_detect_falls_back_to_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for machine, name in (("aarch64", "aarch64"), ("x86_64", "x86-64"), ("riscv64", None)):
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        found = profile.detect(tmp_path)
        assert (found.name if found else None) == name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("clock_mhz = 1500", "clock_mhz = 0"), "clock_mhz is 0"),
        (("cores = 4", "cores = 1.5"), "whole number"),
        (("cores = 4", "cores = true"), "whole number"),
        (('core = "Cortex-A72"', "core = 72"), "must be a text"),
        (("[budget]", "[budgets]"), r"\[budget\] is missing"),
        (("cores = 4", ""), "has no cores"),
        (("cores = 4", "cores = 4\ncolour = 1"), "knows no colour"),
        (('kind = "linux"', 'kind = "toaster"'), "linux or microcontroller"),
        (('kind = "linux"', "kind = "), "cannot be read"),
        (('title = ', 'tilte = '), "tilte is no key"),
    ],
)  # fmt: skip
def test_a_wrong_profile_is_refused(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    text = (profile.FOLDER / "pi4.toml").read_text()
    assert change[0] in text
    file = tmp_path / "mine.toml"
    file.write_text(text.replace(*change))
    with pytest.raises(ConfigError, match=said):
        profile.load(file)


def test_unknown_board_names_the_others() -> None:
    with pytest.raises(ConfigError, match="pi-zero-2w"):
        profile.load("pi9")
    with pytest.raises(ConfigError, match="cannot be read"):
        profile.load("/nowhere/pi9.toml")


def test_roofline_by_hand() -> None:
    assert planning.roofline(3e6, 3e3, 1e9, 1e9) == {"us": 3000.0, "limited_by": "compute"}
    assert planning.roofline(3e3, 3e6, 1e9, 1e9) == {"us": 3000.0, "limited_by": "memory"}


def test_plan_by_hand() -> None:
    p = planning.plan(SLIM, profile.load("pi4"))
    clip = p["forms"]["clip"]
    assert p["prediction"] is True and clip["frames"] == 204
    assert clip["model"]["us"] == pytest.approx(775416 / (1500e6 * 8) * 1e6, abs=1e-3)
    # window 400, FFT 512 x 9, power and conversion 2 x 257, mel 257 x 32, cosines 32 x 20
    assert planning.front_end_macs(FrontEndConfig()) == 400 + 4608 + 514 + 8224 + 640
    assert clip["real_time_factor"] == pytest.approx(clip["total_us"] / 1e6 / 2.04)
    assert math.isclose(p["forms"]["dense"]["seconds"], 5.12)


def test_a_faster_board_is_never_predicted_slower() -> None:
    order = ["pi-zero-w", "pi-zero-2w", "pi4", "pi5"]
    times = [planning.plan(SLIM, profile.load(n))["forms"]["clip"]["total_us"] for n in order]
    assert times == sorted(times, reverse=True)
    twins = [planning.plan(b, profile.load("pi4"))["forms"]["clip"] for b in (SLIM, read("swishnet-slim-float32"))]
    assert twins[0]["model"]["us"] < twins[1]["model"]["us"] and twins[0]["frontend"] == twins[1]["frontend"]


def test_microcontroller_needs_the_arena_and_the_flatbuffer() -> None:
    p = planning.plan(SLIM, profile.load("nano33-ble"))
    assert p["needs"]["flash"] == len(SLIM.flatbuffer) + planning.MICRO_CODE
    assert p["needs"]["ram"] == 12992 + planning.MICRO_STATE + planning.front_end_ram(SLIM.front_end)
    assert p["fits"]["all"]


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    text = (profile.FOLDER / "nano33-ble.toml").read_text()
    small = tmp_path / "small.toml"
    small.write_text(text.replace("ram = 131072", "ram = 16384"))
    code, output = run("plan", "--board", str(small))
    assert code == 1 and "NO" in output and "ram is beyond the budget" in output
    assert run("plan", "--board", "nano33-ble")[0] == 0


def result_of(**machine: str) -> dict[str, Any]:
    """A run's JSON as far as a comparison reads it."""
    stages = {"frontend": {"p50": 978.0}, "model": {"p50": 129.236}}
    return {
        "schema": "edge-bench/run/1", "context": {"machine": {"architecture": "aarch64", **machine}},
        "model": {"name": SLIM.name, "sha256": SLIM.sha256},
        "clips": [{"clip_s": 0.5, "stages": {}}, {"clip_s": 2, "stages": stages}],
    }  # fmt: skip


def test_against_a_run(tmp_path: Path) -> None:
    prediction = planning.plan(SLIM, profile.load("pi4"))
    off = planning.against(prediction, result_of())
    assert off["clip_s"] == 2 and off["stages"]["model"]["ratio"] == 2.0
    with pytest.raises(ConfigError, match="x86_64"):
        planning.against(prediction, result_of(architecture="x86_64"))
    with pytest.raises(ConfigError, match="another bundle"):
        planning.against(prediction, {**result_of(), "model": {"name": "x", "sha256": "0"}})
    with pytest.raises(ConfigError, match="damaged"):
        planning.against(prediction, {"schema": "edge-bench/run/1"})
    file = tmp_path / "run.json"
    file.write_text(json.dumps(result_of()))
    known = prediction["by_instructions"]["model"]["us"]
    assert off["stages"]["model"]["by_instructions"] == {"predicted_us": known, "ratio": round(129.236 / known, 2)}
    assert "2 x the bound of the roofline" in run("plan", "--board", "pi4", "--against", str(file))[1]
    file.write_text("[")
    with pytest.raises(ConfigError, match="cannot be read"):
        run("plan", "--board", "pi4", "--against", str(file))


def test_a_table_of_instructions_of_ones_own(tmp_path: Path) -> None:
    own = json.loads(counted.SHIPPED.read_text())
    for row in own["rows"]:
        row["stages"]["model"]["median"] *= 2
    file = tmp_path / "own.json"
    file.write_text(json.dumps(own))
    shipped, mine = (
        json.loads(run("plan", "--board", "pi4", "--json", "-", *more)[1])["by_instructions"]["model"]["us"]
        for more in ((), ("--instructions", str(file)))
    )
    assert mine == pytest.approx(2 * shipped, rel=1e-3)
    file.write_text("{}")
    with pytest.raises(ConfigError, match="cannot be read as a table of instructions"):
        run("plan", "--board", "pi4", "--instructions", str(file))


def test_json_of_every_table() -> None:
    boards = json.loads(run("boards", "--json", "-")[1])
    assert boards["schema"] == "edge-bench/boards/1" and {b["name"] for b in boards["boards"]} == TABLE
    assert json.loads(run("boards", "show", "pi5", "--json", "-")[1])["processor"]["core"] == "Cortex-A76"
    assert json.loads(run("plan", "--board", "pi4", "--json", "-")[1])["schema"] == planning.SCHEMA
    both = json.loads(run("plan", "--board", "pi4", "--board", "pico2", "--json", "-")[1])
    assert [p["board"] for p in both["plans"]] == ["pi4", "pico2"]
