"""The GitHub Action and the GitLab template: valid, and their steps do what the exit codes of a gate say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_results import made_result, write_result
from test_gate_git import few, git

ROOT = Path(__file__).parent.parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
JOB = yaml.safe_load((ROOT / "ci" / "gitlab-gate.yml").read_text())[".edge-bench-gate"]
CLOSE = "--margin 0.01 --tolerated 0.02"  # so close that nothing can be told


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone without history, as a runner makes it, of a repository whose second commit is 20 % slower."""
    origin = tmp_path / "origin"
    origin.mkdir()
    git(origin, "init", "-q", "-b", "main")
    write_result(origin / "model.json", few(made_result(seed=1, clips=(2.0,))))
    git(origin, "add", "-A")
    git(origin, "commit", "-qm", "one")
    git(origin, "checkout", "-qb", "slow")
    write_result(origin / "model.json", few(made_result(1.2, seed=2, clips=(2.0,))))
    git(origin, "commit", "-qam", "two")
    git(origin, "checkout", "-q", "main")
    git(tmp_path, "clone", "-q", "--depth=1", "--branch", "slow", f"file://{origin}", "checkout")
    return tmp_path / "checkout"


def environment(**more: str) -> dict[str, str]:
    """The tests' environment, with the command of this interpreter first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**{k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "CI_"))}, "PATH": path, **more}


def action(checkout: Path, base: str | None, **inputs: str) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    """Run the action's gate as a runner does; return what came of it and the outputs."""
    given = {name: value.get("default", "") for name, value in ACTION["inputs"].items()} | inputs
    (step,) = [s for s in ACTION["runs"]["steps"] if s.get("id") == "gate"]
    scope = {name: re.fullmatch(r"\$\{\{ inputs\.(\w+) \}\}", text).group(1) for name, text in step["env"].items()}  # type: ignore[union-attr]
    files = {name: checkout.parent / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    more = {name: given[key] for name, key in scope.items()} | {name: str(f) for name, f in files.items()}
    more["RUNNER_TEMP"] = str(checkout.parent)
    if base:
        more["GITHUB_BASE_REF"] = base
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=checkout, env=environment(**more), capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = files["GITHUB_OUTPUT"].read_text().splitlines() if files["GITHUB_OUTPUT"].exists() else []
    return done, dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize(
    ("schema", "file", "more"),
    [("github-actions", "action.yml", []), ("gitlab-ci", "ci/gitlab-gate.yml", ["--data-transform", "gitlab-ci"])],
)
def test_they_follow_the_schemas_of_github_and_gitlab(schema: str, file: str, more: list[str]) -> None:
    command = ["-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *more, str(ROOT / file)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_input_is_pasted_into_a_script() -> None:
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step["run"]
    used = set(re.findall(r"inputs\.(\w+)", json.dumps(ACTION["runs"])))
    assert used == set(ACTION["inputs"])


def test_the_action_fails_a_slower_pull_request(checkout: Path) -> None:
    done, outputs = action(checkout, "main", candidate="model.json")
    assert done.returncode == 1, done.stderr
    assert "::error title=edge-bench gate::REGRESS: slower: model" in done.stdout
    assert outputs["verdict"] == "regress" and float(outputs["ratio"]) > 1.1
    found = json.loads((checkout / outputs["json"]).read_text())
    assert found["baseline"]["git"]["ref"] == "origin/main"
    assert "### edge-bench gate: regress" in (checkout.parent / "github_step_summary").read_text()


@pytest.mark.slow
def test_the_action_without_a_pull_request_takes_the_commit_before(checkout: Path) -> None:
    done, outputs = action(checkout, None, candidate="model.json")
    assert done.returncode == 1 and outputs["verdict"] == "regress", done.stderr
    assert json.loads((checkout / outputs["json"]).read_text())["baseline"]["git"]["ref"] == "HEAD~1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inputs", "code", "words"),
    [({"baseline": "model.json"}, 0, "PASS: no stage"),
     ({"baseline": "model.json", "arguments": CLOSE}, 0, "::warning title=edge-bench gate::INCONCLUSIVE"),
     ({"baseline": "model.json", "arguments": CLOSE, "inconclusive": "fail"}, 3, "::error title=edge-bench gate::INC"),
     ({"baseline": "no-such-ref"}, 2, "::error title=edge-bench gate::edge-bench: --baseline no-such-ref"),
     ({"baseline": "$(touch pwned)"}, 2, "no git ref"), ({"candidate": "none.json"}, 2, "none.json: no such file")],
)  # fmt: skip
def test_exit_codes_in_the_action(checkout: Path, inputs: dict[str, str], code: int, words: str) -> None:
    done, outputs = action(checkout, "main", **{"candidate": "model.json", **inputs})
    assert done.returncode == code and words in done.stdout, done.stdout + done.stderr
    assert not (checkout / "pwned").exists() and bool(outputs) == (code != 2)


def gitlab(checkout: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the job's scripts as GitLab's runner does: all lines in one shell."""
    given = {name: str(value) for name, value in JOB["variables"].items()}
    lines = "\n".join([*JOB["before_script"], *JOB["script"]])
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", lines], cwd=checkout, capture_output=True, text=True, check=False,
        env=environment(**{**given, "EDGE_BENCH_INSTALL": "no", **variables}),
    )  # fmt: skip


@pytest.mark.parametrize(("more", "code"), [("", 1), ("--margin 40 --tolerated 50", 0)])
def test_the_gitlab_job(checkout: Path, more: str, code: int) -> None:
    git(checkout, "fetch", "-q", "--deepen=1")
    base = git(checkout, "rev-parse", "HEAD~1")
    done = gitlab(
        checkout, EDGE_BENCH_CANDIDATE="model.json", CI_MERGE_REQUEST_DIFF_BASE_SHA=base, EDGE_BENCH_ARGUMENTS=more
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert json.loads((checkout / "edge-bench-gate.json").read_text())["baseline"]["git"]["commit"] == base


@pytest.mark.slow
def test_an_inconclusive_gitlab_job_is_a_warning(checkout: Path) -> None:
    done = gitlab(
        checkout, EDGE_BENCH_CANDIDATE="model.json", EDGE_BENCH_BASELINE="model.json", EDGE_BENCH_ARGUMENTS=CLOSE
    )
    assert done.returncode == 3 and JOB["allow_failure"] == {"exit_codes": [3]}


@pytest.mark.slow
def test_the_action_installs_itself(tmp_path: Path) -> None:
    """With what pip has at hand here: the step's own commands, the environment it makes, the command in it."""
    (step,) = [s for s in ACTION["runs"]["steps"] if s["name"] == "Install edge-bench"]
    more: dict[str, Any] = {
        "INSTALL": "", "ACTION": str(ROOT), "RUNNER_TEMP": str(tmp_path), "GITHUB_PATH": str(tmp_path / "path"),
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", step["run"]], env=environment(**more), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    command = Path((tmp_path / "path").read_text().strip()) / "edge-bench"
    assert subprocess.run([command, "--version"], capture_output=True, check=True, cwd=tmp_path).stdout
