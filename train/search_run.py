"""Run a search on Ray Tune: Ray places the trials, ends the worse ones and goes on after a kill.

Ray must be installed (``pip install 'edge-bench[search]'``). Every trial is a process of its own at low priority, with
its own folder and checkpoints, so one that was killed goes on in its last epoch. On a cluster the corpus, the feature
cache and the search's folder must lie on storage that all machines see under the same path.

Ray keeps its own state pickled in ``FOLDER/ray`` and unpickles it to go on: continue searches of your own only.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before Ray is imported: no statistics sent home, none of its tables and notes, no files of its own for each trial.
os.environ.update(
    RAY_USAGE_STATS_ENABLED="0", RAY_AIR_NEW_OUTPUT="0", TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
    RAY_CHDIR_TO_TRIAL_DIR="0", RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S="0",
)  # fmt: skip

import click
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from edge_runtime import ConfigError, EdgeBenchError
from edge_runtime.files import write_text
from edge_runtime.quiet import quiet_stderr

from . import recipe as recipes
from .search_results import read_trial, trial_folder
from .search_space import Search, describe
from .workers import cores

_ATTEMPTS = 4
_STORE_BYTES = 100 * 2**20  # Ray would take a third of the memory for objects; a trial's plan is a few kilobytes


@dataclass(frozen=True)
class Plan:
    """What every trial has to know."""

    search: Search
    folder: Path
    corpus: Path
    extra: tuple[Path, ...]
    cache: Path | None


class Reporter(tune.Callback):  # type: ignore[misc]
    """Says what happens. Ray pickles it into the search's folder, so it keeps nothing: all is read from files."""

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """Say an epoch's score."""
        ended = sum(t.is_finished() for t in trials)
        click.echo(
            f"trial {trial.config['trial']}  epoch {result['epoch']:.0f}  {result['score']:.4f}  "
            f"({ended} of {len(trials)} ended)", err=True,
        )  # fmt: skip

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Mark a trial that was ended before its time."""
        place = trial_folder(Path(trial.path).parents[1], trial.config["trial"])  # FOLDER/ray/TRIAL
        if not (place / "metrics.json").is_file():
            write_text(place / "stopped", "ended early: behind the other trials\n")


def trial(config: dict[str, Any], *, plan: Plan) -> None:
    """Train one trial in a process of Ray's; its folder is the result."""
    search, number = plan.search, int(config["trial"])
    table = search.file.search
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = str(table.threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    place = trial_folder(plan.folder, number)
    known = read_trial(search, plan.folder, number)
    if known["state"] in ("done", "stopped") and known["best"] is not None:
        tune.report({"score": known["best"], "epoch": known["epochs"] or 1})  # ended before Ray had noted it
        return
    (place / "error.txt").unlink(missing_ok=True)
    values = search.experiment(number)
    recipes.write(values, place / "recipe.toml", comment=f"Trial {number}: {describe(search.trials[number])}")

    from .experiment import run  # TensorFlow reads the number of threads when it is imported

    reported = 0

    def watch(history: Sequence[dict[str, float]]) -> bool:
        nonlocal reported
        reported = int(history[-1]["epoch"])
        tune.report({"score": _metric(history[-1], table.metric), "epoch": reported})
        return bool(table.minutes) and sum(row["seconds"] for row in history) >= 60 * table.minutes

    try:
        metrics = run(
            recipes.check(values, f"trial {number}"), plan.corpus, place, extra=plan.extra, cache=plan.cache,
            say=lambda _: None, watch=watch,
        )  # fmt: skip
        if not reported:  # a model without epochs, or one that was finished before
            tune.report({"score": _metric(metrics["best"], table.metric), "epoch": 1})
    except EdgeBenchError as error:
        write_text(place / "error.txt", f"{error}\n")
        raise
    except Exception as error:
        write_text(place / "error.txt", f"{type(error).__name__}: {error}\n")
        raise


def _metric(row: dict[str, float], name: str) -> float:
    if name not in row:
        raise ConfigError(f"[search]: metric {name!r} is not in the history; there are {', '.join(sorted(row))}")
    return row[name]


def start(search: Search, address: str) -> int | None:
    """Connect to a cluster or start Ray here; return how many trials run at a time, None for what fits.

    Raises
    ------
    EdgeBenchError
        If there is no cluster at the address, or Ray does not start.
    """
    table = search.file.search
    logging.getLogger("ray").setLevel(logging.ERROR)
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address:
        _connect(address=address, **common)
        return table.concurrent or None
    concurrent = table.concurrent or max(1, cores() // table.threads)
    _connect(
        address="local", num_cpus=concurrent * table.threads, num_gpus=0, include_dashboard=False,
        object_store_memory=_STORE_BYTES, **common,
    )  # fmt: skip
    return concurrent


def _connect(*, address: str, **options: Any) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with quiet_stderr():
                ray.init(address=address, **options)
            return
        except Exception as error:  # Ray has no root of its errors
            ray.shutdown()
            if attempt < _ATTEMPTS and "timed out" in str(error):
                continue  # it waits 30 s for its own processes, too little on a busy machine
            where = "" if address == "local" else f" at {address}"
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise EdgeBenchError(f"Ray does not start{where}: {said}") from None


def run(plan: Plan, *, address: str = "", say: Callable[[str], None] = print) -> None:
    """Run the trials that have not ended; the folder holds the results.

    Parameters
    ----------
    address : str
        Of a cluster, such as ``auto`` or ``10.0.0.1:6379``; Ray on this machine by default.

    Raises
    ------
    EdgeBenchError
        If Ray does not start or cannot go on with what the folder holds.
    """
    table = plan.search.file.search
    concurrent = start(plan.search, address)
    try:
        callable_ = tune.with_resources(tune.with_parameters(trial, plan=plan), {"cpu": table.threads})
        storage = plan.folder / "ray"
        if tune.Tuner.can_restore(str(storage)):
            say("going on with the trials that have not ended")
            tuner = tune.Tuner.restore(str(storage), trainable=callable_, resume_errored=True)
        else:
            tuner = tune.Tuner(
                callable_,
                param_space={"trial": tune.grid_search(list(range(len(plan.search.trials))))},
                tune_config=tune.TuneConfig(
                    metric="score", mode="max", scheduler=_scheduler(plan.search), max_concurrent_trials=concurrent
                ),
                run_config=tune.RunConfig(
                    name="ray", storage_path=str(plan.folder), verbose=0, callbacks=[Reporter()]
                ),
            )
        tuner.fit()
    except (tune.TuneError, RuntimeError, OSError) as error:
        raise EdgeBenchError(f"{plan.folder}: Ray gave up: {(str(error).splitlines() or ['?'])[0]}") from error
    finally:
        ray.shutdown()


def _scheduler(search: Search) -> Any:
    table = search.file.search
    if table.method != "asha":
        return FIFOScheduler()
    longest = max(
        search.experiment(number).get("fit", {}).get("epochs", 60) for number in range(len(search.trials))
    )
    return ASHAScheduler(
        time_attr="epoch", max_t=max(longest, table.grace) + 1, grace_period=table.grace,
        reduction_factor=table.reduction,
    )  # fmt: skip
