"""The one artefact: any tool opens it, it proves itself, it is written whole or not at all, and damage is found."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CLASSES, assemble, noise, parts_of, with_info

from edge_runtime import BundleError, ConfigError, EdgeBenchError, FrontEnd, FrontEndConfig, bundle, files, tflite
from edge_runtime.classify import check_golden
from edge_runtime.wav import write_wav


def same(a: bundle.Bundle, b: bundle.Bundle) -> bool:
    """Whether two bundles say the same, whatever the zip around it looks like."""

    def golden(x: bundle.Bundle) -> list[Any]:
        return [
            (
                v.waveform.tobytes(),
                v.features.tobytes(),
                v.input.tobytes(),
                {k: o.tobytes() for k, o in v.outputs.items()},
            )
            for v in x.golden
        ]

    return a.flatbuffer == b.flatbuffer and a.info == b.info and golden(a) == golden(b)


def refused(data: bytes, message: str | None = None) -> str:
    """`parse` refuses the bytes in one line that names the file."""
    with pytest.raises(BundleError, match=message) as caught:
        bundle.parse(data, what="some/file.tflite")
    text = str(caught.value)
    assert text.startswith("some/file.tflite: ") and "\n" not in text
    return text


def relisted(data: bytes, **parts: bytes) -> bytes:
    """Return a bundle with other parts and the checksums that fit them: `__` stands for a slash, `_npy` for .npy."""
    flatbuffer, content = parts_of(data)
    info = json.loads(content["bundle.json"])
    for name, value in parts.items():
        name = name.replace("__", "/").replace("_npy", ".npy")
        content[name] = value
        info["parts"][name] = hashlib.sha256(value).hexdigest()
    return assemble(flatbuffer, {**content, "bundle.json": json.dumps(info).encode()})


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


# --- what it is -------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_it_says_what_it_is(bundles: dict[str, Path], front_end: FrontEndConfig, precision: str) -> None:
    path = bundles[precision]
    b = bundle.read(path)
    assert (b.name, b.classes, b.info["precision"]) == (f"slim-{precision}", CLASSES, precision)
    assert b.front_end == front_end
    assert b.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert b.size == path.stat().st_size and b.path == str(path)
    assert (b.receptive_field, b.stride, b.info["parameters"]) == (108, 48, 5483)
    assert b.info["licence"] == "Apache-2.0" and b.info["training"] == {"corpus": "none"}
    assert (b.info["calibration"] is None) == (precision == "float32")
    assert b.info["schema"] == "edge-bench/bundle/1"
    assert [b.clip_frames(s) for s in (0.5, 1, 2)] == [48, 98, 198]
    assert [b.padded_frames(n) for n in (48, 98, 108, 109, 156, 157, 198)] == [108, 108, 108, 156, 156, 204, 204]
    assert set(b.info["forms"]) == {"clip", "dense"}
    kind = "int8" if precision == "int8" else "float32"
    assert b.info["forms"]["clip"]["input"]["dtype"] == b.info["forms"]["clip"]["output"]["dtype"] == kind


def test_calibration_is_named_and_reproducible(bundles: dict[str, Path]) -> None:
    found = bundle.read(bundles["int8"]).info["calibration"]
    clips = np.random.default_rng(5).standard_normal((24, 198, 20)).astype(np.float32)
    assert found["clips"] == 24 and found["sha256"] == hashlib.sha256(clips.tobytes()).hexdigest()
    assert found["recordings"] == sorted(f"random{i}" for i in range(24))


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_zip_tools_read_it(bundles: dict[str, Path], precision: str) -> None:
    with zipfile.ZipFile(bundles[precision]) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        info = json.loads(archive.read("bundle.json"))
    wanted = {"waveform", "features", "input", "output-48", "output-98", "output-198"}
    assert set(names) == {"bundle.json"} | {f"golden/{i}/{part}.npy" for i in (0, 1) for part in wanted}
    assert len(names) == len(set(names))
    assert set(info["parts"]) == set(names) - {"bundle.json"} | {"model.tflite"}


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_tflite_tools_read_it(bundles: dict[str, Path], precision: str) -> None:
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    golden = bundle.read(bundles[precision]).golden[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = [tf.lite.Interpreter(str(bundles[precision])), Interpreter(str(bundles[precision]))]
    for interpreter in opened:
        (entry,) = interpreter.get_input_details()
        interpreter.resize_tensor_input(entry["index"], golden.input.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(entry["index"], golden.input)
        interpreter.invoke()
        got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        assert np.abs(got.astype(float) - golden.outputs["48"].astype(float)).max() <= (
            1 if precision == "int8" else 1e-6
        )


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_golden_vectors_pass(bundles: dict[str, Path], precision: str) -> None:
    report = check_golden(bundle.read(bundles[precision]))
    assert (report.vectors, report.features, report.input_lsb) == (2, 0.0, 0.0)
    assert report.output_lsb <= (0 if precision == "int8" else 1e-6)


def test_golden_vectors_say_something(bundles: dict[str, Path]) -> None:
    b = bundle.read(bundles["float32"])
    for vector in b.golden:
        assert (
            vector.waveform.dtype == np.int16
            and vector.waveform.shape == (8000,)
            and np.abs(vector.waveform).max() > 5000
        )
        assert vector.features.shape == (48, 20) and vector.input.shape == (1, 1, 108, 20)
        assert np.array_equal(FrontEnd(b.front_end)(vector.waveform), vector.features)
        assert not vector.input[0, 0, :60].any() and np.array_equal(vector.input[0, 0, 60:], vector.features)
        assert set(vector.outputs) == {"48", "98", "198"}
        for output in vector.outputs.values():
            assert output.shape == (1, 3) and output.sum() == pytest.approx(1, abs=1e-5)
    first, second = (v.outputs["48"] for v in b.golden)
    assert np.abs(first - second).max() > 0.02, "the random network must tell the two waveforms apart"


@pytest.mark.parametrize(
    ("part", "field"), [("features", "features"), ("input", "input_lsb"), ("output_48", "output_lsb")]
)
def test_golden_vectors_notice_a_difference(int8: bytes, part: str, field: str) -> None:
    name = f"golden/1/{part.replace('_', '-')}.npy"
    array = np.load(io.BytesIO(parts_of(int8)[1][name]))
    array.flat[-1] += 3 if array.flat[-1] < 100 else -3
    altered = bundle.parse(relisted(int8, **{name.replace(".npy", "_npy").replace("/", "__"): npy(array)}))
    report = check_golden(altered)
    assert getattr(report, field) == pytest.approx(3, abs=1e-5)
    assert sum(getattr(report, f) > 0 for f in ("features", "input_lsb", "output_lsb")) == 1


def test_without_golden_vectors(int8: bytes) -> None:
    flatbuffer, parts = parts_of(int8)
    info = json.loads(parts["bundle.json"])
    info["parts"] = {"model.tflite": info["parts"]["model.tflite"]}
    bare = bundle.parse(assemble(flatbuffer, {"bundle.json": json.dumps(info).encode()}), what="bare")
    assert bare.golden == ()
    with pytest.raises(BundleError, match="bare: has no golden vectors"):
        check_golden(bare)


# --- writing ----------------------------------------------------------------------------------


def written(b: bundle.Bundle, path: Path) -> bundle.Bundle:
    info = {k: v for k, v in b.info.items() if k not in ("schema", "parts", "model_bytes")}
    return bundle.write(path, b.flatbuffer, info, b.golden)


def test_equal_contents_give_equal_bytes(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = bundle.read(bundles["int8"])
    copy = written(original, tmp_path / "copy.tflite")
    later = time.struct_time((2037, 1, 2, 3, 4, 6, 4, 2, 0))
    monkeypatch.setattr(time, "localtime", lambda *_: later)  # zipfile dates what it writes
    again = written(original, tmp_path / "again.tflite")
    assert same(copy, original) and copy.sha256 == again.sha256 == original.sha256
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.tflite", "copy.tflite"]


@pytest.mark.slow
def test_converting_twice_gives_equal_bytes(slim: Any) -> None:
    from edge_bench.quantize import convert

    calibration = convert.Calibration(
        np.random.default_rng(0).standard_normal((8, 98, 20)).astype(np.float32), ("x",) * 8
    )
    first, second = (convert.convert(slim, precision="int8", calibration=calibration) for _ in range(2))
    assert first == second


def test_a_bundle_replaces_an_older_one(bundles: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"older")
    assert same(written(bundle.read(bundles["int8"]), path), bundle.read(path))
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def no_space(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def not_allowed(*_: Any, **__: Any) -> Any:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.mark.parametrize(
    ("owner", "attribute", "failure", "message"),
    [
        (Path, "write_bytes", no_space, "No space left"),
        (zipfile.ZipFile, "writestr", no_space, "No space left"),
        (zipfile.ZipFile, "close", no_space, "No space left"),
        (os, "fsync", no_space, "No space left"),
        (Path, "replace", not_allowed, "Permission denied"),
        (files.tempfile, "mkstemp", not_allowed, "Permission denied"),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # ZipFile.__del__ closes once more
def test_a_failed_write_leaves_nothing(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    owner: Any, attribute: str, failure: Any, message: str,
) -> None:  # fmt: skip
    original = bundle.read(bundles["int8"])
    path = tmp_path / "model.tflite"
    for older in (None, b"older"):
        if older:
            path.write_bytes(older)
        with monkeypatch.context() as patch:
            patch.setattr(owner, attribute, failure)
            with pytest.raises(EdgeBenchError, match=message) as caught:
                written(original, path)
        assert "model.tflite" in str(caught.value) and "\n" not in str(caught.value)
        assert [p.name for p in tmp_path.iterdir()] == ([path.name] if older else [])
        assert older is None or path.read_bytes() == older


def test_an_interrupted_write_leaves_nothing(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    original = bundle.read(bundles["int8"])
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        written(original, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(bundles: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EdgeBenchError, match="cannot be written"):
        written(bundle.read(bundles["int8"]), tmp_path / "file" / "model.tflite")
    with pytest.raises(EdgeBenchError, match="cannot be written"):
        (tmp_path / "folder.tflite").mkdir()
        written(bundle.read(bundles["int8"]), tmp_path / "folder.tflite")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder.tflite"]


def test_a_missing_folder_is_made(bundles: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "model.tflite"
    assert written(bundle.read(bundles["int8"]), path).path == str(path)


def test_what_does_not_verify_is_not_written(bundles: dict[str, Path], tmp_path: Path) -> None:
    b = bundle.read(bundles["int8"])
    info = {k: v for k, v in b.info.items() if k not in ("schema", "parts", "model_bytes")}
    for flatbuffer, changes in (
        (b.flatbuffer[:-1000], {}),
        (b"text", {}),
        (b.flatbuffer, {"classes": ["speech", "music"]}),
        (b.flatbuffer, {"forms": {}}),
        (b.flatbuffer, {"front_end": {}, "name": None}),
    ):
        with pytest.raises(BundleError):
            bundle.write(tmp_path / "model.tflite", flatbuffer, {**info, **changes})
    assert not list(tmp_path.iterdir())


def test_export_writes_whole_or_nothing(
    slim: Any, front_end: FrontEndConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_bench.quantize import convert

    monkeypatch.setattr(convert, "make_golden", no_space)
    with pytest.raises(EdgeBenchError, match=r"model\.tflite: cannot be written: No space left"):
        convert.export(
            tmp_path / "model.tflite", slim, name="x", family="swishnet", precision="float32", front_end=front_end,
            classes=CLASSES, training={},
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_conversion_refuses_what_it_cannot_do(slim: Any) -> None:
    import keras

    from edge_bench.quantize import convert

    with pytest.raises(ConfigError, match="'int4' is unknown"):
        convert.convert(slim, precision="int4")
    nothing = convert.Calibration(np.zeros((0, 98, 20), np.float32), ())
    for calibration in (None, nothing):
        with pytest.raises(ConfigError, match="needs calibration clips"):
            convert.convert(slim, precision="int8", calibration=calibration)
    other = keras.Sequential([keras.Input((20,)), keras.layers.Dense(3)], name="other")
    with pytest.raises(ConfigError, match=r"'other' takes .* a bundle feeds clips"):
        convert.convert(other, precision="float32")


# --- names and files --------------------------------------------------------------------------


def test_names_of_files_and_shipped_bundles(tmp_path: Path, int8: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MODELS", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "swishnet-test-int8.tflite").write_bytes(int8)
    assert bundle.shipped() == ["swishnet-test-int8"]
    for name in ("swishnet-test-int8", "swishnet-test-int8.tflite", str(tmp_path / "swishnet-test-int8.tflite")):
        assert bundle.read(name).name == "slim-int8"
    with pytest.raises(BundleError, match="nosuch: no such file or shipped bundle; shipped are swishnet-test-int8"):
        bundle.read("nosuch")
    with pytest.raises(BundleError, match="no such file"):
        bundle.read("elsewhere/swishnet-test-int8")
    with pytest.raises(BundleError, match="is a folder"):
        bundle.read(tmp_path)


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(BundleError):
        bundle.read("a" * 300)


def test_a_file_that_cannot_be_read(int8: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(int8)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", not_allowed)
        with pytest.raises(EdgeBenchError, match=r"model\.tflite: cannot be read: Permission denied"):
            bundle.read(path)
    monkeypatch.setattr(bundle, "LARGEST_FILE", 1000)
    with pytest.raises(BundleError, match="a bundle has at most 1000"):
        bundle.read(path)


# --- foreign files ----------------------------------------------------------------------------


def test_foreign_files(tmp_path: Path, int8: bytes) -> None:
    write_wav(tmp_path / "sound.wav", noise(0.5), 16000)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "short").write_bytes(int8[:12])
    (tmp_path / "notes.txt").write_text("speech, music and noise\n" * 20)
    (tmp_path / "a.zip").write_bytes(assemble(b"", {"bundle.json": b"{}"}))
    (tmp_path / "p.pickle").write_bytes(pickle.dumps({"a": 1}) * 10)
    for name in ("sound.wav", "empty", "short", "notes.txt", "a.zip", "p.pickle"):
        with pytest.raises(BundleError, match=r"is not a \.tflite model") as caught:
            bundle.read(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_another_tflite_is_no_bundle(int8: bytes) -> None:
    flatbuffer, parts = parts_of(int8)
    refused(flatbuffer, "without a readable bundle part")
    refused(assemble(flatbuffer, {"labels.txt": b"speech\nmusic\n"}), "without bundle.json")
    refused(assemble(flatbuffer, {k: v for k, v in parts.items() if k != "bundle.json"}), "without bundle.json")


@pytest.mark.parametrize("schema", ["edge-bench/bundle/2", "edge-bench/bundle/0", None, 1, ["edge-bench/bundle/1"]])
def test_a_schema_of_another_version(int8: bytes, schema: Any) -> None:
    text = refused(with_info(int8, schema=schema), "schema is")
    assert repr(schema) in text and "edge-bench/bundle/1" in text


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"null", b"\xff\xfe", b"[" * 100000, b'"schema"', b"NaN"])
def test_a_bundle_json_that_is_none(int8: bytes, content: bytes) -> None:
    flatbuffer, parts = parts_of(int8)
    refused(assemble(flatbuffer, {**parts, "bundle.json": content}), "bundle.json is damaged|schema is")


@pytest.mark.parametrize(
    "changes",
    [
        *[{key: value} for key in ("name", "family", "precision") for value in (None, 3, ["x"])],
        *[
            {key: value}
            for key in ("receptive_field", "stride", "parameters", "model_bytes")
            for value in (None, "3", 1.5)
        ],
        *[{"classes": value} for value in (None, [], [1, 2, 3], ["a", "b"], ["a", "b", "c", "d"], "abc", {})],
        *[{"stride": value} for value in (0, -1, 109, 1 << 40)],
        *[{"receptive_field": value} for value in (0, 47, 1 << 17)],
        *[{"model_bytes": value} for value in (0, -1, -10000, 1, 1 << 40, 10**400)],
        *[{"parts": value} for value in (None, {}, [], {"model.tflite": 3}, {"model.tflite": None})],
        *[{"forms": value} for value in (None, {}, {"clip": {}}, [])],
        *[{"front_end": value} for value in (None, [], {"hop": 1}, {"coefficients": 19}, {"kind": "log_mel"})],
    ],
)
def test_a_bundle_json_that_lies(int8: bytes, changes: dict[str, Any]) -> None:
    refused(with_info(int8, **changes))


@pytest.mark.parametrize("values", [{"mean": "ab"}, {"mean": ["x"] * 20}, {"power_floor": 10**400}])
def test_a_front_end_that_is_none(int8: bytes, values: dict[str, Any]) -> None:
    refused(with_info(int8, front_end=values))


def test_a_front_end_must_be_whole(int8: bytes) -> None:
    whole = json.loads(parts_of(int8)[1]["bundle.json"])["front_end"]
    refused(with_info(int8, front_end={k: v for k, v in whole.items() if k != "fmin"}))


def test_class_names_must_differ(int8: bytes) -> None:
    refused(with_info(int8, classes=["speech", "speech", "noise"]))


# --- damage -----------------------------------------------------------------------------------


def survives(data: bytes, original: bundle.Bundle) -> bool:
    """Whether the bytes parse; if so they must say what the original says. Never slow, never another error."""
    start = time.process_time()
    try:
        got = bundle.parse(data)
    except BundleError as error:
        assert "\n" not in str(error)
        return False
    finally:
        assert time.process_time() - start < 2
    assert same(got, original), "a damaged bundle was read as another one"
    return True


def spans(data: bytes) -> dict[str, tuple[int, int]]:
    """First and last byte + 1 of the flatbuffer and of the compressed content of each part."""
    found = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found["model.tflite"] = (0, archive.infolist()[0].header_offset)
        for entry in archive.infolist():
            name, extra = (
                int.from_bytes(data[entry.header_offset + i : entry.header_offset + i + 2], "little") for i in (26, 28)
            )
            start = entry.header_offset + 30 + name + extra
            found[entry.filename] = (start, start + entry.compress_size)
    return found


def test_every_flipped_byte_of_the_contents_is_found(int8: bytes) -> None:
    rng = np.random.default_rng(0)
    places = spans(int8)
    total = sum(stop - start for start, stop in places.values())
    assert total > 0.95 * len(int8)
    original, harmless = bundle.parse(int8), 0
    for name, (start, stop) in places.items():
        count = max(4, round(300 * (stop - start) / total))
        for at in {start, stop - 1, *rng.integers(start, stop, count).tolist()}:
            damaged = bytearray(int8)
            damaged[at] ^= 1 << rng.integers(8)
            # Two deflated streams may hold the same bytes (bits that fill up the end, a match one zero further back):
            # `survives` makes sure that then nothing else was read.
            if survives(bytes(damaged), original):
                assert name != "model.tflite", f"byte {at}"
                harmless += 1
    assert harmless <= 2 * len(places)


def test_mutations(int8: bytes) -> None:
    from test_tflite import mutations

    original = bundle.parse(int8)
    alive = 0
    for mutated in mutations(int8, 350, seed=3):
        alive += survives(mutated, original)
    # the zip's own structure: local headers, central directory and end
    rng = np.random.default_rng(4)
    places = sorted(spans(int8).values())
    gaps = [(a[1], b[0]) for a, b in zip(places, [*places[1:], (len(int8), 0)], strict=True)]
    structure = np.concatenate([np.arange(start, stop) for start, stop in gaps])
    for at in rng.choice(structure, 150):
        damaged = bytearray(int8)
        damaged[at] = rng.integers(256)
        alive += survives(bytes(damaged), original)
    assert alive < 150


def test_every_kind_of_cut(int8: bytes) -> None:
    original = bundle.parse(int8)
    edges = [edge for span in spans(int8).values() for edge in span]
    ends = {*range(40), *(e + d for e in edges for d in (-1, 0, 1)), *range(len(int8) - 40, len(int8))}
    ends |= set(np.random.default_rng(0).integers(0, len(int8), 200).tolist())
    for end in sorted(e for e in ends if 0 <= e < len(int8)):
        assert not survives(int8[:end], original), f"cut to {end} of {len(int8)} bytes"
        refused(int8[:end])
    for start in (1, 4, 16, 1000, len(original.flatbuffer)):
        refused(int8[start:])


@pytest.mark.parametrize("where", ["between", "behind"])
def test_nothing_may_be_inserted(int8: bytes, where: str) -> None:
    at = len(parts_of(int8)[0]) if where == "between" else len(int8)
    refused(int8[:at] + b"something else" + int8[at:])


def test_swapped_removed_and_added_parts(int8: bytes) -> None:
    flatbuffer, parts = parts_of(int8)
    for a in parts:
        for b in parts:
            if a < b and parts[a] != parts[b]:
                refused(assemble(flatbuffer, {**parts, a: parts[b], b: parts[a]}))
    for name in parts:
        refused(assemble(flatbuffer, {k: v for k, v in parts.items() if k != name}))
    refused(assemble(flatbuffer, {**parts, "golden/2/waveform.npy": b"x"}), "not listed")
    refused(assemble(flatbuffer, {**parts, "evil.py": b"x"}), "not listed")


def test_another_bundles_zip(bundles: dict[str, Path], int8: bytes) -> None:
    a, parts_a = parts_of(int8)
    b, parts_b = parts_of(bundles["float32"].read_bytes())
    refused(assemble(a, parts_b), "sha256|behind the model")
    refused(assemble(b, parts_a), "sha256|behind the model")


def test_another_order_or_compression_says_the_same(int8: bytes) -> None:
    flatbuffer, parts = parts_of(int8)
    original = bundle.parse(int8)
    for names in (sorted(parts), sorted(parts, reverse=True)):
        for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            assert same(
                bundle.parse(assemble(flatbuffer, {n: parts[n] for n in names}, compression=compression)), original
            )
    refused(assemble(flatbuffer, parts, compression=zipfile.ZIP_BZIP2), "oddly compressed")
    refused(assemble(flatbuffer, parts, compression=zipfile.ZIP_LZMA), "oddly compressed")


def test_golden_vectors_pass_in_another_order(int8: bytes) -> None:
    flatbuffer, parts = parts_of(int8)
    assert check_golden(bundle.parse(assemble(flatbuffer, {n: parts[n] for n in sorted(parts)}))).output_lsb == 0


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff", b"text", pickle.dumps([1, 2]),
        npy(np.array([{}]), allow_pickle=True),
        npy(np.zeros(100, np.int16))[:-1],
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999,), }"
        + b" " * 50 + b"\n",
    ],
)  # fmt: skip
def test_golden_vectors_that_are_none(int8: bytes, content: bytes) -> None:
    refused(relisted(int8, golden__0__waveform_npy=content), "golden/0/waveform.npy is damaged")


def test_golden_vectors_that_lack_something(int8: bytes) -> None:
    flatbuffer, parts = parts_of(int8)
    info = json.loads(parts["bundle.json"])
    for name in ("golden/0/waveform.npy", "golden/1/input.npy", "golden/1/features.npy"):
        less = {k: v for k, v in parts.items() if k != name}
        listed = {k: v for k, v in info["parts"].items() if k != name}
        less["bundle.json"] = json.dumps({**info, "parts": listed}).encode()
        refused(assemble(flatbuffer, less), rf"golden vector {name[7]} has no {name[9:-4]}")


def test_a_golden_vector_is_an_array(int8: bytes) -> None:
    file = io.BytesIO()
    np.savez(file, a=np.zeros(3))
    refused(relisted(int8, golden__0__waveform_npy=file.getvalue()), "golden")


@pytest.mark.parametrize(
    "part",
    [{"waveform": np.zeros(0, np.int16)}, {"waveform": np.zeros((2, 2))}, {"output-abc": np.zeros((1, 3), np.int8)}],
)
def test_golden_vectors_of_a_wrong_shape(int8: bytes, part: dict[str, np.ndarray]) -> None:
    ((name, array),) = part.items()
    with pytest.raises(BundleError):
        check_golden(bundle.parse(relisted(int8, **{f"golden__0__{name}_npy": npy(array)})))


def test_a_golden_output_of_no_number(int8: bytes) -> None:
    refused(relisted(int8, **{"golden__0__output-²_npy": npy(np.zeros((1, 3), np.int8))}), "golden")


def test_a_part_that_is_too_large(int8: bytes) -> None:
    flatbuffer, parts = parts_of(int8)
    bomb = assemble(flatbuffer, {**parts, "zeros": bytes(bundle.LARGEST_PART + 1)})
    assert len(bomb) < len(int8) + 100_000
    refused(bomb, "too large")


def test_many_parts_that_are_large(int8: bytes) -> None:
    flatbuffer, parts = parts_of(int8)
    bomb = assemble(flatbuffer, {**parts, **{f"zeros{i}": bytes(bundle.LARGEST_PART - 1) for i in range(6)}})
    tracemalloc.start()
    with pytest.raises(BundleError):
        bundle.parse(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * bundle.LARGEST_PART


def test_parsing_is_quick(int8: bytes) -> None:
    start = time.process_time()
    for _ in range(10):
        bundle.parse(int8)
    assert (time.process_time() - start) / 10 < 0.1
    assert isinstance(bundle.parse(int8).model, tflite.Model)
