"""The network in a process with limits: the same answers, and whatever the model does, one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import Classifier, ConfigError, InterpreterError, bundle, sandbox
from edge_runtime.interpreter import Session, SignatureSession, open_session
from edge_runtime.sandbox import Limits, SandboxSession

# An interpreter that does what a hostile model would make a real one do; the last four bytes say what.
HOSTILE = """
import os, signal, socket, time
from edge_runtime.numpy_interpreter import Interpreter as Real
__version__ = "6.6"
class OpResolverType:
    BUILTIN_REF = BUILTIN_WITHOUT_DEFAULT_DELEGATES = None
class Interpreter(Real):
    def __init__(self, model_content, num_threads=1, experimental_op_resolver_type=None):
        super().__init__(model_content=model_content)
        self.deed = model_content[-4:]
        if self.deed == b"SEGV":
            os.kill(os.getpid(), signal.SIGSEGV)
    def invoke(self):
        if self.deed == b"ABRT":
            os.abort()
        if self.deed == b"HOGS":
            self.hog = bytearray(1 << 31)
        if self.deed == b"READ":
            open("/etc/passwd").read()
        if self.deed == b"WRIT":
            open(os.path.join(os.environ["HOME"], "written"), "w")
        if self.deed == b"CONN":
            socket.create_connection(("127.0.0.1", 9))
        if self.deed == b"FORK":
            os.pipe()
        while self.deed == b"LOOP":
            pass
        if self.deed == b"WAIT":
            time.sleep(60)
        super().invoke()
"""


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the hostile interpreter in LiteRT's place, in other processes only."""
    package = tmp_path / "ai_edge_litert"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "interpreter.py").write_text(HOSTILE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def flatbuffer() -> bytes:
    return bundle.read("swishnet-slim-int8").flatbuffer


def test_answers_are_those_of_a_session() -> None:
    x = np.random.default_rng(0).integers(-128, 128, (1, 1, 108, 20)).astype(np.int8)
    mine = Session(flatbuffer(), frames=108)
    with SandboxSession(flatbuffer(), frames=108) as boxed:
        assert isinstance(boxed.isolated, bool)
        for name in ("backend", "version", "input_shape", "output_shape", "input_dtype", "output_dtype"):
            assert getattr(boxed, name) == getattr(mine, name)
        assert boxed.input_quantization == pytest.approx(mine.input_quantization)
        assert boxed.output_quantization == pytest.approx(mine.output_quantization)
        assert boxed.nodes() == mine.nodes()
        np.testing.assert_array_equal(boxed.run(x), mine.run(x))
        boxed.fill()[...] = 0
        assert not np.array_equal(boxed.invoke(), mine.run(x))
        with pytest.raises(InterpreterError, match="the graph takes int8"):
            boxed.run(x[:, :, 1:])


def test_dense_signature_on_numpy() -> None:
    wanted = SignatureSession(flatbuffer(), "dense", backend="numpy")
    x = np.random.default_rng(1).integers(-60, 60, wanted.input_shape).astype(np.int8)
    with SandboxSession(flatbuffer(), signature="dense", backend="numpy") as boxed:
        np.testing.assert_array_equal(boxed.run(x), wanted.run(x))


def test_a_classifier_in_the_sandbox() -> None:
    sound = np.random.default_rng(2).uniform(-0.3, 0.3, 16000).astype(np.float32)
    with Classifier(clip_s=0.5) as plain, Classifier(clip_s=0.5, sandbox=True) as boxed:
        assert boxed.classify(sound) == plain.classify(sound)
        session = boxed.session
    with pytest.raises(InterpreterError, match="closed"):
        _ = boxed.session
    with pytest.raises((InterpreterError, ValueError)):
        session.invoke()


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        ("SEGV", "died while it loaded the model (SIGSEGV"),
        ("ABRT", "died while it ran (SIGABRT"),
        ("HOGS", "out of memory"),
        ("READ", "Too many open files"),
        ("WRIT", "Too many open files"),
        ("CONN", "Too many open files"),
        ("FORK", "Too many open files"),
    ],
)
def test_deeds_become_one_line(hostile: Path, deed: str, words: str) -> None:
    with pytest.raises(InterpreterError) as caught:
        session = SandboxSession(flatbuffer() + deed.encode(), backend="litert", frames=108)
        session.invoke()
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not (hostile / "written").exists()


@pytest.mark.parametrize(("deed", "limits", "words"), [
    ("LOOP", Limits(cpu_s=0.5), "more than 0.5 s of processor time"),
    ("WAIT", Limits(wait_s=3), "no answer within 3 s"),
])  # fmt: skip
def test_hangs_end(hostile: Path, deed: str, limits: Limits, words: str) -> None:
    with SandboxSession(flatbuffer() + deed.encode(), backend="litert", limits=limits) as session:
        with pytest.raises(InterpreterError) as caught:
            session.invoke()
    assert words in str(caught.value)


@pytest.mark.slow
def test_the_command_says_it_in_one_line(hostile: Path, tmp_path: Path) -> None:
    file = tmp_path / "stranger.tflite"
    file.write_bytes(flatbuffer() + b"SEGV")
    code = "import sys; from edge_bench.benchmarks.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, "inspect", str(file), "--sandbox", "--backend", "litert"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "missing: time: the interpreter died while it ran the model (SIGSEGV" in done.stdout


def test_refusals_come_through() -> None:
    with pytest.raises(InterpreterError, match="no signature 'segments'"):
        SandboxSession(flatbuffer(), signature="segments")
    with pytest.raises(InterpreterError, match="refuses the model"):
        SandboxSession(b"no model", backend="litert")
    with pytest.raises(InterpreterError, match="cannot run this model"):
        SandboxSession(flatbuffer(), frames=3)
    with pytest.raises(ConfigError, match="delegate cannot run in the sandbox"):
        open_session(flatbuffer(), sandbox=True, delegate="/some/lib.so")


def test_an_answer_that_lies_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    good = {
        "backend": "litert", "version": "1", "isolated": True, "input_shape": [1], "output_shape": [1],
        "input_dtype": "int8", "output_dtype": "int8", "input_quantization": [0, 0], "output_quantization": [0, 0],
        "nodes": [1, 0, 0],
    }  # fmt: skip
    for change in ({"input_shape": [1 << 40]}, {"output_dtype": "object?"}, {"nodes": []}, {"input_quantization": 3}):
        monkeypatch.setattr(sandbox.Child, "ask", lambda *_, change=change: ({**good, **change}, b""))
        with pytest.raises(InterpreterError, match="makes no sense"):
            SandboxSession(flatbuffer())
    monkeypatch.setattr(sandbox.Child, "ask", lambda *_: (good, b"123"))
    with pytest.raises(InterpreterError, match="output that makes no sense"):
        SandboxSession(flatbuffer()).invoke()
