"""gate --baseline REF: the file as a commit has it, or what a build makes there; the pytest plugin; clear errors."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from made_results import made_result, write_result

from edge_bench.benchmarks import cli
from edge_bench.benchmarks.git_baseline import AtRef, baseline_file
from edge_runtime import ConfigError
from edge_runtime.bundle import read, resolve

pytest_plugins = "pytester"
SHIPPED = "swishnet-slim-int8"


def git(folder: Path, *arguments: str) -> str:
    """Run git as somebody, whatever the machine's configuration says."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A project with a result and a bundle in two commits: the model of the second is 20 % slower."""
    root = tmp_path / "project"
    (root / "models").mkdir(parents=True)
    git(root, "init", "-q")
    shutil.copy(resolve(SHIPPED), root / "models" / "net.tflite")
    write_result(root / "models" / "run.json", made_result(seed=1))
    (root / "make.sh").write_text("printf built > made.bin; cp models/run.json made.json\n")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "one")
    git(root, "tag", "v1")
    write_result(root / "models" / "run.json", made_result(1.2, seed=2))
    (root / "models" / "net.tflite").write_bytes(b"not a bundle")
    git(root, "commit", "-qam", "two")
    return root


def test_the_file_at_a_ref(repository: Path) -> None:
    commit = git(repository, "rev-parse", "v1")
    candidate = str(repository / "models" / "net.tflite")
    for ref in ("v1", "HEAD~1", commit, commit[:10]):
        with baseline_file(ref, candidate) as (file, origin):
            assert read(file).sha256 == read(SHIPPED).sha256
            assert origin == AtRef(ref, commit, "models/net.tflite")
        assert not Path(file).exists()
    with baseline_file("v1:models/run.json", candidate) as (file, origin):
        assert json.loads(Path(file).read_text()) == made_result(seed=1)
    with baseline_file(candidate, candidate) as given:
        assert given == (candidate, None)
    with baseline_file(SHIPPED, candidate) as given:
        assert given == (SHIPPED, None)


def test_a_build_at_a_ref_leaves_nothing(repository: Path) -> None:
    (repository / "made.json").write_text("{}")
    before = git(repository, "status", "--porcelain")
    with baseline_file("v1", str(repository / "made.json"), build="sh make.sh") as (file, _):
        assert json.loads(Path(file).read_text()) == made_result(seed=1)
    assert not Path(file).exists() and git(repository, "status", "--porcelain") == before
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    with pytest.raises(ConfigError, match="failed at v1 with exit status 3: no tools"):
        with baseline_file("v1", str(repository / "made.json"), build="echo no tools >&2; exit 3"):
            pass
    with pytest.raises(ConfigError, match=r"made no made\.json"):
        with baseline_file("v1", str(repository / "made.json"), build="true"):
            pass
    assert len(git(repository, "worktree", "list").splitlines()) == 1


@pytest.mark.parametrize(
    ("baseline", "words"),
    [("v2", "no git ref .*shallow clone"), ("--help", "no git ref"), ("v1;id", "no git ref"),
     ("v1:nothing.bin", r"nothing.bin is not in the repository at v1 \(.*--build"), ("", "no git ref"),
     ("v1:../../etc/passwd", "is not in the repository")],
)  # fmt: skip
def test_refs_that_make_no_sense(repository: Path, baseline: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        with baseline_file(baseline, str(repository / "models" / "net.tflite")):
            pass


def test_outside_of_git_and_pointers(repository: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.tflite"
    alone.write_bytes(b"x")
    with pytest.raises(ConfigError, match="no git repository"):
        with baseline_file("main", str(alone)):
            pass
    with pytest.raises(ConfigError, match=r"missing.tflite: no such file"):
        with baseline_file("main", str(tmp_path / "missing.tflite")):
            pass
    with pytest.raises(ConfigError, match="--build makes the baseline of a git ref"):
        with baseline_file(str(alone), str(alone), build="true"):
            pass
    pointer = repository / "models" / "net.tflite"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    git(repository, "commit", "-qam", "lfs")
    with pytest.raises(ConfigError, match="pointer of Git LFS"):
        with baseline_file("HEAD", str(pointer)):
            pass


def test_the_command_says_what_it_compared_with(repository: Path, tmp_path: Path) -> None:
    out = tmp_path / "gate.json"
    done = CliRunner().invoke(
        cli.group, ["gate", str(repository / "models" / "run.json"), "--baseline", "v1", "--json", str(out)]
    )
    assert done.exit_code == 1 and " at v1 (" in done.output, done.output
    found = json.loads(out.read_text())
    assert found["verdict"] == "regress"
    assert found["baseline"]["git"] == {
        "ref": "v1", "commit": git(repository, "rev-parse", "v1"), "path": "models/run.json",
    }  # fmt: skip


def test_the_plugin_is_registered_and_costs_nothing(pytester: pytest.Pytester) -> None:
    (entry,) = importlib.metadata.entry_points(group="pytest11", name="edge_bench")
    assert entry.value == "edge_bench.benchmarks.pytest_plugin"
    pytester.makepyfile(
        """
        import sys

        def test_nothing_is_imported():
            import edge_bench.benchmarks.pytest_plugin
            loaded = {name for name in sys.modules if name.startswith(("edge_runtime", "edge_bench"))}
            assert loaded == {"edge_bench", "edge_bench.benchmarks", "edge_bench.benchmarks.pytest_plugin"}
            assert not {"numpy", "click", "ai_edge_litert", "tensorflow"} & set(sys.modules)
        """
    )
    result = pytester.runpytest_subprocess(*QUICK)
    result.assert_outcomes(passed=1)


QUICK = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:benchmark", "-p", "no:xdist")


def few(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result with few samples: quickly compared."""
    for stage in result["clips"][0]["stages"].values():
        stage["samples"] = stage["samples"][:60]
    return result


def gated(pytester: pytest.Pytester, slower: float, *options: str, margin: float = 2, tolerated: float = 5) -> Any:
    """Run a project's gate on drawn results."""
    write_result(pytester.path / "old.json", few(made_result(seed=1, clips=(2.0,))))
    write_result(pytester.path / "new.json", few(made_result(slower, seed=2, clips=(2.0,))))
    pytester.makepyfile(
        f"""
        import warnings

        def test_speed(edge_bench_gate):
            found = edge_bench_gate("new.json", baseline="old.json", margin={margin}, tolerated={tolerated})
            assert found["schema"] == "edge-bench/gate/1"

        def test_other():
            pass
        """
    )
    return pytester.runpytest(*QUICK, *options)


def test_a_test_passes_and_keeps_its_gate(pytester: pytest.Pytester) -> None:
    result = gated(pytester, 1.0, "--edge-bench-json", "gates", "--strict-markers", "--junitxml", "out.xml")
    result.assert_outcomes(passed=2)
    (kept,) = (pytester.path / "gates").iterdir()
    assert json.loads(kept.read_text())["verdict"] == "pass"
    assert 'name="edge_bench_verdict" value="pass"' in (pytester.path / "out.xml").read_text()
    pytester.runpytest(*QUICK, "-m", "not edge_bench").assert_outcomes(passed=1, deselected=1)


def test_a_test_fails_with_the_gates_table(pytester: pytest.Pytester) -> None:
    result = gated(pytester, 1.2)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["model *regress", "*REGRESS: slower: model*"])
    assert "pytest_plugin.py" not in result.stdout.str(), "no traceback of ours"


def test_an_inconclusive_gate_does_what_the_project_says(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nedge_bench_inconclusive = skip\n")
    gated(pytester, 1.0, margin=0.01, tolerated=0.02).assert_outcomes(skipped=1, passed=1)
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("way", [None, "skip", "warn", "pass"])
        def test_speed(edge_bench_gate, way):
            edge_bench_gate("new.json", baseline="old.json", margin=0.01, tolerated=0.02, inconclusive=way)
        """
    )
    found = pytester.runpytest(*QUICK, "--edge-bench-inconclusive", "fail")
    found.assert_outcomes(failed=1, skipped=1, passed=2, warnings=1)
    found.stdout.fnmatch_lines(["*INCONCLUSIVE: the bounds are still too wide*"])


def test_mistakes_are_one_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_speed(edge_bench_gate):\n    edge_bench_gate('none.tflite', baseline='HEAD')\n")
    result = pytester.runpytest(*QUICK)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["edge-bench: none.tflite: no such file*"])
    pytester.makeini("[pytest]\nedge_bench_seconds = soon\n")
    result = pytester.runpytest(*QUICK)
    assert "must be a number of at least 5" in result.stdout.str() + result.stderr.str()
