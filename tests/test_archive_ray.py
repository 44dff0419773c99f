"""An archive on a Ray cluster of two nodes, with a worker killed and then a node lost in the middle."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest

from edge_runtime import ConfigError, Segmentation, Smoothing
from edge_runtime.archive import work
from edge_runtime.archive.engines import Serial
from edge_runtime.archive.inputs import Source, find
from edge_runtime.archive.outputs import Outputs
from edge_runtime.archive.ray_engine import RayEngine
from edge_runtime.archive.run import Archive
from edge_runtime.archive.work import Job
from edge_runtime.wav import write_wav

QUICK = Segmentation(Smoothing(delay=20, median=41, silence_dbfs=-55.0))


@pytest.fixture
def cluster() -> Iterator[Any]:
    utilities = pytest.importorskip("ray.cluster_utils")
    import ray

    nodes = utilities.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.second = nodes.add_node(num_cpus=1)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def workers(*names: str) -> list[int]:
    """Return the processes below this one that Ray has given one of these names."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                name = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if name.startswith(tuple(f"ray::{n}".encode() for n in names)) and below_us(int(entry.name)):
                found.append(int(entry.name))
    return found


def below_us(process: int) -> bool:
    while process > 1:
        if process == os.getpid():
            return True
        try:
            status = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            return False
        process = int(status.rpartition(")")[2].split()[1])
    return False


@pytest.mark.slow
def test_nothing_lost_and_nothing_doubled(cluster: Any, tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    rng = np.random.default_rng(0)
    for number in range(24):
        seconds = 60.0 if number % 6 == 0 else float(rng.uniform(1, 4))
        make = [helpers.speech, helpers.music, helpers.noise][number % 3]
        write_wav(archive / f"{number:02d}.wav", make(seconds, number), 16000)
    (archive / "13.wav").write_bytes(b"RIFF")
    job = Job.of("swishnet-slim-int8", QUICK)
    sources, _ = find([str(archive)])
    expected = {o.source.name: o.result for o in Archive(job, Serial(), block_frames=512).run(sources)}

    engine = RayEngine(cluster.address)
    assert engine.window == 4
    outputs = Outputs(out, job, ["csv"])
    found: list[tuple[str, Any]] = []
    killed: list[int] = []
    for outcome in Archive(job, engine, block_frames=512).run(sources):
        outputs.write(outcome)
        found.append((outcome.source.name, outcome.result))
        if not killed and len(found) >= 2:
            # where tasks are too short to be met, a worker between two of them
            busy = workers("answer_block", "segment_whole") or (workers("IDLE") if len(found) >= 6 else [])
            for process in busy[:1]:
                os.kill(process, signal.SIGKILL)
                killed.append(process)
        if len(found) == 10:
            cluster.remove_node(cluster.second, allow_graceful=False)
    engine.close()
    outputs.close()
    assert killed
    assert len(found) == len(sources) and dict(found) == expected
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()[1:]]
    assert sorted(line["name"] for line in lines) == sorted(expected)
    assert sorted(p.stem for p in out.glob("*.csv")) == sorted(n for n in expected if n != "13")
    again = Outputs(out, job, ["csv"])
    assert [s.name for s in sources if again.earlier(s) is None] == ["13"]
    again.close()


def test_a_call_that_cannot_be_done_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="needs Ray"):
        RayEngine("auto")


def test_tasks_travel() -> None:
    """What goes to another machine is plain values: no path of the bundle is needed there."""
    import pickle

    job = Job.of("swishnet-slim-int8", QUICK)
    there = pickle.loads(pickle.dumps(Job(job.model, "/not/here", job.settings)))
    result = work.segment_whole(there, str(Source("/nope.wav", "nope").path))
    assert isinstance(result, work.Failed) and "/nope.wav" in result.message
