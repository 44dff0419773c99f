"""A reader of ``.tflite`` flatbuffers in the standard library: what a model holds, checked before anything runs it.

Every offset is bounds-checked and every count is compared with the bytes that are left, so that a truncated,
foreign or mutated file gives a `BundleError` and never a crash or a large allocation. The field numbers are those of
TensorFlow Lite's ``schema.fbs`` (version 3).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace
from typing import Any

from . import shapes
from .errors import BundleError

MAGIC = b"TFL3"
LARGEST_TENSOR = 1 << 28  # bytes; a network for a small device is far below

TYPES = {
    0: ("float32", 4), 1: ("float16", 2), 2: ("int32", 4), 3: ("uint8", 1), 4: ("int64", 8), 6: ("bool", 1),
    7: ("int16", 2), 9: ("int8", 1), 10: ("float64", 8), 17: ("int4", 1),
}  # fmt: skip

OPERATORS = {
    0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 6: "DEQUANTIZE",
    9: "FULLY_CONNECTED", 14: "LOGISTIC", 17: "MAX_POOL_2D", 18: "MUL", 19: "RELU", 21: "RELU6", 22: "RESHAPE",
    25: "SOFTMAX", 28: "TANH", 34: "PAD", 36: "GATHER", 37: "BATCH_TO_SPACE_ND", 38: "SPACE_TO_BATCH_ND",
    39: "TRANSPOSE", 40: "MEAN", 41: "SUB", 42: "DIV", 43: "SQUEEZE", 45: "STRIDED_SLICE", 47: "EXP", 49: "SPLIT",
    53: "CAST", 55: "MAXIMUM", 60: "PADV2", 65: "SLICE", 70: "EXPAND_DIMS", 74: "SUM", 75: "SQRT", 76: "RSQRT",
    77: "SHAPE", 78: "POW", 83: "PACK", 88: "UNPACK", 99: "SQUARED_DIFFERENCE", 102: "SPLIT_V", 114: "QUANTIZE",
    151: "GELU",
}  # fmt: skip


@dataclass(frozen=True)
class Quantization:
    """Affine quantisation: ``real = scale * (q - zero_point)``, one pair for the tensor or one a channel."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int


@dataclass(frozen=True)
class Tensor:
    """A tensor of a subgraph; `data` is None unless it is constant."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None
    buffer: int
    data: memoryview | None


@dataclass(frozen=True)
class Operator:
    """An operator; input index -1 stands for an absent optional input."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, int]


@dataclass(frozen=True)
class Subgraph:
    """Tensors and the operators that run on them, in order."""

    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


@dataclass(frozen=True)
class Signature:
    """A named entry: names of inputs and outputs to tensor numbers."""

    key: str
    subgraph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclass(frozen=True)
class Model:
    """What a ``.tflite`` file holds."""

    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[Signature, ...]
    description: str


class _Table:
    """A flatbuffer table: fields by number, each optional."""

    def __init__(self, buffer: memoryview, at: int, budget: list[int]) -> None:
        self._buffer, self._at, self._budget = buffer, at, budget
        self._spend(1)
        self._vtable = at - struct.unpack_from("<i", buffer, at)[0]
        if self._vtable < 0:
            raise BundleError("a table points before the file's start")
        size = struct.unpack_from("<H", buffer, self._vtable)[0]
        self._fields = (size - 4) // 2

    def _spend(self, effort: int) -> None:
        """Count what reading costs: offsets may point to one place many times, and a small file must stay cheap."""
        self._budget[0] -= effort
        if self._budget[0] < 0:
            raise BundleError("it lists more than its size allows")

    def _field(self, number: int) -> int:
        if number >= self._fields:
            return 0
        offset = int(struct.unpack_from("<H", self._buffer, self._vtable + 4 + 2 * number)[0])
        return self._at + offset if offset else 0

    def number(self, field: int, form: str, default: Any = 0) -> Any:
        at = self._field(field)
        return struct.unpack_from("<" + form, self._buffer, at)[0] if at else default

    def _target(self, field: int) -> int:
        at = self._field(field)
        return at + int(struct.unpack_from("<I", self._buffer, at)[0]) if at else 0

    def table(self, field: int) -> _Table | None:
        at = self._target(field)
        return _Table(self._buffer, at, self._budget) if at else None

    def _vector(self, field: int, item: int) -> tuple[int, int]:
        at = self._target(field)
        if not at:
            return 0, 0
        count = int(struct.unpack_from("<I", self._buffer, at)[0])
        if count * item > len(self._buffer) - at - 4:
            raise BundleError(f"a list of {count} items does not fit into the file")
        self._spend(count * item // 16)
        return at + 4, count

    def numbers(self, field: int, form: str) -> tuple[Any, ...]:
        at, count = self._vector(field, struct.calcsize(form))
        return struct.unpack_from(f"<{count}{form}", self._buffer, at) if count else ()

    def data(self, field: int) -> memoryview:
        at, count = self._vector(field, 1)
        return self._buffer[at : at + count]

    def text(self, field: int) -> str:
        return bytes(self.data(field)).decode("utf-8", "replace")

    def tables(self, field: int) -> list[_Table]:
        at, count = self._vector(field, 4)
        found = []
        for i in range(count):
            place = at + 4 * i
            found.append(
                _Table(self._buffer, place + struct.unpack_from("<I", self._buffer, place)[0], self._budget)
            )
        return found


_OPTIONS: dict[str, tuple[tuple[str, int, str, int], ...]] = {
    # operator: (option, field number, format, default)
    "CONV_2D": (
        ("padding", 0, "b", 0), ("stride_w", 1, "i", 0), ("stride_h", 2, "i", 0), ("activation", 3, "b", 0),
        ("dilation_w", 4, "i", 1), ("dilation_h", 5, "i", 1),
    ),
    "DEPTHWISE_CONV_2D": (
        ("padding", 0, "b", 0), ("stride_w", 1, "i", 0), ("stride_h", 2, "i", 0), ("multiplier", 3, "i", 0),
        ("activation", 4, "b", 0), ("dilation_w", 5, "i", 1), ("dilation_h", 6, "i", 1),
    ),
    "ADD": (("activation", 0, "b", 0),),
    "SUB": (("activation", 0, "b", 0),),
    "MUL": (("activation", 0, "b", 0),),
    "CONCATENATION": (("axis", 0, "i", 0), ("activation", 1, "b", 0)),
    "FULLY_CONNECTED": (("activation", 0, "b", 0), ("keep_dims", 2, "b", 0)),
    "MEAN": (("keep_dims", 0, "b", 0),),
    "SPLIT": (("splits", 0, "i", 0),),
    "STRIDED_SLICE": (
        ("begin_mask", 0, "i", 0), ("end_mask", 1, "i", 0), ("ellipsis_mask", 2, "i", 0),
        ("new_axis_mask", 3, "i", 0), ("shrink_axis_mask", 4, "i", 0),
    ),
    "AVERAGE_POOL_2D": (
        ("padding", 0, "b", 0), ("stride_w", 1, "i", 0), ("stride_h", 2, "i", 0), ("filter_w", 3, "i", 0),
        ("filter_h", 4, "i", 0), ("activation", 5, "b", 0),
    ),
    "MAX_POOL_2D": (
        ("padding", 0, "b", 0), ("stride_w", 1, "i", 0), ("stride_h", 2, "i", 0), ("filter_w", 3, "i", 0),
        ("filter_h", 4, "i", 0), ("activation", 5, "b", 0),
    ),
}  # fmt: skip


def read(data: bytes | memoryview, *, what: str = "model") -> Model:
    """Read a flatbuffer.

    Parameters
    ----------
    data : bytes
        The flatbuffer, also with something appended.
    what : str
        Name for error messages, usually the path.

    Raises
    ------
    BundleError
        If it is not a ``.tflite``, is cut short, or holds numbers that do not fit together.
    """
    view = memoryview(data)
    if len(view) < 16 or bytes(view[4:8]) != MAGIC:
        raise BundleError(f"{what}: is not a .tflite model (no {MAGIC.decode()} mark at byte 4)")
    try:
        return _read(view)
    except BundleError as error:
        raise BundleError(f"{what}: damaged .tflite: {error}") from None
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise BundleError(f"{what}: damaged .tflite, it may be cut short: {error}") from None


def _read(view: memoryview) -> Model:
    # an honest table takes a dozen bytes somewhere, also where equal ones are stored once and listed often
    root = _Table(view, struct.unpack_from("<I", view, 0)[0], [1000 + len(view) // 2])
    version = root.number(0, "I")
    if version != 3:
        raise BundleError(f"schema version {version}, expected 3")
    codes = []
    for code in root.tables(1):
        number = max(code.number(0, "b"), code.number(3, "i"))
        custom = code.text(1)
        codes.append(f"CUSTOM:{custom}" if custom else OPERATORS.get(number, f"BUILTIN_{number}"))
    buffers = [_buffer(view, b) for b in root.tables(4)]
    subgraphs = tuple(_subgraph(table, codes, buffers) for table in root.tables(2))
    if not subgraphs:
        raise BundleError("it has no subgraph")
    signatures = []
    for table in root.tables(7):
        number = int(table.number(4, "I"))
        if number >= len(subgraphs):
            raise BundleError(f"signature {table.text(2)!r} names subgraph {number} of {len(subgraphs)}")
        maps = [{t.text(0): int(t.number(1, "I")) for t in table.tables(field)} for field in (0, 1)]
        for index in (*maps[0].values(), *maps[1].values()):
            _within(index, len(subgraphs[number].tensors), "signature's tensor")
        signatures.append(Signature(table.text(2), number, maps[0], maps[1]))
    return Model(subgraphs, tuple(signatures), root.text(3))


def _buffer(view: memoryview, table: _Table) -> memoryview:
    offset, size = int(table.number(1, "Q")), int(table.number(2, "Q"))
    if offset > 1:  # weights of a model above 2 GB lie behind the flatbuffer
        if offset + size > len(view):
            raise BundleError("a buffer lies outside the file")
        return view[offset : offset + size]
    return table.data(0)


def _within(index: int, count: int, what: str) -> int:
    if not 0 <= index < count:
        raise BundleError(f"{what} {index} of {count} does not exist")
    return index


def _subgraph(table: _Table, codes: list[str], buffers: list[memoryview]) -> Subgraph:
    entries = table.tables(0)
    tensors = tuple(_tensor(i, t, buffers) for i, t in enumerate(entries))
    is_open = {i for i, t in enumerate(entries) if -1 in t.numbers(7, "i")}
    operators = []
    for entry in table.tables(3):
        name = codes[_within(int(entry.number(0, "I")), len(codes), "operator code")]
        inputs, outputs = entry.numbers(1, "i"), entry.numbers(2, "i")
        for index in inputs:
            if index != -1:
                _within(index, len(tensors), f"input of {name}")
        for index in outputs:
            _within(index, len(tensors), f"output of {name}")
        options, fields = {}, entry.table(4)
        for option, number, form, default in _OPTIONS.get(name, ()):
            options[option] = int(fields.number(number, form, default)) if fields else default
        operators.append(Operator(name, inputs, outputs, options))
    inputs, outputs = table.numbers(1, "i"), table.numbers(2, "i")
    for index in (*inputs, *outputs):
        _within(index, len(tensors), "graph's tensor")
    if not inputs or not outputs:
        raise BundleError("a subgraph has no input or no output")
    if is_open - set(inputs):
        tensors = _close(tensors, is_open - set(inputs), operators)
    return Subgraph(table.text(4), tensors, inputs, outputs, tuple(operators))


def _close(tensors: tuple[Tensor, ...], is_open: set[int], operators: list[Operator]) -> tuple[Tensor, ...]:
    """Give tensors of open shape the one that they have with the graph's own input; see `shapes`."""
    found = list(tensors)
    for operator in operators:
        wanted = is_open.intersection(operator.outputs)
        if not wanted:
            continue
        sources = [found[i] for i in operator.inputs if i >= 0]
        try:
            made = shapes.output_shapes(
                operator.name, operator.options, [t.shape for t in sources], [_numbers(t) for t in sources],
                len(operator.outputs),
            )  # fmt: skip
        except (LookupError, ValueError, ArithmeticError) as error:
            raise BundleError(f"operator {operator.name} does not fit its inputs: {error}") from None
        for index, shape in zip(operator.outputs, made or (), strict=False):
            if index in wanted:
                _check_shape(index, shape, found[index].dtype)
                found[index] = replace(found[index], shape=shape)
    return tuple(found)


def _numbers(tensor: Tensor) -> tuple[int, ...] | None:
    """Return the values of a short int32 constant, such as an axis or where a slice begins; None for anything else."""
    if tensor.dtype != "int32" or tensor.data is None or not 0 < len(tensor.data) <= 32:
        return None
    return struct.unpack(f"<{len(tensor.data) // 4}i", tensor.data)


_SIZES = dict(TYPES.values())


def _check_shape(index: int, shape: tuple[int, ...], dtype: str) -> None:
    if any(n < 0 for n in shape) or len(shape) > 8 or math.prod(shape) * _SIZES.get(dtype, 1) > LARGEST_TENSOR:
        raise BundleError(f"tensor {index} has shape {shape}")


def _tensor(index: int, table: _Table, buffers: list[memoryview]) -> Tensor:
    shape = tuple(int(n) for n in table.numbers(0, "i"))
    kind = table.number(1, "b")
    dtype, size = TYPES.get(kind, (f"type{kind}", 1))
    _check_shape(index, shape, dtype)
    buffer = _within(int(table.number(2, "I")), len(buffers), f"buffer of tensor {index}:")
    data = buffers[buffer] if len(buffers[buffer]) else None
    if data is not None and dtype != "int4" and kind in TYPES and len(data) != math.prod(shape) * size:
        raise BundleError(f"tensor {index} of shape {shape} and type {dtype} has {len(data)} bytes")
    quantization = None
    entry = table.table(4)
    if entry is not None and (scale := entry.numbers(2, "f")):
        zero_point = entry.numbers(3, "q") or (0,) * len(scale)
        if len(zero_point) != len(scale) or not all(math.isfinite(s) and s > 0 for s in scale):
            raise BundleError(f"tensor {index} has a quantisation that makes no sense")
        quantization = Quantization(scale, zero_point, int(entry.number(6, "i")))
    return Tensor(index, table.text(3), shape, dtype, quantization, buffer, data)
