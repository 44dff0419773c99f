"""On what machine, with what software and under what load a measurement was made."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

import edge_runtime


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def cpu_name() -> str:
    """Return the processor's name as the system gives it."""
    for line in (_text("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()


def usable_cores() -> set[int]:
    """Return the numbers of the cores that this process may use."""
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # not on every system
        return set(range(os.cpu_count() or 1))


def throttled() -> str | None:
    """Return a Raspberry Pi's throttling bits (``vcgencmd get_throttled``), None elsewhere."""
    try:
        done = subprocess.run(["vcgencmd", "get_throttled"], capture_output=True, text=True, timeout=2, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().partition("=")[2] or None


def temperature() -> float | None:
    """Return the processor's temperature in degrees Celsius where the system tells."""
    value = _text("/sys/class/thermal/thermal_zone0/temp")
    return float(value) / 1000 if value and value.lstrip("-").isdigit() else None


def stolen() -> float | None:
    """Return the seconds in which the host ran something else on this virtual machine's cores, since it started."""
    fields = (_text("/proc/stat") or "").partition("\n")[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else None


def state() -> dict[str, Any]:
    """Return what changes while measuring: load, frequency, temperature, throttling, time that the host took."""
    frequency = _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    return {
        "load": round(os.getloadavg()[0], 2),
        "frequency_mhz": int(frequency) / 1000 if frequency else None,
        "temperature_c": temperature(),
        "throttled": throttled(),
        "stolen_s": stolen(),
        "clock_s": round(time.monotonic(), 3),
    }


def machine() -> dict[str, Any]:
    """Return what stays: board, processor, cores, memory, governor, system."""
    memory = next(
        (int(line.split()[1]) * 1024 for line in (_text("/proc/meminfo") or "").splitlines() if "MemTotal" in line),
        None,
    )
    return {
        "board": _text("/proc/device-tree/model"),
        "cpu": cpu_name(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "memory": memory,
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "system": platform.platform(),
    }


def collect() -> dict[str, Any]:
    """Return the whole context of a run."""
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["edge-bench", *sys.argv[1:]]),
        "edge_bench": edge_runtime.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": machine(),
        "before": state(),
    }


def remarks(context: dict[str, Any]) -> list[str]:
    """Return what makes the figures doubtful, each with its remedy; empty when nothing does."""
    found = []
    before, after = context["before"], context.get("after", {})
    cores = context["machine"]["cores"] or 1
    if before["load"] > 0.5 * cores:
        found.append(
            f"load was {before['load']} on {cores} cores before the run: stop other work, or compare medians only"
        )
    governor = context["machine"]["governor"]
    if governor in ("powersave", "ondemand", "schedutil", "conservative"):
        found.append(f"governor is {governor}: set performance (cpupower frequency-set -g performance)")
    for when, values in (("before", before), ("after", after)):
        bits = values.get("throttled")
        if bits and int(bits, 16) & 0xF:
            found.append(f"the board was throttled {when} the run ({bits}): check supply and cooling")
    sticky = [int(values["throttled"], 16) >> 16 & 0xF if values.get("throttled") else 0 for values in (before, after)]
    if sticky[1] & ~sticky[0]:
        reasons = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
        seen = [word for bit, word in enumerate(reasons) if (sticky[1] & ~sticky[0]) >> bit & 1]
        found.append(f"during the run: {', '.join(seen)}; check supply and cooling")
    clocks = [values.get("frequency_mhz") for values in (before, after)]
    if all(clocks) and clocks[1] < 0.9 * clocks[0]:
        found.append(f"the clock fell from {clocks[0]:.0f} to {clocks[1]:.0f} MHz: fix it (governor, cooling, supply)")
    if (after.get("temperature_c") or 0) >= 80:
        found.append(f"the processor is at {after['temperature_c']:.0f} C: cool it, boards slow down from 80 C")
    if before.get("stolen_s") is not None and after.get("stolen_s") is not None:
        share = (after["stolen_s"] - before["stolen_s"]) / max(after["clock_s"] - before["clock_s"], 1e-3)
        if share > 0.02:
            found.append(f"the host took {100 * share:.0f} % of a core away during the run: measure at another time")
    return found
