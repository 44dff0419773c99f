"""A flatbuffer as TensorFlow's object API sees it, to be changed and packed again."""

from __future__ import annotations

from typing import Any

from tensorflow.lite.python import schema_py_generated as schema

_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


def unpack(flatbuffer: bytes) -> Any:
    """Return the ``ModelT`` of a flatbuffer; `edge_bench.quantize.pack.pack` is its inverse."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))


def operator_name(model: Any, operator: Any) -> str:
    """Return an operator's name, such as ``CONV_2D``."""
    code = model.operatorCodes[operator.opcodeIndex]
    return _NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
