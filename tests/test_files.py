"""Files that are written in one step."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edge_runtime import EdgeBenchError
from edge_runtime.files import append_json, write_aside, write_text


def test_a_reader_sees_the_old_file_or_all_of_the_new_one(tmp_path: Path) -> None:
    target = tmp_path / "new" / "name.txt"
    write_text(target, "old")
    with write_aside(target) as aside:
        aside.write_text("half of")
        assert target.read_text() == "old" and aside.parent == target.parent
        aside.write_text("new")
    assert target.read_text() == "new" and os.listdir(target.parent) == ["name.txt"]
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~mask


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(ZeroDivisionError), write_aside(tmp_path / "a") as aside:
        aside.write_text("half of")
        raise ZeroDivisionError
    with pytest.raises(EdgeBenchError, match="a: cannot be written: No space left"), write_aside(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert (tmp_path / "a").read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_folders_above_it(tmp_path: Path) -> None:
    with pytest.raises(EdgeBenchError, match="cannot be written: No such file or directory"):
        write_text(tmp_path / "missing" / "a", "text", parents=False)
    with pytest.raises(EdgeBenchError, match="cannot be written"):
        write_text(tmp_path, "text")
    assert not os.listdir(tmp_path)


def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "text")
    assert os.read(reader, 100) == b"text" and pipe.is_fifo() and os.listdir(tmp_path) == ["pipe"]
    os.close(reader)


def test_a_log_has_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "new" / "log.jsonl"
    append_json(log, {"a": 1})
    with log.open("a") as file:
        file.write('{"cut of')
    append_json(log, {"b": 2})
    assert [json.loads(line) for line in log.read_text().splitlines()] == [{"a": 1}, {"b": 2}]
    append_json("/dev/null", {})
    with pytest.raises(EdgeBenchError, match=r"new: cannot be written"):
        append_json(tmp_path / "new", {})
