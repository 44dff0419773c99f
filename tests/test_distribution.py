"""Training on two virtual devices: what one device gives, up to rounding. In processes of their own, because a
processor is divided before TensorFlow begins."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import table_corpus

from edge_bench.train import distribution
from edge_runtime import ConfigError

pytest.importorskip("tensorflow")

STEPS = """
import sys, json
import numpy as np, keras
from edge_bench.train import distribution

class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3
    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        return rng.standard_normal((12, 48, 20)).astype("f4"), np.eye(3, dtype="f4")[rng.integers(3, size=12)]

def train(devices, clip):
    keras.utils.set_random_seed(3)
    with distribution.devices(devices):
        layers = keras.layers
        trainee = keras.Sequential([layers.Input((48, 20)), layers.Conv1D(16, 5, activation="tanh"),
                                    layers.Conv1D(16, 5, activation="tanh"), layers.Flatten(), layers.Dense(3)])
        optimizer = keras.optimizers.Adam(1e-2, clipnorm=clip, epsilon=1e-4, use_ema=True, ema_momentum=0.9)
        trainee.compile(distribution.clip_after_sum(optimizer),
                        loss=keras.losses.CategoricalCrossentropy(from_logits=True))
        before = [v.numpy() for v in trainee.trainable_variables]
        trainee.fit(Batches(), shuffle=False, verbose=0)
        averaged = [v.numpy() for v in optimizer._model_variables_moving_average]
        return before, [v.numpy() for v in trainee.trainable_variables] + averaged

def apart(a, b):
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b))

distribution._divide_processor(2)
start, one = train(1, 0.02)
_, two = train(2, 0.02)
_, free = train(1, 1e6)
print(json.dumps({"between": apart(one, two), "moved": apart(start, one[: len(start)]), "clipping": apart(one, free)}))
"""


def python(code: str, *arguments: str) -> str:
    """Run code in a fresh process and return its standard output."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_two_devices_give_what_one_gives(tmp_path: Path) -> None:
    found = json.loads(python(STEPS).splitlines()[-1])
    assert found["moved"] > 2e-3, "the steps changed the weights"
    assert found["clipping"] > 5e-4, "the gradients were clipped"
    assert found["between"] < 2e-4 * found["moved"]


@pytest.mark.slow
def test_the_command_on_two_devices(tmp_path: Path) -> None:
    table_corpus(tmp_path / "corpus")
    recipe = 'model = "swishnet-slim"\ncopies = 0\nvalidation_copies = 0\n[fit]\nepochs = 2\nsteps = 4\nbatch = {}\n'
    (tmp_path / "even.toml").write_text(recipe.format(8))
    (tmp_path / "odd.toml").write_text(recipe.format(9))
    code = f"""
import os, sys
os.environ.update(EDGE_BENCH_CORPUS={str(tmp_path / "corpus")!r}, EDGE_BENCH_CACHE={str(tmp_path / "cache")!r})
os.chdir({str(tmp_path)!r})
from edge_bench.benchmarks.cli import main
for recipe, folder in (argument.split() for argument in sys.argv[2:]):
    try:
        main(["train", recipe, "--out", folder, "--devices", sys.argv[1]])
    except SystemExit as end:
        print("exit", end.code)
"""

    def ends(*arguments: str) -> list[str]:
        return [line for line in python(code, *arguments).splitlines() if line.startswith("exit")]

    assert ends("2", "even.toml two", "odd.toml odd") == ["exit 0", "exit 2"]
    # what two devices began, one continues, and the file is an ordinary model
    assert ends("1", "even.toml one", "even.toml two") == ["exit 0", "exit 0"]
    assert (tmp_path / "two" / "model.keras").is_file()
    one, two = (json.loads((tmp_path / name / "history.json").read_text()) for name in ("one", "two"))
    assert [r["loss"] for r in two] == pytest.approx([r["loss"] for r in one], rel=1e-3)


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match="devices is 0"), distribution.devices(0):
        pass
    with pytest.raises(ConfigError, match="batch is 9, must be a multiple of the 2 devices"):
        distribution.check_batch(9, 2)


def test_one_device_changes_nothing() -> None:
    import keras
    import tensorflow as tf

    with distribution.devices(1):
        assert not tf.distribute.has_strategy()
        optimizer = keras.optimizers.Adam(clipnorm=1.0)
        clip = optimizer._clip_gradients
        assert distribution.clip_after_sum(optimizer)._clip_gradients == clip
