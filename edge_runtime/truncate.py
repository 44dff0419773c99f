"""One graph of a model alone, whole or cut off behind one of its operators: any interpreter shows what it computed.

TFLite can keep every tensor, but not those inside a delegate; and what an operator costs is what the graph up to it
takes longer than the graph before it. Only a few numbers of the flatbuffer change, its weights stay where they are.
"""

from __future__ import annotations

import struct

from . import tflite
from .errors import ConfigError

# fields of the model's and a subgraph's table
_SUBGRAPHS, _SIGNATURES = 2, 7
_OUTPUTS, _OPERATORS = 2, 3


def truncated(
    flatbuffer: bytes, operators: int | None = None, *, subgraph: int = 0, model: tflite.Model | None = None,
    all_alive: bool = False,
) -> bytes:  # fmt: skip
    """Return a model of one subgraph's first operators, whose output is the (first) one of the last of them.

    Parameters
    ----------
    flatbuffer : bytes
        Without a tail, or with one: it is kept.
    operators : int, optional
        How many to keep, at least 1; all of them, and the graph's own outputs, without it.
    subgraph : int
        Which one to keep. Signatures are left out: the subgraph becomes the primary one.
    model : Model, optional
        What `tflite.read` gave for the flatbuffer, where it was read already.
    all_alive : bool
        Make further outputs of what the operators that are cut off would read. Interpreters leave out operators that
        no output needs, such as the other branch.

    Raises
    ------
    BundleError
        If the flatbuffer is damaged.
    ConfigError
        If there is no such subgraph or operator.

    Examples
    --------
    >>> from edge_runtime import tflite
    >>> from edge_runtime.bundle import read
    >>> short = truncated(read("swishnet-slim-int8").flatbuffer, 1)
    >>> len(tflite.read(short).subgraphs[0].operators)
    1
    """
    graphs = (model or tflite.read(flatbuffer)).subgraphs  # reading has checked every offset that is followed below
    if not 0 <= subgraph < len(graphs):
        raise ConfigError(f"subgraph {subgraph} of {len(graphs)} does not exist")
    data = bytearray(flatbuffer)
    root = _follow(data, 0)
    subgraphs = _follow(data, _field(data, root, _SUBGRAPHS))
    kept = _follow(data, subgraphs + 4 + 4 * subgraph)
    struct.pack_into("<II", data, subgraphs, 1, kept - (subgraphs + 4))
    if field := _field(data, root, _SIGNATURES):
        struct.pack_into("<I", data, _follow(data, field), 0)
    if operators is None:
        return bytes(data)
    graph = graphs[subgraph]
    if not 1 <= operators <= len(graph.operators) or not graph.operators[operators - 1].outputs:
        raise ConfigError(f"{operators} of {len(graph.operators)} operators cannot be kept")
    struct.pack_into("<I", data, _follow(data, _field(data, kept, _OPERATORS)), operators)
    # a new list at the end: packers store equal lists once, so the old one may be an operator's, too
    data += bytes(-len(data) % 4)
    field = _field(data, kept, _OUTPUTS)
    struct.pack_into("<I", data, field, len(data) - field)
    outputs = [graph.operators[operators - 1].outputs[0]]
    if all_alive:
        made = {i for operator in graph.operators[:operators] for i in operator.outputs}
        read = {i for operator in graph.operators[operators:] for i in operator.inputs} | set(graph.outputs)
        outputs += sorted((made & read) - set(outputs))
    data += struct.pack(f"<I{len(outputs)}i", len(outputs), *outputs)
    return bytes(data)


def signature_alone(flatbuffer: bytes, key: str) -> bytes:
    """Return a model whose only graph is that of a signature, such as ``dense``.

    An interpreter runs its primary graph with fewer steps than a signature takes, and prepares no other.

    Raises
    ------
    BundleError
        If the flatbuffer is damaged.
    ConfigError
        If it has no such signature.
    """
    model = tflite.read(flatbuffer)
    signatures = {s.key: s.subgraph for s in model.signatures}
    if key not in signatures:
        raise ConfigError(f"no signature {key!r}; there is {', '.join(signatures) or 'none'}")
    return truncated(flatbuffer, subgraph=signatures[key], model=model)


def _field(data: bytearray, table: int, number: int) -> int:
    """Return where a table keeps a field, 0 if it does not."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if struct.unpack_from("<H", data, vtable)[0] < 6 + 2 * number:
        return 0
    offset: int = struct.unpack_from("<H", data, vtable + 4 + 2 * number)[0]
    return table + offset if offset else 0


def _follow(data: bytearray, at: int) -> int:
    """Return where the offset at a place leads."""
    return at + int(struct.unpack_from("<I", data, at)[0])
