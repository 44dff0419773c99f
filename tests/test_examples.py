"""The examples of the documentation run: docstrings of the runtime, and the Python in README."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import helpers
import pytest

import edge_runtime
from edge_runtime.wav import write_wav

MODULES = [
    m.name for m in pkgutil.walk_packages(edge_runtime.__path__, "edge_runtime.")
    if not m.ispkg and ">>> " in Path(edge_runtime.__path__[0], *m.name.split(".")[1:]).with_suffix(".py").read_text()
]  # fmt: skip


def test_the_public_objects_have_examples() -> None:
    for thing in (edge_runtime.Segmenter, edge_runtime.Classifier, edge_runtime.FrontEnd):
        assert ">>> " in (thing.__doc__ or ""), thing


@pytest.mark.parametrize("name", [*MODULES, "edge_bench.train.events"])
def test_docstrings(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried and not failed


def test_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write_wav(tmp_path / "interview.wav", helpers.speech(5.0, 1), helpers.RATE)
    readme = Path(__file__).parents[1] / "README.md"
    blocks = re.findall(r"```python\n(.*?)```", readme.read_text(), re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) >= 3
