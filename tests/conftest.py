"""Fixtures of the whole suite: quiet libraries on one thread, a cache of its own, small bundles built once."""

from __future__ import annotations

import os

# Before numpy and TensorFlow are imported: two cores are shared, and one thread gives equal bits again and again.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import helpers  # noqa: E402
import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from edge_runtime import FrontEnd, FrontEndConfig  # noqa: E402

# A shared machine may stop for seconds: what is slow is not wrong.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``-n``: a worker keeps the tests of a file, and their fixtures, until another has nothing left."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty feature cache; one worker process is enough."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("EDGE_BENCH_CACHE", str(folder))
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    return folder


@pytest.fixture(scope="session")
def corpus_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in corpus with SOURCES.csv, to be read only."""
    root = tmp_path_factory.mktemp("corpus")
    helpers.table_corpus(root)
    return root


@pytest.fixture(scope="session")
def front_end() -> FrontEndConfig:
    """The default front end, normalised to the stand-in sounds."""
    plain = FrontEndConfig()
    frames = np.concatenate([FrontEnd(plain)(make(3.0, 99)) for make in helpers.SOUNDS.values()])
    return plain.normalised(frames.mean(axis=0), 1 / frames.std(axis=0))


@pytest.fixture(scope="session")
def slim() -> Any:
    """SwishNet slim with random weights, large enough for answers that differ from clip to clip, and no larger: they
    magnify the last bits in which two interpreters differ."""
    import keras

    from edge_bench.train.models import build

    keras.utils.set_random_seed(11)
    model = build("swishnet-slim")
    rng = np.random.default_rng(11)
    for layer in model.layers:
        weights = [w * 1.3 if w.ndim > 1 else rng.normal(0, 0.1, w.shape) for w in layer.get_weights()]
        if layer.name == "logits":
            weights[0] *= 2
        layer.set_weights(weights)
    return model


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory, slim: Any, front_end: FrontEndConfig) -> dict[str, Path]:
    """Paths of a float32 and an int8 bundle of `slim`, calibrated on random clips."""
    from edge_bench.quantize import convert

    folder = tmp_path_factory.mktemp("bundles")
    clips = np.random.default_rng(5).standard_normal((24, 198, 20)).astype(np.float32)
    calibration = convert.Calibration(clips, tuple(f"random{i}" for i in range(len(clips))))
    paths = {}
    for precision in ("float32", "int8"):
        paths[precision] = folder / f"slim-{precision}.tflite"
        convert.export(
            paths[precision], slim, name=f"slim-{precision}", family="swishnet", precision=precision,
            front_end=front_end, classes=helpers.CLASSES, training={"corpus": "none"}, calibration=calibration,
        )  # fmt: skip
    return paths


@pytest.fixture(scope="session")
def int8(bundles: dict[str, Path]) -> bytes:
    """The bytes of the int8 bundle."""
    return bundles["int8"].read_bytes()
