"""What the runtime imports: numpy and the standard library, so that a board needs nothing else."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest
from helpers import python

import edge_runtime

SOURCES = sorted(p for p in Path(edge_runtime.__file__).parent.rglob("*.py") if p.name != "cli.py")
MODULES = [
    ".".join(("edge_runtime", *p.relative_to(Path(edge_runtime.__file__).parent).with_suffix("").parts)).removesuffix(
        ".__init__"
    )
    for p in SOURCES
]
FOREIGN = """
import json, sys
before = set(sys.modules)
{imports}
loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
# __mp_main__ is what multiprocessing calls the main module
loaded = {{name for name in loaded if "cython_" not in name}}  # made by numpy.random, no file has these names
print(json.dumps(sorted(loaded - set(sys.stdlib_module_names) - {{"numpy", "edge_runtime", "__mp_main__"}})))
"""


def test_the_modules_are_found() -> None:
    assert {"edge_runtime", "edge_runtime.bundle", "edge_runtime.classify", "edge_runtime.audio"} <= set(MODULES)


@pytest.mark.parametrize("names", [["edge_runtime"], [*MODULES]], ids=["the package", "every module"])
def test_importing_loads_nothing_else(names: list[str]) -> None:
    imports = "\n".join(f"import {name}" for name in names)
    assert json.loads(python(FOREIGN.format(imports=imports))) == []


def test_features_need_no_interpreter() -> None:
    code = """
import sys
import numpy as np
from edge_runtime import FrontEnd, FrontEndConfig, StreamingFrontEnd
assert FrontEnd(FrontEndConfig())(np.zeros(16000, np.float32)).shape == (98, 20)
assert len(StreamingFrontEnd(FrontEndConfig()).push(np.zeros(400, np.int16))) == 1
print(sorted({n.partition(".")[0] for n in sys.modules} & {"tensorflow", "ai_edge_litert", "tflite_runtime", "scipy"}))
"""
    assert python(code) == "[]\n"


def test_classifying_loads_one_interpreter_and_no_tensorflow(bundles: dict[str, Path]) -> None:
    code = """
import sys
import numpy as np
from edge_runtime import Classifier
with Classifier(sys.argv[1], clip_s=0.5) as classifier:
    classifier.classify(np.zeros(8000, np.float32))
print(sorted({n.partition(".")[0] for n in sys.modules} & {"tensorflow", "tflite_runtime", "scipy", "soundfile"}))
"""
    assert python(code, str(bundles["int8"])) == "[]\n"


def test_evaluating_a_bundle_loads_no_tensorflow(bundles: dict[str, Path], corpus_root: Path, tmp_path: Path) -> None:
    code = """
import sys
from edge_bench.train.evaluate_cli import evaluate
evaluate(sys.argv[1:], standalone_mode=False)
print(sorted({n.partition(".")[0] for n in sys.modules} & {"tensorflow", "keras", "tflite_runtime"}))
"""
    places = ["--corpus", str(corpus_root), "--cache", str(tmp_path)]
    lines = python(code, str(bundles["int8"]), "--clips", "1", *places).splitlines()
    assert lines[-1] == "[]" and any(line.startswith("1 s") for line in lines)


def test_a_slip_in_a_recipe_is_told_before_tensorflow_loads(corpus_root: Path, tmp_path: Path) -> None:
    code = """
import sys
from edge_bench.train.cli import train
for recipe in sys.argv[3:]:
    try:
        train([recipe, "--corpus", sys.argv[1], "--out", sys.argv[2]], standalone_mode=False)
    except Exception as error:
        print(error)
print(sorted({n.partition(".")[0] for n in sys.modules} & {"tensorflow", "keras"}))
"""
    texts = ('model = "swish"', 'model = "swishnet-slim"\n[fit]\nepoch = 3', 'model = "gmm"\n[fit]\nepochs = 3')
    recipes = [tmp_path / f"{i}.toml" for i in range(len(texts))]
    for file, text in zip(recipes, texts, strict=True):
        file.write_text(text)
    name, epoch, epochs, loaded = python(code, str(corpus_root), str(tmp_path / "out"), *map(str, recipes)).splitlines()
    assert name.startswith("model 'swish' is unknown; the zoo has ") and "unknown key 'epochs'" in epochs
    assert epoch.startswith("[fit]: unknown key 'epoch'; known are") and loaded == "[]"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", SOURCES, ids=MODULES)
def test_source_imports(path: Path) -> None:
    """At module level: relative, numpy or the standard library. Nowhere: this project's other packages."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [] if node.level else [node.module or ""]
        else:
            continue
        for name in names:
            top = name.partition(".")[0]
            assert top not in ("edge_bench", "tensorflow", "keras", "librosa", "scipy"), f"line {node.lineno}: {name}"
            if id(node) not in lazy:
                assert top == "numpy" or top in sys.stdlib_module_names, f"line {node.lineno}: {name}"


def test_public_names_exist() -> None:
    assert len(set(edge_runtime.__all__)) == len(edge_runtime.__all__)
    for name in edge_runtime.__all__:
        assert getattr(edge_runtime, name).__doc__, name


def test_errors_have_one_root() -> None:
    from edge_runtime import errors

    kinds = [e for e in vars(errors).values() if isinstance(e, type)]
    assert len(kinds) >= 6 and all(issubclass(e, errors.EdgeBenchError) for e in kinds)
