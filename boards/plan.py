"""Whether a bundle fits a board, and how fast it would be there: predictions, never measurements.

Time is the roofline (Williams, Waterman & Patterson 2009, "Roofline: an insightful visual performance model"): no
machine is faster than its peak of multiply-accumulates a second allows, nor than its memory delivers weights and
activations. So the prediction is a **lower bound**; networks this small lose several times that to the overhead of
their operators. Where a bundle's instructions were counted (`counted`), they give a closer bound. `against` says how
far a measured run was off.

On a microcontroller the model stays in flash, RAM is the tensor arena that TFLite's planner would lay out plus the
front end's buffers, and the shape is the one that the file declares: nothing can be resized there.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from edge_bench.benchmarks.results import refuse_emulated
from edge_runtime.arena import arena_bytes
from edge_runtime.bundle import Bundle
from edge_runtime.config import FrontEndConfig
from edge_runtime.errors import ConfigError
from edge_runtime.inspect import LINEAR, operator_macs
from edge_runtime.tflite import Subgraph

from .counted import SHIPPED, predict
from .profile import Profile

SCHEMA = "edge-bench/plan/1"
# Measured on x86-64 with Python 3.11 (results/run.json, FACTS): an upper guide for a 64-bit board.
PROCESS_RAM = 60_000_000  # peak of `edge-bench classify` on 2 s
INSTALLED = {"ai-edge-litert": 161_000_000, "tflite-runtime": 108_000_000, "none": 60_000_000}
# TFLite Micro with the ten operators that the shipped networks use, and a fixed-point front end (estimates).
MICRO_CODE = 90_000
MICRO_STATE = 12_000  # tensor structures and scratch buffers beside the arena


def front_end_macs(config: FrontEndConfig) -> int:
    """Return about how many multiply-accumulates one frame costs: window, real FFT, power, mel bands, cosines."""
    bins = config.fft_length // 2 + 1
    transform = config.fft_length * int(math.log2(config.fft_length))  # 2 N log2 N real operations, two to a MAC
    bands = 0 if config.kind == "power" else bins * config.mel_bands
    cosines = config.mel_bands * config.coefficients if config.kind == "mfcc" else 0
    return config.frame_length + transform + 2 * bins + bands + cosines


def front_end_ram(config: FrontEndConfig) -> int:
    """Return the bytes of buffers that a front end in C needs: int16 samples, a float FFT, sparse mel filters."""
    return 2 * config.frame_length + 8 * config.fft_length + 8 * (config.fft_length // 2 + 1)


def traffic(graph: Subgraph) -> int:
    """Return the bytes that the convolutions of a graph read and write, each once."""
    sizes = {"float32": 4, "int32": 4, "int16": 2}
    total = 0
    for operator in graph.operators:
        if operator.name in LINEAR:
            for index in (*operator.inputs, *operator.outputs):
                if index >= 0:
                    tensor = graph.tensors[index]
                    total += math.prod(tensor.shape) * sizes.get(tensor.dtype, 1)
    return total


def roofline(macs: float, bytes_moved: float, peak: float, bandwidth: float) -> dict[str, Any]:
    """Return ``us`` and what limits it, for a peak in multiply-accumulates and a bandwidth in bytes a second."""
    compute, memory = macs / peak * 1e6, bytes_moved / bandwidth * 1e6
    return {"us": round(max(compute, memory), 3), "limited_by": "compute" if compute >= memory else "memory"}


def plan(bundle: Bundle, board: Profile, *, counts: str | Path = SHIPPED) -> dict[str, Any]:
    """Return ``edge-bench/plan/1``: what a bundle needs on a board, what the board gives, and whether it fits.

    `counts` is a table of instructions, see `edge_bench.boards.counted`; the shipped one knows the shipped bundles.
    """
    config, processor = bundle.front_end, board.processor
    quantised = bundle.info["precision"] != "float32"
    peak = processor.clock_mhz * 1e6 * (processor.int8_macs if quantised else processor.float_macs)
    # where float is slow, a front end in C computes with 16-bit integers: half the rate of 8-bit ones
    front_rate = max(processor.float_macs, processor.int8_macs / 2 if board.kind == "microcontroller" else 0)
    front_peak = processor.clock_mhz * 1e6 * front_rate
    forms = {}
    for key, form in bundle.info["forms"].items():
        graph = bundle.model.subgraphs[form["subgraph"]]
        frames = form["input"]["shape"][2] if key == "clip" else form["output"]["shape"][2]  # new ones, a call
        macs = sum(operator_macs(graph, operator) for operator in graph.operators)
        network = roofline(macs, traffic(graph), peak, processor.bandwidth)
        front_macs = frames * front_end_macs(config)
        samples = 4 * frames * config.hop_length
        front = roofline(front_macs, samples, front_peak, processor.bandwidth)
        seconds = frames * config.hop_length / config.sample_rate
        total = network["us"] + front["us"]
        forms[key] = {
            "frames": frames, "seconds": round(seconds, 4), "macs": macs, "frontend_macs": front_macs,
            "arena_bytes": arena_bytes(graph), "model": network, "frontend": front, "total_us": round(total, 3),
            "real_time_factor": total / 1e6 / seconds,
        }  # fmt: skip
    needs = _needs(bundle, board, forms["clip"]["arena_bytes"])
    limits = {"flash": board.budget.flash, "ram": board.budget.ram, "real_time_factor": board.budget.real_time_factor}
    needs["real_time_factor"] = forms["clip"]["real_time_factor"]
    fits = {key: needs[key] <= limit for key, limit in limits.items()}
    return {
        "schema": SCHEMA,
        "prediction": True,
        "method": "roofline, one core: a lower bound on the time",
        "board": board.name,
        "architecture": processor.architecture,
        "bundle": {"name": bundle.name, "sha256": bundle.sha256, "bytes": bundle.size,
                   "model_bytes": len(bundle.flatbuffer), "precision": bundle.info["precision"]},
        "forms": forms,
        "by_instructions": predict(bundle.sha256, board, counts),
        "needs": needs,
        "budget": limits,
        "fits": {**fits, "all": all(fits.values())},
        "notes": _notes(bundle, board, fits),
    }  # fmt: skip


def _needs(bundle: Bundle, board: Profile, arena: int) -> dict[str, Any]:
    if board.kind == "microcontroller":
        return {
            "flash": len(bundle.flatbuffer) + MICRO_CODE,
            "ram": arena + MICRO_STATE + front_end_ram(bundle.front_end),
        }
    return {"flash": 2 * bundle.size + INSTALLED.get(board.runtime.interpreter, INSTALLED["none"]), "ram": PROCESS_RAM}


def _notes(bundle: Bundle, board: Profile, fits: dict[str, bool]) -> list[str]:
    notes = [board.note] if board.note else []
    if board.kind == "microcontroller":
        frames = bundle.info["forms"]["clip"]["input"]["shape"][2]
        notes.append(
            f"flash holds the flatbuffer without golden vectors, TFLite Micro and a front end in C (about "
            f"{MICRO_CODE // 1000} KB, an estimate); RAM is for the arena as the clip is declared ({frames} frames)"
        )
        if bundle.info["precision"] == "float32":
            notes.append("float32 on a microcontroller: take the int8 bundle")
    else:
        notes.append("flash: Python's packages and both slots; RAM: a whole Python process, as seen on x86-64")
    remedies = {
        "flash": "a smaller network or a board with more flash",
        "ram": "a smaller network or a board with more memory",
        "real_time_factor": "a smaller network, or longer hops between clips",
    }
    return notes + [f"{key} is beyond the budget: {remedies[key]}" for key, fine in fits.items() if not fine]


def against(prediction: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """Return how far a measured run was off a prediction, each stage for the clip nearest in length.

    Parameters
    ----------
    prediction : dict
        From `plan`.
    run : dict
        ``edge-bench/run/1`` of the same bundle.

    Raises
    ------
    ConfigError
        If `run` is no such result, of another bundle, or from another kind of processor.
    """
    if run.get("schema") != "edge-bench/run/1":
        raise ConfigError(f"the result's schema is {run.get('schema')!r}, expected 'edge-bench/run/1'")
    try:
        refuse_emulated(run)
        if run["model"]["sha256"] != prediction["bundle"]["sha256"]:
            raise ConfigError(f"the result is of {run['model']['name']}, another bundle than was predicted")
        there = run["context"]["machine"]["architecture"]
        if there != prediction["architecture"]:
            raise ConfigError(
                f"the result is from {there}, {prediction['board']} is {prediction['architecture']}: run it there"
            )
        form = prediction["forms"]["clip"]
        clip = min(run["clips"], key=lambda c: abs(c["clip_s"] - form["seconds"]))
        stages = {
            stage: {"predicted_us": form[stage]["us"], "measured_us": clip["stages"][stage]["p50"],
                    "ratio": round(clip["stages"][stage]["p50"] / form[stage]["us"], 2)}
            for stage in ("frontend", "model")
        }  # fmt: skip
        if known := prediction["by_instructions"]:
            counted = min(run["clips"], key=lambda c: abs(c["clip_s"] - known["clip_s"]))
            for stage, off in stages.items():
                measured, bound = counted["stages"][stage]["p50"], known[stage]["us"]
                off["by_instructions"] = {"predicted_us": bound, "ratio": round(measured / bound, 2)}
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"the result is damaged: {error!r}") from None
    return {"clip_s": clip["clip_s"], "stages": stages}
