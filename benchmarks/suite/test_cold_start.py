"""From nothing to the first label: ``edge-bench classify`` on a 2 s file against ``python -c "import numpy"``."""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edge_bench.benchmarks.interleave import Process, ratio, run_process
from edge_bench.benchmarks.sound import scene
from edge_runtime.wav import write_wav


def test_cold_start(benchmark: Any, tmp_path: Path) -> None:
    file = tmp_path / "two.wav"
    write_wav(file, scene(2), 16000)
    command = shutil.which("edge-bench", path=str(Path(sys.executable).parent)) or "edge-bench"
    commands = {"classify": [command, "classify", str(file)], "numpy": [sys.executable, "-c", "import numpy"]}
    runs: dict[str, list[Process]] = {name: [] for name in commands}
    rng = random.Random(0)
    for number in range(23):
        for name in rng.sample(list(commands), 2):
            done = run_process(commands[name])
            if number >= 3:
                runs[name].append(done)
    found = ratio([p.seconds for p in runs["classify"]], [p.seconds for p in runs["numpy"]])
    peak = max(p.peak for p in runs["classify"])
    seconds = {name: float(np.median([p.seconds for p in done])) for name, done in runs.items()}
    benchmark.extra_info.update(ratio=found, peak=peak, seconds=seconds)
    benchmark.pedantic(run_process, (commands["classify"],), rounds=5)
    print(
        f"\nfirst label after {1000 * seconds['classify']:.0f} ms, import numpy {1000 * seconds['numpy']:.0f} ms: "
        f"{found[0]:.2f} x ({found[1]:.2f} to {found[2]:.2f}); peak RSS {peak / (1 << 20):.1f} MiB"
    )
    assert found[0] <= 2.5
    assert peak <= 60e6
