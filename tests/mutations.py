"""Damaged files made from good ones: every case is a function of its number, so that it can be made again.

Kinds: ``tflite`` (the flatbuffer), ``bundle`` (the file's bytes), ``resealed`` (a bundle whose flatbuffer or golden
vectors are damaged and whose checksums are right again), ``info`` (bundle.json, likewise), ``zip`` (its structure), and
``wav``.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import helpers
import numpy as np

from edge_runtime import tflite
from edge_runtime.wav import write_wav

KINDS = ("tflite", "bundle", "resealed", "info", "zip", "wav")
_WORDS = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2, 3, 255, 65536, 2**31, 2**63, 10**400, -(2**40), 0.0, 0.5, -1.5, 1e-320, 1e308,
    float("nan"), float("inf"), "", "x", "\0", "../../x", "\ud800", "9" * 5000, [], {}, [[]], [0] * 1000,
    {"a": {"b": []}}, "int8", [1, 1],
)  # fmt: skip


def fields_of(flatbuffer: bytes) -> list[tuple[int, str]]:
    """Return place and format of every number that the reader takes from a flatbuffer: offsets, counts, sizes, all."""
    seen: dict[int, str] = {}

    def unpack_from(form: str, buffer: Any, at: int = 0) -> Any:
        if not form[1:].isalpha() or len(form) > 2:  # a list: its items are bytes of no special meaning
            return struct.unpack_from(form, buffer, at)
        seen[at] = form
        return struct.unpack_from(form, buffer, at)

    real = tflite.struct
    tflite.struct = SimpleNamespace(  # type: ignore[assignment]
        unpack_from=unpack_from, unpack=struct.unpack, calcsize=struct.calcsize, error=struct.error
    )
    try:
        tflite.read(flatbuffer)
    finally:
        tflite.struct = real
    return sorted(seen.items())


def damage(data: bytes, rng: np.random.Generator, others: Sequence[bytes]) -> bytes:
    """Return damaged bytes: flips, extreme words, cuts, insertions, swaps, splices with another file."""
    out = bytearray(data)
    if not out:
        return rng.bytes(4)
    for _ in range(int(rng.choice([1, 1, 1, 2, 5]))):
        head, tail = int(rng.integers(min(200, len(out)))), len(out) - 1 - int(rng.integers(min(3000, len(out))))
        at = int(rng.choice([rng.integers(len(out)), head, tail]))
        kind = rng.integers(9)
        size = int(rng.integers(1, 1 << int(rng.integers(1, 10))))
        if kind == 0:
            out[at] ^= 1 << rng.integers(8)
        elif kind == 1:
            out[at : at + size] = rng.bytes(len(out[at : at + size]))
        elif kind == 2:
            at = at // 4 * 4
            out[at : at + 4] = struct.pack("<I", int(rng.choice([*_WORDS, len(out), abs(len(out) - at)])))
        elif kind == 3:
            del out[at : at + size]
        elif kind == 4:
            out[at:at] = rng.bytes(size)
        elif kind == 5:
            out = out[: int(rng.integers(len(out)))] or out
        elif kind == 6:
            source = int(rng.integers(len(out)))
            out[at : at + size] = out[source : source + size]
        elif kind == 7:
            other = others[int(rng.integers(len(others)))]
            out = out[:at] + other[int(rng.integers(len(other))) :]
        else:
            out[at : at + size] = bytes([int(rng.choice([0, 255, 127, 128]))]) * len(out[at : at + size])
        out = out or bytearray(1)
    return bytes(out)


def damage_fields(data: bytes, fields: Sequence[tuple[int, str]], rng: np.random.Generator) -> bytes:
    """Return a flatbuffer in which some of the numbers that mean something are others."""
    out = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 1, 2, 4, 10]))):
        at, form = fields[int(rng.integers(len(fields)))]
        if form[-1] in "fd":
            value: Any = float(rng.choice([0, -1, 1e-45, 3e38, np.nan, np.inf, -np.inf]))
        else:
            bits = 8 * struct.calcsize(form)
            now = int(struct.unpack_from(form, out, at)[0])
            other_at, other_form = fields[int(rng.integers(len(fields)))]
            near = now + int(rng.integers(-8, 9))
            copied = int(struct.unpack_from(other_form, out, other_at)[0]) if other_form[-1] not in "fd" else 0
            choices = (near, near, int(rng.choice(_WORDS)), 1 << int(rng.integers(bits)), copied)
            number = choices[int(rng.integers(len(choices)))]
            value = number & ((1 << bits) - 1)
            form = form[0] + form[1].upper()
        struct.pack_into(form, out, at, value)
    return bytes(out)


def damage_json(value: Any, rng: np.random.Generator) -> Any:
    """Return a JSON value with one part replaced, doubled or left out."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = list(value)[int(rng.integers(len(value)))]
        choice = rng.random()
        if choice < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if choice < 0.15:
            return {**value, f"{key}x": value[key]}
        return {**value, key: damage_json(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        i = int(rng.integers(len(value)))
        if rng.random() < 0.2:
            return [*value[:i], *value[i + 1 :]] if rng.random() < 0.5 else value * 2
        return [*value[:i], damage_json(value[i], rng), *value[i + 1 :]]
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.5:
        return value + int(rng.integers(-3, 4)) if rng.random() < 0.5 else value * float(rng.choice([-1, 0.5, 2, 1000]))
    return _VALUES[int(rng.integers(len(_VALUES)))]


def reseal(flatbuffer: bytes, parts: dict[str, bytes], info: Any) -> bytes:
    """Return a bundle whose checksums and sizes are right, whatever else it says."""
    content = {name: data for name, data in parts.items() if name != "bundle.json"}
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    sums["model.tflite"] = hashlib.sha256(flatbuffer).hexdigest()
    full = {**info, "parts": sums, "model_bytes": len(flatbuffer)} if isinstance(info, dict) else info
    return helpers.assemble(flatbuffer, {"bundle.json": json.dumps(full).encode(), **content})


class Mutator:
    """Makes damaged files from bundles and sounds."""

    def __init__(self, bundles: Sequence[bytes], folder: Path, *, seed: int = 0) -> None:
        self._seed, self._bundles = seed, list(bundles)
        self._taken = [helpers.parts_of(data) for data in self._bundles]
        self._fields = [fields_of(flatbuffer) for flatbuffer, _ in self._taken]
        self._sounds = []
        for i, form in enumerate(("pcm8", "pcm16", "pcm24", "pcm32", "float32", "float64")):
            sound = np.random.default_rng(i).uniform(-0.5, 0.5, (300, 1 + i % 2)).astype(np.float32)
            write_wav(folder / "seed.wav", sound, 16000 if i % 2 else 44100, sample_format=form)
            self._sounds.append((folder / "seed.wav").read_bytes())

    def case(self, number: int) -> tuple[str, bytes]:
        """Return kind and content of a case."""
        rng = np.random.default_rng([self._seed, number])
        kind = KINDS[number % len(KINDS)]
        which = int(rng.integers(len(self._bundles)))
        data, (flatbuffer, parts) = self._bundles[which], self._taken[which]
        if kind == "wav":
            return kind, damage(self._sounds[int(rng.integers(len(self._sounds)))], rng, self._sounds)
        if kind == "bundle":
            return kind, damage(data, rng, self._bundles)
        if kind == "tflite":
            if rng.random() < 0.7:
                return kind, damage_fields(flatbuffer, self._fields[which], rng)
            return kind, damage(flatbuffer, rng, [f for f, _ in self._taken])
        if kind == "zip":
            return kind, self._zip(data, flatbuffer, parts, rng)
        info = json.loads(parts["bundle.json"])
        if kind == "info":
            return kind, reseal(flatbuffer, parts, damage_json(info, rng))
        if rng.random() < 0.7:
            flatbuffer = damage_fields(flatbuffer, self._fields[which], rng)
            if rng.random() < 0.5:  # and bundle.json agrees, so that the interpreter would be next
                info = self._described(flatbuffer, info)
        else:
            name = sorted(n for n in parts if n.startswith("golden"))[int(rng.integers(len(parts) - 1))]
            parts = {**parts, name: damage(parts[name], rng, list(parts.values()))}
        return kind, reseal(flatbuffer, parts, info)

    @staticmethod
    def _described(flatbuffer: bytes, info: dict[str, Any]) -> dict[str, Any]:
        from edge_runtime import EdgeBenchError, bundle

        try:
            return {**info, "forms": bundle.describe(tflite.read(flatbuffer))}
        except EdgeBenchError:
            return info

    @staticmethod
    def _zip(data: bytes, flatbuffer: bytes, parts: dict[str, bytes], rng: np.random.Generator) -> bytes:
        """Damage the zip: its directory, its local headers, what it holds."""
        kind = rng.integers(4)
        if kind == 0:  # the central directory and its end
            begin = data.rindex(b"PK\1\2", 0, len(data)) - 46 * int(rng.integers(8))
            begin = max(begin, len(flatbuffer))
            return data[:begin] + damage(data[begin:], rng, [data[-500:]])
        if kind == 1:  # a header's field
            marks = [m.start() for m in re.finditer(rb"PK[\1\3\5]", data[: -46]) if m.start() >= len(flatbuffer)]
            at = marks[int(rng.integers(len(marks)))] + 2 * int(rng.integers(1, 23))
            return data[:at] + struct.pack("<H", int(rng.choice(_WORDS)) & 0xFFFF) + data[at + 2 :]
        file = io.BytesIO(flatbuffer)
        method = int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]))
        with warnings.catch_warnings(), zipfile.ZipFile(file, "a", method) as archive:
            warnings.simplefilter("ignore")  # of the duplicates that are made on purpose
            # entries by ZipInfo bear its fixed date: a name alone would bear the time of day, and a case is one file
            if kind == 2:  # a bomb among the parts, or very many parts
                count, size = (1, int(rng.choice([1 << 20, 1 << 23]))) if rng.random() < 0.7 else (300, 1)
                for i in range(count):
                    archive.writestr(zipfile.ZipInfo(f"golden/{i}/waveform.npy"), bytes(size), method)
            names = list(parts)
            for name in names:
                odd = rng.choice([name, name, name, name.upper(), "/" + name, f"../{name}", names[0]])
                archive.writestr(zipfile.ZipInfo(str(odd)), parts[name], method)
        return file.getvalue()
