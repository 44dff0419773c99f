"""The ``edge-bench`` command: a group that imports a command's module only when it is asked for."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

# One thread for numpy, before anything imports it: what a board has, and what a timing needs.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import click  # noqa: E402

import edge_runtime.errors  # noqa: E402

COMMANDS = {
    "run": "edge_bench.benchmarks.run_cli:run",
    "devices": "edge_bench.benchmarks.devices_cli:devices",
    "repeatability": "edge_bench.benchmarks.repeatability_cli:repeatability",
    "memory": "edge_bench.benchmarks.memory_cli:memory",
    "instructions": "edge_bench.benchmarks.instructions_cli:instructions",
    "compare": "edge_bench.benchmarks.compare_cli:compare",
    "gate": "edge_bench.benchmarks.gate_cli:gate",
    "gate-trial": "edge_bench.benchmarks.gate_cli:gate_trial",
    "doctor": "edge_bench.benchmarks.doctor_cli:doctor",
    "report": "edge_bench.benchmarks.report_cli:report",
    "history": "edge_bench.benchmarks.history_cli:history",
    "export": "edge_bench.benchmarks.export_cli:export",
    "classify": "edge_runtime.cli:classify",
    "segment": "edge_runtime.archive.cli:segment",
    "listen": "edge_runtime.live.cli:listen",
    "inspect": "edge_runtime.cli:inspect",
    "verify": "edge_runtime.cli:verify",
    "models": "edge_bench.train.cli:models",
    "render-midi": "edge_bench.train.cli:render_midi",
    "data": "edge_bench.train.data.cli:data",
    "train": "edge_bench.train.cli:train",
    "distill": "edge_bench.train.cli:distill",
    "queue": "edge_bench.train.queue_cli:queue",
    "evaluate": "edge_bench.train.evaluate_cli:evaluate",
    "streams": "edge_bench.train.segmentation_cli:streams",
    "tune-smoothing": "edge_bench.train.segmentation_cli:tune_smoothing",
    "evaluate-segmentation": "edge_bench.train.segmentation_cli:evaluate_segmentation",
    "false-activations": "edge_bench.train.segmentation_cli:false_activations",
    "reproduce": "edge_bench.train.reproduce_cli:reproduce",
    "search": "edge_bench.train.search_cli:search",
    "card": "edge_bench.train.cli:card",
    "trials": "edge_bench.train.systems_cli:trials",
    "musicmap": "edge_bench.train.systems_cli:musicmap",
    "music-snr": "edge_bench.train.systems_cli:music_snr",
    "features-view": "edge_bench.train.systems_cli:features_view",
    "auralise": "edge_bench.train.systems_cli:auralise",
    "quantize": "edge_bench.quantize.cli:quantize",
    "boards": "edge_bench.boards.cli:boards",
    "plan": "edge_bench.boards.cli:plan",
    "emulate": "edge_bench.boards.emulation.cli:emulate",
    "board": "edge_bench.boards.flash_cli:board",
    "flash": "edge_bench.boards.flash_cli:flash",
    "rollback": "edge_bench.boards.flash_cli:rollback",
}


class LazyGroup(click.Group):
    """A group whose commands live in the packages that own them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table above."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return a command."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(edge_runtime.__version__, prog_name="edge-bench")
def group() -> None:
    """Embedded audio inference: train, distil, quantise, flash, benchmark, gate.

    \b
    Example:
      edge-bench run                     benchmark the shipped network here
      edge-bench classify a.wav b.flac   label recordings clip by clip

    Exit codes: 0 fine, 1 a gate failed, 2 a mistake in what was given, 3 inconclusive.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run the command; one line and exit code 2 for a user's mistake."""
    try:
        return group.main(arguments, prog_name="edge-bench")
    except edge_runtime.errors.EdgeBenchError as error:
        click.echo(f"edge-bench: {error}", err=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("edge_bench", "edge_runtime", ""):
            raise
        click.echo(f"edge-bench: this command needs {package}: pip install 'edge-bench[train]'", err=True)
        sys.exit(2)
