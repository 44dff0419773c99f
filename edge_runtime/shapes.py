"""Shapes that a flatbuffer leaves open (-1 in the shape's signature), worked out from those of the operators' inputs.

Interpreters do the same when they allocate. A file in which two graphs share their tensors, such as the clip and the
dense form of one network, can only leave them open: what is between input and output has another length in each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Shape = tuple[int, ...]

_SAME = {"LOGISTIC", "TANH", "RELU", "RELU6", "SOFTMAX", "QUANTIZE", "DEQUANTIZE", "GELU", "EXP", "SQRT", "RSQRT"}
_PAIRS = {"ADD", "MUL", "SUB", "DIV", "MAXIMUM", "SQUARED_DIFFERENCE", "POW"}
_FILTERS = {"CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "AVERAGE_POOL_2D"}


def output_shapes(
    name: str, options: Mapping[str, int], inputs: Sequence[Shape], numbers: Sequence[Shape | None], outputs: int
) -> list[Shape] | None:
    """Return the shapes of an operator's outputs, None for an operator that is not known.

    Parameters
    ----------
    inputs : sequence of shapes
        Of all its inputs, constants included.
    numbers : sequence of tuple of int, or None
        The values of those inputs that are constants of type int32: an axis, where a slice begins.
    outputs : int
        How many it has.

    Raises
    ------
    ValueError, IndexError, KeyError, ZeroDivisionError
        If they do not fit together.
    """
    if name in _SAME:
        return [inputs[0]]
    if name in _PAIRS:
        return [_broadcast(inputs[0], inputs[1])]
    if name in _FILTERS:
        return [_filtered(name, options, inputs)]
    if name == "CONCATENATION":
        place = options["axis"] % len(inputs[0])
        total = sum(shape[place] for shape in inputs)
        return [(*inputs[0][:place], total, *inputs[0][place + 1 :])]
    if name == "SPLIT" and numbers[0] is not None:
        place = numbers[0][0] % len(inputs[1])
        part = inputs[1][place] // outputs
        return [(*inputs[1][:place], part, *inputs[1][place + 1 :])] * outputs
    if name == "STRIDED_SLICE" and None not in numbers[1:4]:
        return [_sliced(options, inputs[0], numbers)]
    return None


def _sliced(options: Mapping[str, int], shape: Shape, numbers: Sequence[Shape | None]) -> Shape:
    if options["ellipsis_mask"] or options["new_axis_mask"] or options["shrink_axis_mask"]:
        raise ValueError("a slice that changes the number of axes is not known")
    begin, end, strides = (values or () for values in numbers[1:4])
    found = []
    for axis, size in enumerate(shape):
        first = None if options["begin_mask"] >> axis & 1 else begin[axis]
        last = None if options["end_mask"] >> axis & 1 else end[axis]
        found.append(len(range(*slice(first, last, strides[axis]).indices(size))))
    return tuple(found)


def _broadcast(a: Shape, b: Shape) -> Shape:
    size = max(len(a), len(b))
    a, b = (1,) * (size - len(a)) + a, (1,) * (size - len(b)) + b
    if any(m != n and 1 not in (m, n) for m, n in zip(a, b, strict=True)):
        raise ValueError(f"shapes {a} and {b} do not go together")
    return tuple(max(m, n) for m, n in zip(a, b, strict=True))


def _filtered(name: str, options: Mapping[str, int], inputs: Sequence[Shape]) -> Shape:
    batch, *sizes, channels = inputs[0]
    if name.endswith("POOL_2D"):
        taps = (options["filter_h"], options["filter_w"])
    else:
        taps = (inputs[1][1], inputs[1][2])
        channels = inputs[1][0] if name == "CONV_2D" else inputs[1][3]
    found = []
    for size, tap, side in zip(sizes, taps, "hw", strict=True):
        stride, reach = options[f"stride_{side}"], (tap - 1) * options.get(f"dilation_{side}", 1) + 1
        count = -(-size // stride) if options["padding"] == 0 else (size - reach) // stride + 1
        if count < 1:
            raise ValueError(f"a filter that spans {reach} does not fit into {size}")
        found.append(count)
    return (batch, *found, channels)
