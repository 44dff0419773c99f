"""What a training frees stays with its process."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import ctypes, resource, sys
import numpy as np
from edge_bench.train.heap import keep_freed_memory
told = keep_freed_memory() if sys.argv[1] == "keep" else True
ctypes.CDLL(None).mallopt(-3, 1 << 17)  # as TensorFlow does for a dataset from a generator
for turn in range(12):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(1 << 26, np.uint8).fill(1)
print(int(told), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> tuple[bool, int]:
    said = subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=True).stdout
    told, count = said.split()
    return told == "1", int(count)


def test_large_blocks_are_not_fetched_anew() -> None:
    told, kept = faults("keep")
    if not told:
        pytest.skip("this C library's malloc takes no options")
    assert kept < 100, "page faults of ten blocks of 64 MiB"
    assert faults("default")[1] > 10 * 64, "what it is for"
