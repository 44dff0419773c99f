"""A TFLite model to the smallest flatbuffer that says the same: nothing is stored twice, next to nothing is padding.

A small network's file is mostly structure, and structure repeats itself: shapes, quantisations, operators, whole
tensors of a second graph. The generated object API knows the schema and writes through a builder; `_Recorder` takes
the builder's place and keeps every table and every vector once, by content. `_layout` then writes them down.

What the layout relies on. LiteRT 2.3, tflite-runtime 2.14, tf.lite 2.21 and the official verifier accept all of it:

* many offsets may point at one place; they are unsigned, so a table lies before all that it points at;
* tables and vectors begin on 4 bytes, numbers lie on their own size. The schema wants constants on 16 bytes; the
  object API's own builder does not heed that, no interpreter here needs it, and 4 is the size of the widest of int8,
  int32 and float32. Only a model with 8-byte constants gets 16;
* vectors are only read, so one may lie in another: ``[1, 34]`` (a list of one: tensor 34) is the end of
  ``[2, 1, 34]``, and the last number of a shape can be the count of the list behind it.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from edge_runtime import BundleError

_FORMATS = {
    "Bool": "<?", "Int8": "<b", "Uint8": "<B", "Int16": "<h", "Uint16": "<H", "Int32": "<i", "Uint32": "<I",
    "Int64": "<q", "Uint64": "<Q", "Float32": "<f", "Float64": "<d", "UOffsetTRelative": "",
}  # fmt: skip
_EIGHT_BYTES = {getattr(schema.TensorType, n) for n in ("INT64", "UINT64", "FLOAT64", "COMPLEX64", "COMPLEX128")}


def pack(model: Any) -> bytes:
    """Return a small flatbuffer of all that a model holds; equal models give equal bytes.

    Parameters
    ----------
    model : ModelT
        Of ``tensorflow.lite.python.schema_py_generated``. See `strip` for what it need not hold.

    Raises
    ------
    BundleError
        If its weights lie behind the flatbuffer, as those of models above 2 GB do.
    """
    if any(buffer.offset > 1 for buffer in model.buffers):
        raise BundleError("a model with weights outside its flatbuffer cannot be packed")
    wide = any(t.type in _EIGHT_BYTES and _content(model, t) for graph in model.subgraphs for t in graph.tensors)
    recorder = _Recorder(16 if wide else 4)
    root = model.Pack(recorder)
    return _layout(recorder.nodes, root)


def strip(model: Any) -> None:
    """Drop from a model, in place, what no interpreter needs, and number the rest so that it packs well.

    Dropped are names of tensors (signatures have names of their own), calibration ranges, converter metadata, ranks
    and signatures of static shapes (the converter reads them, interpreters do not), and ``builtin_code`` where the
    older one-byte field says the same: every reader takes the larger of the two. Versions of operators stay: they
    choose kernels. Zero points stay, all three interpreters refuse scales without as many of them. Biases keep their
    scales, though these follow from others: XNNPACK takes no convolution without them, and what it does not take gets
    other numbers. It would not notice the scales of the weights in their place, but the file would say what is untrue.
    """
    model.metadata = model.metadataBuffer = model.description = None
    contents = {b"": 0}  # by convention buffer 0 is empty and stands for "no data"
    uses = Counter(operator.opcodeIndex for graph in model.subgraphs for operator in graph.operators)
    codes = sorted(uses, key=lambda index: (-uses[index], index))  # number 0, the default, takes no space
    # graphs may share what they hold, and nothing may be renumbered twice
    for operator in {id(operator): operator for graph in model.subgraphs for operator in graph.operators}.values():
        operator.opcodeIndex = codes.index(operator.opcodeIndex)
    for tensor in {id(tensor): tensor for graph in model.subgraphs for tensor in graph.tensors}.values():
        tensor.buffer = contents.setdefault(_content(model, tensor), len(contents))
        tensor.name, tensor.hasRank = None, False
        if tensor.shape is not None and len(tensor.shape) == 0:
            tensor.shape = None
        if tensor.shapeSignature is not None and -1 not in tensor.shapeSignature:
            tensor.shapeSignature = None
        if tensor.quantization is not None:
            tensor.quantization.min = tensor.quantization.max = None
            if tensor.quantization.scale is None:
                tensor.quantization = None
    model.buffers = [schema.BufferT() for _ in contents]
    for buffer, content in zip(model.buffers, contents, strict=True):
        buffer.data = np.frombuffer(content, np.uint8) if content else None
    model.operatorCodes = [model.operatorCodes[index] for index in codes]
    for code in model.operatorCodes:
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        if number < schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES:
            code.deprecatedBuiltinCode, code.builtinCode = number, 0


def _content(model: Any, tensor: Any) -> bytes:
    data = model.buffers[tensor.buffer].data
    return b"" if data is None else bytes(data)


# --- what is in the file ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Vector:
    """Numbers, bytes or a text: count and content as they lie in the file."""

    content: bytes
    align: int  # of what follows the count


@dataclass(frozen=True)
class _Table:
    """Fields by slot: the bytes of a number, or which node it is. A vector of tables is one with a count in front."""

    fields: tuple[tuple[int, bytes | int], ...]
    is_vector: bool = False

    def positions(self) -> dict[int, int]:
        """Return where in the table each field lies: the largest first, so that nothing lies between them."""
        found, at = {}, 4
        for slot, value in sorted(self.fields, key=lambda field: (-_size(field[1]), field[0])):
            found[slot] = at
            at += _size(value)
        return found

    @property
    def size(self) -> int:
        """Length in the file."""
        size = 4 + sum(_size(value) for _, value in self.fields)
        return size + -size % 4

    @property
    def align(self) -> int:
        """What all that follows the first four bytes is to lie on."""
        return max([4, *(_size(value) for _, value in self.fields)])

    def vtable(self) -> bytes:
        """Return the list of the fields' positions, behind its own size and that of the table."""
        positions = self.positions()
        slots = [positions.get(slot, 0) for slot in range(max(positions, default=-1) + 1)]
        return struct.pack(f"<{2 + len(slots)}H", 4 + 2 * len(slots), self.size, *slots)


def _size(value: bytes | int) -> int:
    return 4 if isinstance(value, int) else len(value)


class _Recorder:
    """What the object API takes for a ``flatbuffers.Builder``; its "offsets" are numbers of nodes, from 1 on."""

    def __init__(self, data_align: int) -> None:
        self.nodes: list[_Vector | _Table] = []
        self._numbers: dict[_Vector | _Table, int] = {}
        self._data_align = data_align
        self._align = 0
        self._items: list[bytes | int] = []
        self._fields: dict[int, bytes | int] = {}

    def _number(self, node: _Vector | _Table) -> int:
        if node not in self._numbers:
            self.nodes.append(node)
            self._numbers[node] = len(self.nodes)
        return self._numbers[node]

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Return ``PrependInt32`` (an item of a vector), ``PrependInt32Slot`` (a field) and their like."""
        kind = name.removeprefix("Prepend").removesuffix("Slot")
        if kind not in _FORMATS:
            raise AttributeError(name)

        def encoded(value: Any) -> bytes | int:
            return int(value) if kind == "UOffsetTRelative" else struct.pack(_FORMATS[kind], value)

        def slot(number: int, value: Any, default: Any) -> None:
            if value != default:
                self._fields[number] = encoded(value)

        return slot if name.endswith("Slot") else lambda value: self._items.append(encoded(value))

    def StartObject(self, _: int) -> None:
        self._fields = {}

    def EndObject(self) -> int:
        return self._number(_Table(tuple(sorted(self._fields.items()))))

    def StartVector(self, size: int, count: int, align: int) -> None:
        self._items, self._align = [], align

    def EndVector(self) -> int:
        items = self._items[::-1]  # the API prepends them
        if any(isinstance(item, int) for item in items):
            return self._number(_Table(tuple(enumerate(items)), is_vector=True))
        return self._vector(len(items), b"".join(item for item in items if isinstance(item, bytes)), self._align)

    def CreateNumpyVector(self, x: np.ndarray[Any, Any]) -> int:
        return self._vector(x.size, x.astype(x.dtype.newbyteorder("<")).tobytes(), x.itemsize)

    def CreateString(self, text: str | bytes) -> int:
        content = text.encode() if isinstance(text, str) else text
        return self._vector(len(content), content + b"\0", 4)

    def _vector(self, count: int, content: bytes, align: int) -> int:
        align = self._data_align if align == 1 else max(align, 4)  # single bytes are the content of a constant
        return self._number(_Vector(struct.pack("<I", count) + content + bytes(-len(content) % 4), align))


# --- where it lies ----------------------------------------------------------------------------


def _layout(nodes: list[_Vector | _Table], root: int) -> bytes:
    """Write the vtables, then tables before those that they point at, then all vectors of numbers."""
    tables = {number: node for number, node in enumerate(nodes, 1) if isinstance(node, _Table)}
    out = bytearray(8)  # the root's offset and the mark
    vtables: dict[bytes, int] = {}
    for vtable in dict.fromkeys(table.vtable() for table in tables.values() if not table.is_vector):
        vtables[vtable] = len(out)
        out += vtable
    out += bytes(-len(out) % 4)
    places: dict[int, int] = {}
    for number, table in reversed(tables.items()):  # a table was recorded after all that it points at
        out += bytes(-(len(out) + 4) % table.align)
        places[number] = len(out)
        out += bytes(table.size)
    blobs = _overlapping({number: node for number, node in enumerate(nodes, 1) if isinstance(node, _Vector)})
    while blobs:  # one that needs no padding here; the longest last, so that a file cut short is noticed
        blob = min(blobs, key=lambda b: (-(len(out) + 4) % b.align, -b.align, len(b.content)))
        blobs.remove(blob)
        out += bytes(-(len(out) + 4) % blob.align)
        places |= {number: len(out) + offset for number, offset in blob.offsets.items()}
        out += blob.content

    struct.pack_into("<I4s", out, 0, places[root], b"TFL3")
    for number, table in tables.items():
        place, positions = places[number], table.positions()
        if table.is_vector:
            struct.pack_into("<I", out, place, len(table.fields))
        else:
            struct.pack_into("<i", out, place, place - vtables[table.vtable()])
        for slot, value in table.fields:
            at = place + positions[slot]
            content = struct.pack("<I", places[value] - at) if isinstance(value, int) else value
            out[at : at + len(content)] = content
    return bytes(out)


@dataclass(eq=False)
class _Blob:
    """Vectors that share bytes: by number, where each of them begins."""

    content: bytes
    align: int
    offsets: dict[int, int]


def _overlapping(vectors: dict[int, _Vector]) -> list[_Blob]:
    """Return the vectors, those that are a part of another inside it, and ends joined with equal beginnings."""
    blobs: list[_Blob] = []
    for number, vector in sorted(vectors.items(), key=lambda item: (-len(item[1].content), item[0])):
        inside = ((b, _find(b.content, vector.content)) for b in blobs if vector.align == 4)
        blob, at = next(((b, at) for b, at in inside if at >= 0), (None, 0))
        if blob is None:
            blobs.append(_Blob(vector.content, vector.align, {number: 0}))
        else:
            blob.offsets[number] = at
    for length in range(64, 0, -4):  # longer equal ends do not occur
        _join(blobs, length)
    return blobs


def _find(content: bytes, part: bytes) -> int:
    """Return where a part begins on 4 bytes, -1 if nowhere."""
    at = content.find(part)
    while at > 0 and at % 4:
        at = content.find(part, at + 1)
    return at


def _join(blobs: list[_Blob], length: int) -> None:
    """Let blobs that begin with the last `length` bytes of another follow it, these bytes stored once."""
    ends: dict[bytes, list[_Blob]] = {}
    for blob in blobs:
        if len(blob.content) > length:
            ends.setdefault(blob.content[-length:], []).append(blob)
    for head in list(blobs):
        if head.align > 4 or len(head.content) <= length:
            continue
        fitting = ends.get(head.content[:length], [])
        tail = next((blob for blob in fitting if blob is not head), None)
        if tail is None:
            continue
        shift = len(tail.content) - length
        tail.content += head.content[length:]
        tail.offsets |= {number: shift + at for number, at in head.offsets.items()}
        fitting.remove(tail)
        others = ends[head.content[-length:]]
        if head in others:  # what ended with head ends with tail now
            others[others.index(head)] = tail
        blobs.remove(head)
