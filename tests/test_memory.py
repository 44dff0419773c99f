"""Memory by stage in fresh processes: it adds up, ten thousand calls add nothing, what a leak would look like."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_bench.benchmarks import cli, documents, memory, memory_table
from edge_runtime import BundleError

MIB = 1 << 20


@pytest.mark.slow
def test_ten_thousand_calls_add_nothing_and_the_stages_add_up(tmp_path: Path) -> None:
    out = tmp_path / "memory.json"
    done = CliRunner().invoke(
        cli.group, ["memory", "--runs", "2", "--calls", "10000", "--clip", "0.5", "--json", str(out)]
    )
    assert done.exit_code == 0, done.output
    _, found = documents.read(out, "memory")
    assert found["growth"]["calls"] == 10_000 and found["growth"]["flat"], found["growth"]
    assert found["growth"]["rss"] < 16 * 10_000 and found["growth"]["python_blocks"] < 1000
    stages = [found["stages"][name] for name in memory_table.MEANING]
    rss = [stage["rss"]["median"] for stage in stages]
    assert rss == sorted(rss) and 5 * MIB < rss[0] < rss[1] < rss[3]
    assert found["peak"]["median"] >= rss[-1]
    for stage in stages:
        assert stage["rss"]["low"] <= stage["rss"]["median"] <= stage["rss"]["high"]
        assert stage["uss"]["median"] <= stage["pss"]["median"] <= stage["rss"]["median"]
        assert 0 < stage["anonymous"]["median"] < stage["rss"]["median"]
    assert 1000 < found["arena"] < MIB, "the tensors of a network with five thousand weights"
    assert "flat" in done.output and "arena" in done.output


def test_a_leak_of_the_smallest_block_in_every_call_is_seen() -> None:
    growth = {"calls": 10_000, "rss": 0, "anonymous": 10_000 * 16, "python_blocks": 0}
    assert not memory_table._flat(growth)
    assert memory_table._flat({**growth, "anonymous": 4096 * 4})
    assert not memory_table._flat({**growth, "anonymous": None, "rss": MIB})


def test_a_process_sees_what_it_allocates() -> None:
    before = memory.now()
    held = bytearray(32 * MIB)
    after = memory.now()
    assert before.rss is not None and after.rss is not None and after.rss - before.rss > 31 * MIB
    assert before.anonymous is not None and after.anonymous is not None
    assert after.anonymous - before.anonymous > 31 * MIB and len(held) == 32 * MIB
    assert (memory.peak() or 0) >= after.rss


def test_a_bundle_that_cannot_be_read_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(b"nothing")
    with pytest.raises(BundleError, match=r"is not a \.tflite model"):
        memory_table.measure(str(tmp_path / "x.tflite"), runs=1, calls=100)
