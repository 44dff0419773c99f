"""What makes timings unsteady on this machine: load and who makes it, gaps, clocks, limits, heat."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from . import context
from .findings import BAD, FINE, NOTE, Finding

_SYS = "/sys/devices/system"


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


def processor_times() -> dict[int, tuple[int, str]]:
    """Return the processor time (clock ticks) and the command of every process, by its id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (folder / "stat").read_text(errors="replace").rpartition(")")
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        fields = rest.split()
        found[int(folder.name)] = (int(fields[11]) + int(fields[12]), words or name.partition("(")[2])
    return found


def busiest(
    before: dict[int, tuple[int, str]], after: dict[int, tuple[int, str]], seconds: float, *, least: float = 0.1
) -> list[tuple[int, float, str]]:
    """Return (id, share of a core, command) of the other processes that took at least `least` of a core meanwhile."""
    ticks = os.sysconf("SC_CLK_TCK") * seconds
    shares = [
        (pid, (used - before[pid][0]) / ticks, command)
        for pid, (used, command) in after.items()
        if pid in before and pid != os.getpid()
    ]
    return sorted((s for s in shares if s[1] >= least), key=lambda s: -s[1])


def steadiness(seconds: float = 1.0) -> list[Finding]:
    """Return the findings; watches the machine for `seconds`."""
    began, before = time.perf_counter(), processor_times()
    lost = jitter(seconds)
    others = busiest(before, processor_times(), time.perf_counter() - began)
    return [*_work(lost, seconds, others), *_limits(), *_clocks(), *_heat()]


def _work(lost: float, seconds: float, others: list[tuple[int, float, str]]) -> list[Finding]:
    machine, now = context.machine(), context.state()
    cores = machine["cores"] or 1
    heavy = now["load"] > 0.5 * cores
    found = [
        Finding("load", BAD if heavy else FINE, f"{now['load']} on {cores} core(s)",
                "stop other work, or gate with --clock cpu" if heavy else ""),
        Finding("interruptions", BAD if lost > 0.02 else FINE, f"{100 * lost:.1f} % of {seconds:g} s was lost",
                "something else runs on this core: stop it, or give a run more --budget" if lost > 0.02 else ""),
    ]  # fmt: skip
    for pid, share, command in others[:3]:
        found.append(
            Finding(f"process {pid}", BAD if share > 0.5 else NOTE, f"{100 * share:.0f} % of a core: {command[:70]}",
                    "end it, or measure when it is done")
        )  # fmt: skip
    return found


def _limits() -> list[Finding]:
    """Return what keeps this process from whole cores: a container's quota, few cores, a virtual machine."""
    found = []
    quota, _, period = (context._text("/sys/fs/cgroup/cpu.max") or "max 100000").partition(" ")
    if quota != "max" and period.isdigit():
        share = int(quota) / int(period)
        remedy = "the container is stopped for the rest of every period: run it without --cpus (cpuset-cpus is fine)"
        found.append(Finding("container", BAD, f"may use {share:.3g} core(s) by quota", remedy))
    allowed, cores = len(context.usable_cores()), os.cpu_count() or 1
    if allowed < cores:
        found.append(Finding("cores", NOTE, f"{allowed} of {cores} may be used", "taskset or a cpuset narrowed them"))
    if context._text(f"{_SYS}/cpu/smt/active") == "1":
        remedy = "keep work off the sibling core, or echo off | sudo tee /sys/devices/system/cpu/smt/control"
        found.append(Finding("hyper-threading", NOTE, "on: two cores share one core's units", remedy))
    if "hypervisor" in (context._text("/proc/cpuinfo") or ""):
        remedy = "compare by `edge-bench gate`, in pairs"
        found.append(Finding("virtual machine", NOTE, "the host shares its cores", remedy))
    return found


def _clocks() -> list[Finding]:
    """Return what changes the processor's clock, and how well time can be told."""
    governor = context.machine()["governor"]
    changing = governor in ("powersave", "ondemand", "schedutil", "conservative")
    remedy = "sudo cpupower frequency-set -g performance" if changing else ""
    found = [Finding("governor", BAD if changing else FINE, governor or "not told (a virtual machine?)", remedy)]
    for file, on, off in (("intel_pstate/no_turbo", "0", "1"), ("cpufreq/boost", "1", "0")):
        if context._text(f"{_SYS}/cpu/{file}") == on:
            remedy = f"echo {off} | sudo tee {_SYS}/cpu/{file}"
            found.append(Finding("turbo", NOTE, "on: the clock depends on heat and neighbours", remedy))
    source = context._text(f"{_SYS}/clocksource/clocksource0/current_clocksource")
    if source in ("hpet", "acpi_pm", "jiffies"):
        remedy = "reading the clock is slow; boot with clocksource=tsc where the processor has it"
        found.append(Finding("clock source", BAD, source, remedy))
    step = clock_step()
    remedy = "times of single calls are coarse here" if step > 1000 else ""
    told = f"steps of {step} ns" + (f", from {source}" if source else "")
    found.append(Finding("clock", BAD if step > 1000 else FINE, told, remedy))
    return found


def _heat() -> list[Finding]:
    """Return throttling, temperature and supply, where the machine tells."""
    now, found = context.state(), []
    bits = now["throttled"]
    if bits is not None:
        low = int(bits, 16)
        remedy = "check supply and cooling, then restart the board" if low else ""
        found.append(Finding("throttling", BAD if low & 0xF else NOTE if low else FINE, bits, remedy))
    heat = now["temperature_c"]
    if heat is not None:
        remedy = "cool it: boards slow down from 80 C" if heat >= 75 else ""
        found.append(Finding("temperature", BAD if heat >= 75 else FINE, f"{heat:.0f} C", remedy))
    mains = [context._text(str(p / "online")) for p in Path("/sys/class/power_supply").glob("A*")]
    if mains and "1" not in mains:
        found.append(Finding("supply", NOTE, "on battery", "plug it in: laptops slow down on battery"))
    return found
