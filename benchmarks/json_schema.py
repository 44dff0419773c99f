"""Whether a value follows a JSON Schema: the part of draft 2020-12 that the schemas of this project use.

A board has no jsonschema package, and a reader's message should name the place in one line. The tests compare every
answer with the package's. Long lists of plain numbers, as raw samples are, are checked by their extremes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

KEYWORDS = {
    "$schema", "$id", "$defs", "$ref", "title", "description", "type", "const", "enum", "required", "properties",
    "additionalProperties", "items", "minItems", "maxItems", "minimum", "exclusiveMinimum", "maximum", "pattern",
    "minLength",
}  # fmt: skip

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "null": (type(None),),
    "number": (int, float), "integer": (int,),
}  # fmt: skip


def first_error(value: Any, schema: dict[str, Any]) -> str | None:
    """Return where and how a value departs from a schema, None when it does not.

    Examples
    --------
    >>> first_error({"p50": -1}, {"type": "object", "properties": {"p50": {"exclusiveMinimum": 0}}})
    'p50 is -1, must be above 0'
    >>> first_error({}, {"required": ["p50"]})
    'p50 is missing'
    """
    return next(_errors(value, schema, schema, ""), None)


def _errors(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    if "$ref" in schema:
        yield from _errors(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, at)
    here = at or "the whole"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        yield f"{here} is {_short(value)}, must be {' or '.join(kinds)}"
        return
    if "const" in schema and value != schema["const"]:
        yield f"{here} is {_short(value)}, must be {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{here} is {_short(value)}, must be one of {', '.join(map(str, schema['enum']))}"
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{here} is {_short(value)}, must look like {schema['pattern']}"
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        yield f"{here} is {_short(value)}, must have at least {schema['minLength']} character(s)"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _bounds(value, schema, here)
    if isinstance(value, dict):
        yield from _members(value, schema, root, at)
    if isinstance(value, list):
        yield from _items(value, schema, root, at)


def _members(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    dot = f"{at}." if at else ""
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{dot}{name} is missing"
    properties = schema.get("properties", {})
    rest = schema.get("additionalProperties", {})
    for name, member in value.items():
        if name in properties:
            yield from _errors(member, properties[name], root, f"{dot}{name}")
        elif rest is False:
            yield f"{dot}{name} is not known"
        elif rest and rest is not True:
            yield from _errors(member, rest, root, f"{dot}{name}")


def _items(value: list[Any], schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
    if not least <= len(value) <= most:
        yield f"{at or 'the whole'} has {len(value)} entries, must have {_between(least, most)}"
    items = schema.get("items")
    if items is None:
        return
    if len(value) > 8 and items.get("type") == "number" and {*map(type, value)} <= {int, float}:
        if any(_bounds(min(value), items, "")) or any(_bounds(max(value), items, "")):
            number = next(i for i, entry in enumerate(value) if any(_bounds(entry, items, "")))
            yield from _bounds(value[number], items, f"{at}[{number}]")
        return
    for number, entry in enumerate(value):
        yield from _errors(entry, items, root, f"{at}[{number}]")


def _bounds(value: float, schema: dict[str, Any], here: str) -> Iterator[str]:
    if "minimum" in schema and not value >= schema["minimum"]:
        yield f"{here} is {value}, must be at least {schema['minimum']}"
    if "exclusiveMinimum" in schema and not value > schema["exclusiveMinimum"]:
        yield f"{here} is {value}, must be above {schema['exclusiveMinimum']}"
    if "maximum" in schema and not value <= schema["maximum"]:
        yield f"{here} is {value}, must be at most {schema['maximum']}"


def _between(least: int, most: float) -> str:
    if least == most:
        return f"{least}"
    return f"at least {least}" if most == math.inf else f"{least} to {most}"


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def _short(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
