"""The one artefact: a ``.tflite`` with a zip appended, so that one file and one sha256 hold a model and its proof.

Any TFLite tool opens the file (a flatbuffer may have a tail), any zip tool lists the rest:

* ``bundle.json``: schema version, names, classes, the whole front end, forms, quantisation, provenance, licence, and
  the sha256 of every other part, the flatbuffer included;
* ``golden/*.npy``: a waveform, its features, the quantised input and the outputs that the workstation got.

Conventions: the network's input is ``(1, 1, frames, features)``, the output ``(1, classes)`` of the signature ``clip``
and ``(1, 1, frames, classes)`` logits of the signature ``dense``.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import tflite
from .config import FrontEndConfig
from .errors import BundleError, ConfigError
from .files import write_aside

SCHEMA = "edge-bench/bundle/1"
LARGEST_FILE = 1 << 28
LARGEST_PART = 1 << 24  # bytes of all parts together
MOST_PARTS = 256
MODELS = Path(__file__).parent / "models"

Array = NDArray[Any]


@dataclass(frozen=True)
class Golden:
    """What the workstation got for one waveform.

    Attributes
    ----------
    waveform : np.ndarray, int16, shape (n,)
        0.5 s; longer clips repeat it.
    features : np.ndarray, float32, shape (frames, features)
        Of the waveform, normalised.
    input : np.ndarray, shape (1, 1, padded frames, features)
        What the signature ``clip`` was fed, quantised if the model is.
    outputs : dict
        Clip length in frames (as text) to the raw output, shape (1, classes).
    """

    waveform: Array
    features: Array
    input: Array
    outputs: dict[str, Array]


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes
    ----------
    path : str
        Where it came from, for messages.
    sha256 : str
        Of the whole file.
    flatbuffer : bytes
        The model alone.
    info : dict
        ``bundle.json``.
    golden : tuple of Golden
    """

    path: str
    sha256: str
    size: int
    flatbuffer: bytes
    info: dict[str, Any]
    golden: tuple[Golden, ...]

    @property
    def name(self) -> str:
        """Its name, such as ``swishnet-slim-int8``."""
        return str(self.info["name"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""
        return tuple(self.info["classes"])

    @cached_property
    def front_end(self) -> FrontEndConfig:
        """The front end that the model was trained with."""
        return FrontEndConfig.from_dict(self.info["front_end"])

    @cached_property
    def model(self) -> tflite.Model:
        """The parsed flatbuffer."""
        return tflite.read(self.flatbuffer, what=self.path)

    @property
    def receptive_field(self) -> int:
        """Frames that one output depends on."""
        return int(self.info["receptive_field"])

    @property
    def stride(self) -> int:
        """Frames from one output of a clip to the next."""
        return int(self.info["stride"])

    def clip_frames(self, clip_s: float) -> int:
        """Return the number of whole frames in a clip of `clip_s` seconds."""
        return self.front_end.frames(round(clip_s * self.front_end.sample_rate))

    def padded_frames(self, frames: int) -> int:
        """Return the length of the network's input for a clip of `frames` frames: the rest is mean frames.

        A network that says in ``frames`` which lengths it takes (at least ``least``, and whole ``step`` more) gets the
        longest that the clip fills, its oldest frames dropped; 0 as a step means one length.
        """
        if "frames" in self.info:
            least, step = (int(self.info["frames"][key]) for key in ("least", "step"))
            return least + (max(0, frames - least) // step * step if step else 0)
        more = max(0, -((self.receptive_field - frames) // self.stride))
        return self.receptive_field + self.stride * more


def _npy(array: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()


def write(
    path: str | Path, flatbuffer: bytes, info: Mapping[str, Any], golden: tuple[Golden, ...] = ()
) -> Bundle:
    """Write a bundle and return it, read back and verified.

    Nothing appears at `path` unless the whole is written and verified.

    Parameters
    ----------
    flatbuffer : bytes
        A ``.tflite`` without a tail.
    info : mapping
        ``name, family, precision, classes, front_end, forms, receptive_field, stride, parameters, training,
        calibration, licence``; schema and checksums are added here.
    """
    path = Path(path)
    parts: dict[str, bytes] = {}
    for i, vector in enumerate(golden):
        parts[f"golden/{i}/waveform.npy"] = _npy(vector.waveform)
        parts[f"golden/{i}/features.npy"] = _npy(vector.features)
        parts[f"golden/{i}/input.npy"] = _npy(vector.input)
        for frames, output in vector.outputs.items():
            parts[f"golden/{i}/output-{frames}.npy"] = _npy(output)
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()}
    sums["model.tflite"] = hashlib.sha256(flatbuffer).hexdigest()
    full = {"schema": SCHEMA, **info, "model_bytes": len(flatbuffer), "parts": sums}
    with write_aside(path) as aside:
        aside.write_bytes(flatbuffer)
        with zipfile.ZipFile(aside, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            # a fixed date, so that equal contents give equal bytes
            for name, data in {"bundle.json": json.dumps(full, indent=1).encode(), **parts}.items():
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, data)
        read(aside)
    return read(path)


def resolve(name: str | Path) -> Path:
    """Return the path of a bundle: a file, or the name of a shipped one such as ``swishnet-slim-int8``.

    Raises
    ------
    BundleError
        If there is neither such a file nor such a shipped bundle.
    """
    path = Path(name)
    try:
        if path.is_file():
            return path
    except (OSError, ValueError) as error:  # a name that no file can have
        raise BundleError(f"{str(path)[:80]}: {getattr(error, 'strerror', None) or error}") from None
    shipped_path = MODELS / f"{path.name.removesuffix('.tflite')}.tflite"
    if len(path.parts) == 1 and shipped_path.is_file():
        return shipped_path
    if path.is_dir():
        raise BundleError(f"{path}: is a folder, expected a bundle (.tflite)")
    raise BundleError(f"{path}: no such file or shipped bundle; shipped are {', '.join(shipped()) or 'none'}")


def shipped() -> list[str]:
    """Return the names of the shipped bundles."""
    return sorted(p.stem for p in MODELS.glob("*.tflite"))


def read(path: str | Path) -> Bundle:
    """Read a bundle and verify it.

    Checked: size, magic, schema version, the sha256 of every part, every offset and index in the flatbuffer, and that
    the forms in ``bundle.json`` are what the flatbuffer has.

    Raises
    ------
    BundleError
        If the file is missing, truncated, altered, of another schema, or no bundle at all.
    """
    path = resolve(path)
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise BundleError(f"{path}: {size} bytes, a bundle has at most {LARGEST_FILE}")
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror or error}") from None
    return parse(data, what=str(path))


def parse(data: bytes, *, what: str = "bundle") -> Bundle:
    """Verify the bytes of a bundle; see `read`."""
    if len(data) < 16 or data[4:8] != tflite.MAGIC:
        raise BundleError(f"{what}: is not a .tflite model (no TFL3 mark at byte 4)")
    parts, begin = _unzip(data, what)
    info = _info(parts, what)
    if begin != info["model_bytes"]:
        raise BundleError(f"{what}: the zip begins at byte {begin}, not behind the model: altered file")
    flatbuffer = data[: int(info["model_bytes"])]
    parts["model.tflite"] = flatbuffer
    sums = info["parts"]
    for name in sorted(set(sums) | (set(parts) - {"bundle.json"})):
        if name not in parts or name not in sums:
            raise BundleError(f"{what}: part {name} is {'not listed' if name in parts else 'missing'}: altered file")
        if hashlib.sha256(parts[name]).hexdigest() != sums[name]:
            raise BundleError(f"{what}: sha256 of {name} does not match: the file was altered or damaged")
    bundle = Bundle(what, hashlib.sha256(data).hexdigest(), len(data), flatbuffer, info, _golden(parts, what))
    _check_forms(bundle)
    return bundle


def _unzip(data: bytes, what: str) -> tuple[dict[str, bytes], int]:
    """Return the parts by name and where the zip begins."""
    parts: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > MOST_PARTS or sum(entry.file_size for entry in entries) > LARGEST_PART:
                raise BundleError(f"{what}: its parts are too many or too large")
            if archive.comment:
                raise BundleError(f"{what}: the zip has a comment, which no checksum covers: altered file")
            for entry in entries:
                if entry.compress_type not in (0, 8):
                    raise BundleError(f"{what}: part {entry.filename} is oddly compressed")
                with archive.open(entry) as file:
                    parts[entry.filename] = file.read(entry.file_size)
            begin = min((entry.header_offset for entry in entries), default=-1)
    except BundleError:
        raise
    except Exception as error:  # zipfile raises a dozen types on damaged archives, zlib.error and others
        raise BundleError(
            f"{what}: a .tflite without a readable bundle part ({error}); it was cut short, or never was a bundle"
        ) from None
    if not data.endswith(b"\0\0") or data[-22:-18] != b"PK\5\6":
        raise BundleError(f"{what}: something follows the zip: altered file")
    return parts, begin


def _info(parts: Mapping[str, bytes], what: str) -> dict[str, Any]:
    try:
        info = json.loads(parts["bundle.json"])
    except KeyError:
        raise BundleError(f"{what}: a .tflite without bundle.json; make one with edge-bench quantize") from None
    except (ValueError, RecursionError):
        raise BundleError(f"{what}: bundle.json is damaged") from None
    if not isinstance(info, dict) or info.get("schema") != SCHEMA:
        found = info.get("schema") if isinstance(info, dict) else None
        raise BundleError(f"{what}: schema is {found!r}, this version reads {SCHEMA!r}")
    wanted = {
        "name": str, "family": str, "precision": str, "classes": list, "front_end": dict, "forms": dict,
        "receptive_field": int, "stride": int, "parameters": int, "model_bytes": int, "parts": dict,
    }  # fmt: skip
    for key, kind in wanted.items():
        if not isinstance(info.get(key), kind):
            raise BundleError(f"{what}: bundle.json has no {key} of type {kind.__name__}")
    names = info["classes"]
    if not names or not all(isinstance(c, str) for c in names) or len(set(names)) != len(names):
        raise BundleError(f"{what}: bundle.json must name its classes, each once")
    if not (0 < info["stride"] <= info["receptive_field"] <= 1 << 16):
        raise BundleError(f"{what}: stride and receptive field make no sense")
    _check_lengths(info, what)
    missing = sorted({field.name for field in fields(FrontEndConfig)} - set(info["front_end"]))
    if missing:
        raise BundleError(f"{what}: the front end's {missing[0]} is missing")
    try:
        FrontEndConfig.from_dict(info["front_end"])
    except ConfigError as error:
        raise BundleError(f"{what}: {error}") from None
    return info


def _check_lengths(info: Mapping[str, Any], what: str) -> None:
    lengths = info.get("frames", {"least": 1, "step": 1})
    good = isinstance(lengths, dict) and all(type(lengths.get(key)) is int for key in ("least", "step"))
    if not good or not (0 < lengths["least"] <= 1 << 16 and 0 <= lengths["step"] <= 1 << 16):
        raise BundleError(f"{what}: frames must hold whole numbers least and step, not {lengths!r}")


def _golden(parts: Mapping[str, bytes], what: str) -> tuple[Golden, ...]:
    vectors: dict[str, dict[str, Array]] = {}
    for name, data in parts.items():
        pieces = name.split("/")
        if pieces[0] != "golden" or len(pieces) != 3:
            continue
        try:
            array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)  # type: ignore[no-untyped-call]
        except Exception as error:  # a damaged header raises almost anything
            raise BundleError(f"{what}: {name} is damaged: {error}") from None
        vectors.setdefault(pieces[1], {})[pieces[2].removesuffix(".npy")] = array
    found = []
    for number, arrays in sorted(vectors.items()):
        outputs = {k.removeprefix("output-"): v for k, v in arrays.items() if k.startswith("output-")}
        missing = {"waveform", "features", "input"} - set(arrays)
        if missing or not outputs:
            raise BundleError(f"{what}: golden vector {number} has no {', '.join(sorted(missing)) or 'output'}")
        sound, shapes = arrays["waveform"], [arrays[k].ndim for k in ("waveform", "features", "input")]
        if sound.dtype != np.int16 or not sound.size or shapes != [1, 2, 4]:
            raise BundleError(f"{what}: golden vector {number} has arrays of a wrong shape or type")
        if not all(key.isdecimal() and 0 < int(key) < 10_000 for key in outputs):
            raise BundleError(f"{what}: golden vector {number} has an output for no number of frames")
        found.append(Golden(arrays["waveform"], arrays["features"], arrays["input"], outputs))
    return tuple(found)


def describe(model: tflite.Model) -> dict[str, Any]:
    """Return the forms of a flatbuffer as ``bundle.json`` holds them: signature, subgraph, input and output."""

    def ends(graph: tflite.Subgraph, index: int) -> dict[str, Any]:
        tensor = graph.tensors[index]
        entry: dict[str, Any] = {"shape": list(tensor.shape), "dtype": tensor.dtype}
        if tensor.quantization:
            entry["scale"] = tensor.quantization.scale[0]
            entry["zero_point"] = tensor.quantization.zero_point[0]
        return entry

    forms = {}
    for signature in model.signatures:
        graph = model.subgraphs[signature.subgraph]
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            raise BundleError(f"signature {signature.key!r} must have one input and one output")
        forms[signature.key] = {
            "subgraph": signature.subgraph,
            "input": ends(graph, graph.inputs[0]),
            "output": ends(graph, graph.outputs[0]),
        }
    return forms


def _check_forms(bundle: Bundle) -> None:
    forms = describe(bundle.model)
    if forms != bundle.info["forms"]:
        raise BundleError(f"{bundle.path}: the forms in bundle.json are not those of the flatbuffer")
    if "clip" not in forms:
        raise BundleError(f"{bundle.path}: has no signature 'clip'")
    for key, form in forms.items():
        shape, out = form["input"]["shape"], form["output"]["shape"]
        if len(shape) != 4 or shape[:2] != [1, 1] or shape[3] != bundle.front_end.features:
            raise BundleError(
                f"{bundle.path}: input of {key!r} has shape {shape}, expected (1, 1, frames, "
                f"{bundle.front_end.features})"
            )
        if not out or out[-1] != len(bundle.classes):
            raise BundleError(f"{bundle.path}: output of {key!r} has shape {out} for {len(bundle.classes)} classes")
    for graph in bundle.model.subgraphs:
        for operator in graph.operators:
            if operator.name.startswith(("CUSTOM", "BUILTIN")):
                raise BundleError(f"{bundle.path}: operator {operator.name} is not one that we know")
        if sum(math.prod(t.shape) for t in graph.tensors) > tflite.LARGEST_TENSOR:
            raise BundleError(f"{bundle.path}: its tensors together are too large for a small device")
