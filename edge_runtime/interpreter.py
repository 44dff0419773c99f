"""One way to run a model on whichever TFLite interpreter is here.

``ai-edge-litert`` comes first, ``tflite-runtime`` where it has no wheel, then ``tf.lite``; ``numpy`` is the last resort
for boards that no TFLite wheel is made for: our own executor, slower, no package needed. The probe builds an
interpreter: an import alone can lie (tflite-runtime 2.14 imports beside numpy 2 and fails when it is used).
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, EdgeBenchError, InterpreterError
from .quiet import quiet_stderr
from .truncate import signature_alone

if TYPE_CHECKING:
    from .sandbox import SandboxSession

Array = NDArray[Any]

_MODULES = {
    "litert": ("ai_edge_litert.interpreter", "ai_edge_litert", "ai-edge-litert"),
    "tflite-runtime": ("tflite_runtime.interpreter", "tflite_runtime", "tflite-runtime"),
    "tf.lite": ("tensorflow", "tensorflow", "tensorflow"),
    "numpy": ("edge_runtime.numpy_interpreter", "numpy", "numpy"),
}
BACKENDS = tuple(_MODULES)
KERNELS = {
    "default": None,  # the optimised kernels, and XNNPACK where the interpreter has it
    "plain": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "reference": "BUILTIN_REF",
}


@dataclass(frozen=True)
class Nodes:
    """How much of a graph a delegate took.

    Attributes
    ----------
    total : int
        Operators in the graph.
    delegated : int
        Operators that run inside a delegate.
    partitions : int
        Delegate calls in an invoke; every one beyond the first is a hand-over.
    """

    total: int
    delegated: int
    partitions: int


def install_hint() -> str:
    machine, version = platform.machine(), sys.version_info
    here = f"Python {version.major}.{version.minor} on {machine}"
    if machine in ("x86_64", "AMD64", "aarch64", "arm64"):
        return f"for {here}: pip install ai-edge-litert"
    if machine == "armv7l" and version < (3, 12):
        return f"for {here}: pip install tflite-runtime 'numpy<2'"
    if machine == "armv7l":
        return f"for {here} there is no wheel: use Python 3.11 with tflite-runtime, or a 64-bit system"
    return f"for {here} there is no TFLite wheel"


def _load(backend: str) -> tuple[Any, str]:
    """Return the Interpreter class and the version of a backend."""
    module_name, package, _ = _MODULES[backend]
    if backend == "tf.lite":
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_stderr():
        module = importlib.import_module(module_name)
    version = getattr(sys.modules[package], "__version__", "") or getattr(module, "__version__", "")
    if not version:
        from importlib import metadata

        version = metadata.version(_MODULES[backend][2])
    return (module.lite if backend == "tf.lite" else module).Interpreter, str(version)


def _build(flatbuffer: bytes, backend: str, threads: int, delegate: str | None, kernels: str) -> Any:
    """Return (backend, version, interpreter) of the first backend that builds one."""
    if kernels not in KERNELS:
        raise ConfigError(f"kernels {kernels!r} are unknown, must be one of {', '.join(KERNELS)}")
    if backend != "auto" and backend not in _MODULES:
        raise ConfigError(f"backend {backend!r} is unknown, must be auto or one of {', '.join(BACKENDS)}")
    if threads < 1:
        raise ConfigError(f"threads is {threads}, must be at least 1")
    if delegate is not None and not os.path.isfile(delegate):
        raise ConfigError(f"delegate {delegate}: no such file; give the path of a shared library")
    failures = []
    for name in BACKENDS if backend == "auto" else (backend,):
        if conflict := _conflict(name):
            if backend != "auto":
                raise InterpreterError(f"{name}: {conflict}, or --backend auto")
            failures.append(f"{name}: {conflict}")
            continue
        try:
            interpreter_class, version = _load(name)
        except Exception as error:  # a broken installation raises whatever it likes
            failures.append(f"{name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
            continue
        options: dict[str, Any] = {"model_content": flatbuffer, "num_threads": threads}
        with quiet_stderr() as said:
            try:
                if delegate is not None:
                    options["experimental_delegates"] = [_delegate(name, delegate)]
                if name != "numpy" and (kind := KERNELS[kernels]):  # numpy has the reference kernels only
                    options["experimental_op_resolver_type"] = getattr(_resolver_type(name), kind)
                return name, version, interpreter_class(**options)
            except EdgeBenchError as error:  # of our own executor
                if failures:
                    failures.append(f"{name}: {error}")
                    continue
                raise InterpreterError(f"{name} {version} refuses the model: {error}") from None
            except ValueError as error:
                # the backend works and refuses this model (or delegate): the next one would hide that
                what = "delegate or the model" if delegate else "model"
                why = " ".join(f"{error} {said()}".split())
                raise InterpreterError(f"{name} {version} refuses the {what}: {why}") from None
            except _DelegateError as error:
                raise InterpreterError(f"delegate {delegate}: {name} {version} cannot load it: {error}") from None
            except Exception as error:  # SystemError beside a numpy it was not built for, and worse
                first = (str(error).splitlines() or [""])[0]
                failures.append(f"{name} {version}: {type(error).__name__}: {first}")
    hint = install_hint() if backend == "auto" else f"pip install {_MODULES[backend][2]}, or --backend auto"
    raise InterpreterError(f"no TFLite interpreter works here ({'; '.join(failures)}); {hint}")


def first_backend() -> str:
    """Return the first backend that can be imported here; numpy always can."""
    for name in BACKENDS:
        try:
            _load(name)
        except Exception:  # a broken installation raises whatever it likes
            continue
        return name
    raise InterpreterError(f"no interpreter can be imported; {install_hint()}")


def _conflict(backend: str) -> str:
    """Return why a backend must not even be tried in this process; empty if it may.

    tflite-runtime finds TensorFlow's symbols in place of its own: it reads a wrong layout, says "vector::reserve" at
    best and ends the process at worst.
    """
    if backend == "tflite-runtime" and "tensorflow" in sys.modules:
        return "TensorFlow is loaded in this process and its symbols get in the way; use another process"
    return ""


def _resolver_type(backend: str) -> Any:
    module = importlib.import_module(_MODULES[backend][0])
    return (module.lite.experimental if backend == "tf.lite" else module).OpResolverType


def _delegate(backend: str, path: str) -> Any:
    import ctypes

    if backend == "numpy":
        raise _DelegateError("it takes no delegate")
    module = importlib.import_module(_MODULES[backend][0])
    try:
        ctypes.CDLL(path)  # LiteRT's own loader leaves a broken object behind for a file that is no library
        return (module.lite.experimental if backend == "tf.lite" else module).load_delegate(path)
    except (OSError, ValueError) as error:
        raise _DelegateError(" ".join(str(error).split())) from None


class _DelegateError(Exception):
    """A shared library that is no delegate."""


class Session:
    """A graph ready to run, with its input and output.

    Not to be shared between threads; open one for each.

    Parameters
    ----------
    flatbuffer : bytes
        A model whose primary graph has one input, (1, 1, frames, features), and one output.
    frames : int, optional
        Length of the time axis, if other than the model's own.
    backend : {'auto', 'litert', 'tflite-runtime', 'tf.lite', 'numpy'}
    threads : int
    delegate : str, optional
        Path of an external delegate's shared library.
    kernels : {'default', 'plain', 'reference'}
        'plain' leaves out XNNPACK, 'reference' also the optimised kernels; numpy has the reference ones only.

    Raises
    ------
    InterpreterError
        If no interpreter works here, or the one asked for refuses the model.

    Attributes
    ----------
    backend, version : str
    input_shape, output_shape : tuple of int
    input_dtype, output_dtype : np.dtype
    input_quantization, output_quantization : (scale, zero point)
        (0.0, 0) where the tensor is float.
    """

    def __init__(
        self,
        flatbuffer: bytes,
        *,
        frames: int | None = None,
        backend: str = "auto",
        threads: int = 1,
        delegate: str | None = None,
        kernels: str = "default",
    ) -> None:
        self.backend, self.version, self._interpreter = _build(
            flatbuffer, backend, threads, delegate, kernels
        )
        details = self._interpreter.get_input_details()[0]
        self._in = int(details["index"])
        shape = [int(n) for n in details["shape"]]
        try:
            with quiet_stderr():
                if frames is not None and frames != shape[2]:
                    shape[2] = frames
                    self._interpreter.resize_tensor_input(self._in, shape)
                self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError, EdgeBenchError) as error:
            why = " ".join(str(error).split())
            raise InterpreterError(f"{self.backend} {self.version} cannot run this model: {why}") from None
        result = self._interpreter.get_output_details()[0]
        self._out = int(result["index"])
        self.input_shape = tuple(shape)
        self.input_dtype = np.dtype(details["dtype"])
        self.output_shape = tuple(int(n) for n in result["shape"])
        self.output_dtype = np.dtype(result["dtype"])
        self.input_quantization: tuple[float, int] = tuple(details["quantization"])
        self.output_quantization: tuple[float, int] = tuple(result["quantization"])

    def fill(self) -> Array:
        """Return the input tensor itself, to be written in place: no copy is made.

        Let go of it before `invoke`: the interpreter refuses to run while somebody holds its memory.
        """
        view: Array = self._interpreter.tensor(self._in)()
        return view

    def invoke(self) -> Array:
        """Run the graph on what the input holds and return a copy of the output."""
        self._interpreter.invoke()
        out: Array = self._interpreter.get_tensor(self._out)
        return out

    def run(self, x: Array) -> Array:
        """Set the input, run, and return a copy of the output."""
        self._interpreter.set_tensor(self._in, x)
        return self.invoke()

    def nodes(self) -> Nodes:
        """Return how many operators a delegate took."""
        return _count_nodes(self._interpreter._get_ops_details())

    def addresses(self) -> dict[int, tuple[int, int]]:
        """Return where the interpreter keeps each tensor that it keeps: first byte and size, by number.

        Constants lie in the model itself; numbers beyond the graph's own are kernels' scratch tensors. Inside a
        delegate nothing can be seen, so ask a session with plain kernels. Empty for numpy, which has no arena.
        """
        if self.backend == "numpy":
            return {}
        found = {}
        for details in self._interpreter.get_tensor_details():
            index = int(details["index"])
            try:
                array = self._interpreter.tensor(index)()
            except (ValueError, RuntimeError):  # not allocated
                continue
            found[index] = (int(array.__array_interface__["data"][0]), int(array.nbytes))
        return found

    def close(self) -> None:
        """Let go of the interpreter's memory; the session cannot be used afterwards."""
        self._interpreter = None


def open_session(flatbuffer: bytes, *, sandbox: bool = False, **options: Any) -> Session | SandboxSession:
    """Return a `Session`, or one whose interpreter is in a process with limits; see `edge_runtime.sandbox`."""
    if sandbox:
        from .sandbox import SandboxSession

        return SandboxSession(flatbuffer, **options)
    return Session(flatbuffer, **options)


def _count_nodes(details: Sequence[dict[str, Any]]) -> Nodes:
    """Walk back from each delegate's outputs to its inputs; the operators on the way are inside."""
    operators = [d for d in details if d["op_name"] != "DELEGATE"]
    delegates = [d for d in details if d["op_name"] == "DELEGATE"]
    maker = {int(t): d for d in operators for t in d["outputs"]}
    inside: set[int] = set()
    for delegate in delegates:
        edge = {int(t) for t in delegate["inputs"]}
        todo = [int(t) for t in delegate["outputs"]]
        while todo:
            tensor = todo.pop()
            operator = maker.get(tensor)
            if operator is None or int(operator["index"]) in inside:
                continue
            inside.add(int(operator["index"]))
            todo += [int(t) for t in operator["inputs"] if int(t) not in edge]
    return Nodes(len(operators), len(inside), len(delegates))


class SignatureSession(Session):
    """A named signature of a model, such as ``dense``; see `Session`, which runs the primary graph."""

    def __init__(self, flatbuffer: bytes, key: str, **options: Any) -> None:
        try:
            alone = signature_alone(flatbuffer, key)
        except EdgeBenchError as error:
            raise InterpreterError(str(error)) from None
        super().__init__(alone, **options)
