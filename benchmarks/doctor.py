"""What is installed here, which interpreter runs, what makes timings unsteady, and what to do about it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime import EdgeBenchError
from edge_runtime.interpreter import BACKENDS

from . import context

SCHEMA = "edge-bench/doctor/1"
FINE, NOTE, BAD = "fine", "note", "bad"
PACKAGES = ("numpy", "ai-edge-litert", "tflite-runtime", "tensorflow", "soundfile", "matplotlib", "sqlalchemy")

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


@dataclass(frozen=True)
class Finding:
    """One line of the examination: fine, note or bad; what was found; what to do about it (empty when fine)."""

    subject: str
    state: str
    found: str
    remedy: str = ""


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
            done = subprocess.run([sys.executable, "-c", _TRY, name], capture_output=True, text=True, timeout=120)
            answer = json.loads(done.stdout)
        except (ValueError, subprocess.TimeoutExpired):
            answer = {"error": "its process died or hung"}
        if "error" in answer:
            remedy = "edge-bench verify --interpreters tells more; another one is used meanwhile"
            findings.append(Finding(f"interpreter {name}", BAD, answer["error"], remedy))
        else:
            what = f"{answer['version']} works, {answer['delegated']} of {answer['nodes']} nodes delegated"
            slow = name == "tflite-runtime" and not answer["delegated"]
            remedy = "int8 is slower than float32 here: install ai-edge-litert where it has a wheel" if slow else ""
            findings.append(Finding(f"interpreter {name}", NOTE if slow else FINE, what, remedy))
    return findings


def clock_step() -> int:
    """Return the smallest step of the clock that is used, nanoseconds."""
    times = np.array([time.perf_counter_ns() for _ in range(20000)])
    steps = np.diff(times)
    return int(steps[steps > 0].min())


def jitter(seconds: float = 1.0) -> float:
    """Return the share of time that this process was kept from running, from gaps in a busy loop."""
    clock = time.perf_counter_ns
    began = last = clock()
    lost = 0
    while last - began < seconds * 1e9:
        now = clock()
        if now - last > 100_000:  # a loop's turn takes far less than 0.1 ms
            lost += now - last
        last = now
    return lost / (last - began)


def steadiness() -> list[Finding]:
    """Return what makes timings unsteady on this machine."""
    machine, now = context.machine(), context.state()
    findings = []
    cores = machine["cores"] or 1
    heavy = now["load"] > 0.5 * cores
    findings.append(
        Finding("load", BAD if heavy else FINE, f"{now['load']} on {cores} core(s)",
                "stop other work, or gate with --clock cpu" if heavy else "")
    )  # fmt: skip
    lost = jitter()
    findings.append(
        Finding("interruptions", BAD if lost > 0.02 else FINE, f"{100 * lost:.1f} % of a second was lost",
                "something else runs on this core: stop it, or give a run more --budget" if lost > 0.02 else "")
    )  # fmt: skip
    governor = machine["governor"]
    changing = governor in ("powersave", "ondemand", "schedutil", "conservative")
    remedy = "sudo cpupower frequency-set -g performance" if changing else ""
    findings.append(Finding("governor", BAD if changing else FINE, governor or "not told (a virtual machine?)", remedy))
    turbo = context._text("/sys/devices/system/cpu/intel_pstate/no_turbo")
    if turbo == "0":
        remedy = "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo"
        findings.append(Finding("turbo", NOTE, "on: the clock depends on heat and neighbours", remedy))
    cpuinfo = context._text("/proc/cpuinfo") or ""
    if "hypervisor" in cpuinfo:
        findings.append(
            Finding("virtual machine", NOTE, "the host shares its cores", "compare by `edge-bench gate`, in pairs")
        )
    bits = now["throttled"]
    if bits is not None:
        low = int(bits, 16)
        findings.append(
            Finding("throttling", BAD if low & 0xF else NOTE if low else FINE, bits,
                    "check supply and cooling, then restart the board" if low else "")
        )  # fmt: skip
    heat = now["temperature_c"]
    if heat is not None:
        remedy = "cool it: boards slow down from 80 C" if heat >= 75 else ""
        findings.append(Finding("temperature", BAD if heat >= 75 else FINE, f"{heat:.0f} C", remedy))
    step = clock_step()
    remedy = "times of single calls are coarse here" if step > 1000 else ""
    findings.append(Finding("clock", BAD if step > 1000 else FINE, f"steps of {step} ns", remedy))
    return findings


def examine() -> dict[str, Any]:
    """Return ``edge-bench/doctor/1``: versions and findings."""
    found = versions()
    findings = [Finding("Python", FINE, f"{sys.version.split()[0]} at {sys.executable}")]
    findings += [Finding(name, FINE if v else NOTE, v or "not installed") for name, v in found.items()]
    findings += interpreters()
    try:
        from edge_runtime.bundle import read

        read("swishnet-slim-int8")
        findings.append(Finding("shipped bundle", FINE, "its checksum is right"))
    except EdgeBenchError as error:
        findings.append(Finding("shipped bundle", BAD, str(error), "install edge-bench again"))
    findings += steadiness()
    if not Path("/proc/self/smaps_rollup").exists():
        findings.append(Finding("memory", NOTE, "no smaps_rollup: PSS and USS are not told"))
    return {"schema": SCHEMA, "machine": context.machine(), "findings": [asdict(f) for f in findings]}
