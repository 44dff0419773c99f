"""What is installed here, which interpreter runs, what makes timings unsteady, and what to do about it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import edge_runtime
from edge_runtime import EdgeBenchError
from edge_runtime.bundle import read
from edge_runtime.interpreter import BACKENDS, install_hint

from . import context, instructions
from .findings import BAD, FINE, NOTE, Finding
from .steadiness import steadiness

SCHEMA = "edge-bench/doctor/1"
PATIENCE_S = 120
# package -> what it is for, and how it comes
PACKAGES = {
    "numpy": "pip install edge-bench",
    "ai-edge-litert": "the fastest interpreter: pip install ai-edge-litert (Python 3.9+, 64-bit)",
    "tflite-runtime": "only where ai-edge-litert has no wheel: pip install tflite-runtime 'numpy<2' (Python <= 3.11)",
    "tensorflow": "to train and quantise: pip install 'edge-bench[train]'",
    "soundfile": "to read FLAC, OGG and MP3: pip install 'edge-bench[audio]'",
    "matplotlib": "pictures of --plot: pip install 'edge-bench[report]'",
    "resvg-py": "PNG files of `edge-bench report --figures`: pip install 'edge-bench[report]'",
    "onnxruntime": "ONNX networks in `edge-bench run --against`: pip install 'edge-bench[peers]'",
    "sqlalchemy": "`edge-bench history --store URL`: pip install 'edge-bench[store]'",
}
PROGRAMS = (
    ("git", "`gate --baseline REF`", "git"),
    ("ssh", "boards over the network", "openssh-client"),
    ("qemu-aarch64-static", "emulated boards", "qemu-user-static"),
)

_TRY = """
import sys, json
from edge_runtime import Classifier, EdgeBenchError
import numpy as np
try:
    with Classifier("swishnet-slim-int8", clip_s=0.5, backend=sys.argv[1]) as c:
        c.classify(np.zeros(8000, np.float32))
        nodes = c.session.nodes()
        print(json.dumps({"version": c.session.version, "nodes": nodes.total, "delegated": nodes.delegated}))
except EdgeBenchError as error:
    print(json.dumps({"error": str(error)}))
"""


def versions() -> dict[str, str | None]:
    """Return the versions of the packages that matter here, None for what is absent."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        found[name] = None
        for distribution in (name, f"{name}-cpu"):  # tensorflow comes under both names
            try:
                found[name] = metadata.version(distribution)
                break
            except metadata.PackageNotFoundError:
                continue
    return found


def interpreters() -> list[Finding]:
    """Run the shipped network on every interpreter that is installed, each in a process of its own."""
    findings = []
    modules = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime", "tf.lite": "tensorflow"}
    for name in BACKENDS:
        if name in modules and importlib.util.find_spec(modules[name]) is None:
            findings.append(Finding(f"interpreter {name}", NOTE, "not installed"))
            continue
        try:
            command = [sys.executable, "-c", _TRY, name]
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
            answer = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            answer = {"error": f"its process gave no answer in {PATIENCE_S} s"}
        except ValueError:
            answer = {"error": f"its process died (exit status {done.returncode})"}
        if "error" in answer:
            remedy = "edge-bench verify --interpreters tells more; another one is used meanwhile"
            findings.append(Finding(f"interpreter {name}", BAD, answer["error"], remedy))
        else:
            what = f"{answer['version']} works, {answer['delegated']} of {answer['nodes']} nodes delegated"
            slow = name == "tflite-runtime" and not answer["delegated"]
            remedy = "int8 is slower than float32 here: install ai-edge-litert where it has a wheel" if slow else ""
            findings.append(Finding(f"interpreter {name}", NOTE if slow else FINE, what, remedy))
    return findings


def tools() -> list[Finding]:
    """Return what beside Python packages some commands need."""
    found = []
    try:
        source = instructions.available()
        found.append(Finding("instruction counts", FINE, f"by {source}"))
    except EdgeBenchError as error:
        found.append(Finding("instruction counts", NOTE, str(error), "apt install valgrind"))
    for program, use, package in PROGRAMS:
        there = shutil.which(program)
        remedy = "" if there else f"for {use}: apt install {package}"
        found.append(Finding(program, FINE if there else NOTE, there or "not installed", remedy))
    if not Path("/proc/self/smaps_rollup").exists():
        remedy = "a kernel from 4.14 on has it"
        found.append(Finding("memory", NOTE, "no smaps_rollup: PSS and USS are not told", remedy))
    return found


def examine() -> dict[str, Any]:
    """Return ``edge-bench/doctor/1``: findings by group, and the interpreter that ``--backend auto`` takes."""
    packages = [Finding("Python", FINE, f"{sys.version.split()[0]} at {sys.executable}")]
    packages.append(Finding("edge-bench", FINE, f"{edge_runtime.__version__} at {Path(edge_runtime.__file__).parent}"))
    for name, version in versions().items():
        remedy = "" if version else PACKAGES[name]
        packages.append(Finding(name, FINE if version else NOTE, version or "not installed", remedy))
    found = interpreters()
    names = [f.subject.removeprefix("interpreter ") for f in found if f.found and " works" in f.found]
    chosen = next((name for name in BACKENDS if name in names), None)
    if chosen is None or chosen == "numpy":
        only = "none works" if chosen is None else "only numpy's executor works: some 20 times slower"
        found.append(Finding("used by default", BAD, only, install_hint()))
    else:
        found.append(Finding("used by default", FINE, f"{chosen}; --backend NAME takes another"))
    try:
        read("swishnet-slim-int8")
        packages.append(Finding("shipped bundle", FINE, "its checksum is right"))
    except EdgeBenchError as error:
        packages.append(Finding("shipped bundle", BAD, str(error), "install edge-bench again"))
    groups = {"installed": packages, "interpreters": found, "tools": tools(), "timing": steadiness()}
    findings = [{"group": group, **asdict(f)} for group, lines in groups.items() for f in lines]
    return {"schema": SCHEMA, "machine": context.machine(), "interpreter": chosen, "findings": findings}
