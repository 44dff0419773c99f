"""The WAV reader and writer: against soundfile, against hand-made files, against garbage."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_runtime.errors import AudioError, ConfigError
from edge_runtime.wav import read_blocks, read_info, read_wav, write_wav

FORMATS = {"pcm8": 8, "pcm16": 16, "pcm24": 24, "pcm32": 32, "float32": 32, "float64": 64}
SUBTYPES = {
    "pcm8": "PCM_U8",
    "pcm16": "PCM_16",
    "pcm24": "PCM_24",
    "pcm32": "PCM_32",
    "float32": "FLOAT",
    "float64": "DOUBLE",
}
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")


def chunk(name: bytes, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return name + struct.pack("<I", size) + body + b"\0" * (len(body) % 2)


def fmt(tag: int = 1, channels: int = 1, rate: int = 16000, bits: int = 16, **over: int) -> bytes:
    frame = over.get("frame", channels * bits // 8)
    return struct.pack("<HHIIHH", tag, channels, rate, rate * frame % 2**32, frame, bits)


def riff(*chunks: bytes, kind: bytes = b"RIFF", size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return kind + struct.pack("<I", len(body) if size is None else size) + body


def noise(frames: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (frames, channels))


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wav") / "case.wav"


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# --- against soundfile ------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("name", FORMATS)
def test_reads_what_soundfile_writes(
    tmp_path: Path, name: str, channels: int, container: str
) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "a.wav"
    samples = noise(1001, channels)
    soundfile.write(path, samples, 22050, format=container, subtype=SUBTYPES[name])
    expected, _ = soundfile.read(path, dtype="float32", always_2d=True)
    found, rate = read_wav(path)
    info = read_info(path)
    assert (rate, info.sample_rate, info.channels, info.frames) == (22050, 22050, channels, 1001)
    assert info.sample_format == name
    assert info.bytes_per_frame == channels * FORMATS[name] // 8
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", FORMATS)
def test_soundfile_reads_what_we_write(tmp_path: Path, name: str, channels: int) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "a.wav"
    write_wav(path, noise(1001, channels), 48000, sample_format=name)
    header = soundfile.info(path)
    assert (header.subtype, header.channels, header.frames) == (SUBTYPES[name], channels, 1001)
    expected, rate = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate == 48000
    np.testing.assert_array_equal(read_wav(path)[0], expected)


# --- round trips ------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    samples=arrays(np.float64, st.tuples(st.integers(0, 40), st.integers(1, 3)),
                   elements=st.floats(-1, 1)),
    name=st.sampled_from(sorted(FORMATS)),
)  # fmt: skip
def test_round_trip_within_half_a_step(scratch: Path, samples: np.ndarray, name: str) -> None:
    write_wav(scratch, samples, 8000, sample_format=name)
    found, rate = read_wav(scratch)
    assert rate == 8000 and found.shape == samples.shape
    assert scratch.stat().st_size % 2 == 0
    assert struct.unpack("<I", scratch.read_bytes()[4:8])[0] == scratch.stat().st_size - 8
    if name.startswith("float"):
        np.testing.assert_array_equal(found, samples.astype(np.float32))
        return
    step = 2.0 ** (1 - FORMATS[name])
    # +1 itself does not exist in PCM; float32 adds its own half step of 2**-25 below 1.
    expected = np.minimum(samples, 1 - step)
    assert np.all(np.abs(found - expected) <= step / 2 + 2.0**-25)


@pytest.mark.parametrize("name", ["pcm8", "pcm16", "pcm24"])
def test_integers_survive(tmp_path: Path, name: str) -> None:
    full = 2 ** (FORMATS[name] - 1)
    samples = (np.arange(-full, full, max(1, full // 2**15 - 1)) / full).astype(np.float32)
    write_wav(tmp_path / "a.wav", samples, 16000, sample_format=name)
    found, _ = read_wav(tmp_path / "a.wav")
    np.testing.assert_array_equal(found[:, 0], samples)


def test_loud_samples_are_clipped(tmp_path: Path) -> None:
    for name in ("pcm8", "pcm16", "pcm24", "pcm32"):
        write_wav(tmp_path / "a.wav", np.array([-9.0, 9.0, 1.0]), 16000, sample_format=name)
        found = read_wav(tmp_path / "a.wav")[0][:, 0]
        top = np.float32(1 - 2.0 ** (1 - FORMATS[name]))
        assert found.tolist() == [-1.0, top, top]


@settings(max_examples=40, deadline=None)
@given(block_frames=st.integers(1, 300), name=st.sampled_from(sorted(FORMATS)))
def test_blocks_are_the_whole(scratch: Path, block_frames: int, name: str) -> None:
    write_wav(scratch, noise(257, 2), 16000, sample_format=name)
    blocks = list(read_blocks(scratch, block_frames=block_frames))
    assert all(len(block) == block_frames for block in blocks[:-1])
    np.testing.assert_array_equal(np.concatenate(blocks), read_wav(scratch)[0])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
def test_16_bits_as_they_are(tmp_path: Path, name: str, channels: int) -> None:
    write_wav(tmp_path / "a.wav", noise(257, channels), 16000, sample_format=name)
    found = np.concatenate(list(read_blocks(tmp_path / "a.wav", block_frames=100, integers=True)))
    assert found.dtype == (np.int16 if (name, channels) == ("pcm16", 1) else np.float32)
    wide = found / np.float32(32768) if found.dtype == np.int16 else found
    np.testing.assert_array_equal(wide, read_wav(tmp_path / "a.wav")[0])


def test_blocks_take_constant_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    length = 200_000_000  # a sparse file
    path.write_bytes(riff(chunk(b"fmt ", fmt()), chunk(b"data", b"", length), size=length + 36))
    os.truncate(path, 44 + length)
    assert read_info(path).frames == length // 2
    blocks = read_blocks(path)
    next(blocks)
    tracemalloc.start()
    for _ in range(20):
        next(blocks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    blocks.close()  # type: ignore[attr-defined]
    assert peak < 4_000_000


# --- what recorders write ---------------------------------------------------------------------

PCM = np.array([1, -2, 3, -4], "<i2").tobytes()


@pytest.mark.parametrize(
    "content",
    [
        riff(chunk(b"fmt ", fmt()), chunk(b"data", PCM)),
        riff(chunk(b"LIST", b"odd"), chunk(b"fmt ", fmt()), chunk(b"data", PCM)),
        riff(chunk(b"fmt ", fmt() + b"\0\0"), chunk(b"fact", b"abcd"), chunk(b"data", PCM)),
        riff(chunk(b"fmt ", fmt()), chunk(b"data", PCM), chunk(b"LIST", b"after")),
        riff(chunk(b"fmt ", fmt()), chunk(b"data", PCM, 0), size=0),
        riff(chunk(b"fmt ", fmt()), chunk(b"data", PCM, 0), size=36),
        riff(chunk(b"fmt ", fmt()), chunk(b"data", PCM, 0xFFFFFFFF), size=0xFFFFFFFF),
        riff(chunk(b"fmt ", fmt()), chunk(b"data", PCM + b"\1", 0xFFFFFFFF), size=0xFFFFFFFF)[:-1],
        riff(chunk(b"fmt ", fmt(0xFFFE) + struct.pack("<HHIH", 22, 16, 4, 1) + GUID_TAIL),
             chunk(b"data", PCM)),
        riff(chunk(b"ds64", struct.pack("<QQQI", 80, 8, 4, 0)), chunk(b"fmt ", fmt()),
             chunk(b"data", PCM, 0xFFFFFFFF), kind=b"RF64", size=0xFFFFFFFF) + b"junk",
        riff(chunk(b"ds64", struct.pack("<QQQI", 2**64 - 1, 2**64 - 1, 0, 0)),
             chunk(b"fmt ", fmt()), chunk(b"data", PCM, 0xFFFFFFFF), kind=b"RF64"),
    ],
    ids=["plain", "odd chunk", "fact", "chunk after", "size 0", "size 0, RIFF 36", "size -1",
         "cut frame", "extensible", "RF64", "RF64 streamed"],
)  # fmt: skip
def test_variants_of_the_header(tmp_path: Path, content: bytes) -> None:
    samples, rate = read_wav(put(tmp_path / "a.wav", content))
    assert rate == 16000
    np.testing.assert_array_equal(samples * 32768, [[1], [-2], [3], [-4]])


def test_an_empty_recording_is_no_stream(tmp_path: Path) -> None:
    content = riff(chunk(b"fmt ", fmt()), chunk(b"data", b""), chunk(b"LIST", b"words"))
    path = put(tmp_path / "a.wav", content)
    assert read_info(path).frames == 0
    assert read_wav(path)[0].shape == (0, 1)


# --- what is refused --------------------------------------------------------------------------

BAD = {
    "not RIFF": (b"OggS" + bytes(40), "not a RIFF/WAVE file"),
    "AVI": (riff(chunk(b"fmt ", fmt())).replace(b"WAVE", b"AVI "), "not a RIFF/WAVE file"),
    "short": (b"RIFF\0\0", "not a RIFF/WAVE file"),
    "no data": (riff(chunk(b"fmt ", fmt())), "no data chunk"),
    "cut header": (riff(chunk(b"fmt ", fmt()), chunk(b"data", PCM))[:30], "no data chunk"),
    "cut fmt": (riff(chunk(b"fmt ", fmt()[:14]), chunk(b"data", PCM)), "fmt chunk has 14 of 16"),
    "no fmt": (riff(chunk(b"data", PCM)), "fmt chunk has 0 of 16"),
    "truncated": (
        riff(chunk(b"fmt ", fmt()), chunk(b"data", PCM, 1000)),
        "promises 1000 bytes and 8 are",
    ),
    "truncated RF64": (
        riff(
            chunk(b"ds64", struct.pack("<QQQ", 0, 2**50, 0)),
            chunk(b"fmt ", fmt()),
            chunk(b"data", PCM, 0xFFFFFFFF),
            kind=b"RF64",
        ),
        f"promises {2**50} bytes and 8 are",
    ),
    "no channels": (riff(chunk(b"fmt ", fmt(channels=0)), chunk(b"data", PCM)), "0 channels at"),
    "no rate": (riff(chunk(b"fmt ", fmt(rate=0)), chunk(b"data", PCM)), "at 0 Hz"),
    "mu-law": (riff(chunk(b"fmt ", fmt(7, bits=8)), chunk(b"data", PCM)), r"0x0007, mu-law"),
    "strange": (riff(chunk(b"fmt ", fmt(0x1234)), chunk(b"data", PCM)), "0x1234, unknown"),
    "other GUID": (
        riff(chunk(b"fmt ", fmt(0xFFFE) + bytes(24)), chunk(b"data", PCM)),
        "0xfffe, unknown",
    ),
    "extensible mu-law": (
        riff(chunk(b"fmt ", fmt(0xFFFE) + bytes(8) + b"\7\0" + GUID_TAIL), chunk(b"data", PCM)),
        "0x0007, mu-law",
    ),
    "12 bit": (riff(chunk(b"fmt ", fmt(bits=12, frame=2)), chunk(b"data", PCM)), "12 bit"),
    "frame": (riff(chunk(b"fmt ", fmt(frame=3)), chunk(b"data", PCM)), "3 bytes per frame"),
    "zeros": (riff(bytes(70_000)), "no data chunk among its first"),
    "empty": (b"", "empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_say_what_is_wrong(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    path = put(tmp_path / "a.wav", content)
    for read in (read_info, read_wav, lambda p: list(read_blocks(p))):
        with pytest.raises(AudioError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_not_finite_names_the_frame(tmp_path: Path, name: str, value: float) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, noise(70_000, 2), 16000, sample_format=name)
    content = bytearray(path.read_bytes())
    kind = "<f4" if name == "float32" else "<f8"
    data = np.frombuffer(content, kind, offset=read_info(path).data_offset).reshape(-1, 2)
    data[69_000:, 1] = value
    put(path, bytes(content))
    with pytest.raises(AudioError, match="at frame 69000, channel 1"):
        read_wav(path)
    with pytest.raises(AudioError, match="at frame 69000, channel 1"):
        list(read_blocks(path, block_frames=1000))


def test_a_double_beyond_float32_is_refused(tmp_path: Path) -> None:
    data = np.array([0.5, 1e300]).tobytes()
    path = put(tmp_path / "a.wav", riff(chunk(b"fmt ", fmt(3, bits=64)), chunk(b"data", data)))
    with pytest.raises(AudioError, match="at frame 1"):
        read_wav(path)


def test_missing_and_directory(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="No such file"):
        read_wav(tmp_path / "none.wav")
    with pytest.raises(AudioError, match="is a directory"):
        read_info(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AudioError, match="pipe"):
        read_info(tmp_path / "pipe")


def test_a_failing_disk_is_an_audio_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "a.wav", riff(chunk(b"fmt ", fmt()), chunk(b"data", PCM)))

    def broken(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("edge_runtime.wav._parse", broken)
    with pytest.raises(AudioError, match="Input/output error"):
        read_info(path)


def test_block_frames_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="block_frames is 0"):
        next(read_blocks(tmp_path / "a.wav", block_frames=0))


# --- writing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "rate", "name", "error", "message"),
    [
        (np.zeros((2, 2, 2)), 16000, "pcm16", ConfigError, r"shape \(2, 2, 2\)"),
        (np.zeros((2, 0)), 16000, "pcm16", ConfigError, r"shape \(2, 0\)"),
        (np.zeros(2, np.int16), 16000, "pcm16", ConfigError, "int16"),
        (np.zeros(2), 0, "pcm16", ConfigError, "0 Hz"),
        (np.zeros(2), 2**33, "pcm16", ConfigError, "Hz"),
        (np.zeros(2), 16000, "pcm12", ConfigError, "'pcm12' is not one of"),
        (np.array([0, np.nan]), 16000, "pcm16", AudioError, "nan at frame 1"),
        (np.array([0, 1e300]), 16000, "float32", AudioError, "frame 1"),
    ],
)
def test_what_cannot_be_written(
    tmp_path: Path, samples: Any, rate: int, name: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        write_wav(tmp_path / "a.wav", samples, rate, sample_format=name)
    assert not list(tmp_path.iterdir())


def test_writing_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "a.wav", b"old")
    synced = []

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(AudioError, match="No space left on device"):
        write_wav(path, np.zeros(5), 16000)
    assert synced and path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    write_wav(path, np.zeros(5), 16000)
    assert read_info(path).frames == 5
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(AudioError, match="cannot be written"):
        write_wav(tmp_path / "none" / "a.wav", np.zeros(5), 16000)


# --- garbage ----------------------------------------------------------------------------------


def read_or_refuse(path: Path) -> None:
    try:
        samples, _ = read_wav(path)
        assert np.isfinite(samples).all()
    except AudioError as error:
        assert str(path) in str(error) and "\n" not in str(error)


def test_mutated_headers_are_refused_or_read(scratch: Path) -> None:
    random = np.random.default_rng(7)
    seeds = []
    for name in FORMATS:
        write_wav(scratch, noise(50, 2), 16000, sample_format=name)
        seeds.append(scratch.read_bytes())
    seeds.append(
        riff(
            chunk(b"ds64", struct.pack("<QQQI", 80, 8, 4, 0)),
            chunk(b"fmt ", fmt(0xFFFE) + struct.pack("<HHIH", 22, 16, 4, 1) + GUID_TAIL),
            chunk(b"data", PCM, 0xFFFFFFFF),
            kind=b"RF64",
        )
    )
    edges = np.array([0, 1, 2, 3, 0x7F, 0x80, 0xFE, 0xFF])
    tracemalloc.start()
    slowest = 0.0
    for case in range(2000):
        content = bytearray(seeds[case % len(seeds)])
        for _ in range(random.integers(1, 6)):
            value = random.choice(edges) if random.random() < 0.5 else random.integers(256)
            content[random.integers(4, min(len(content), 84))] = value
        if random.random() < 0.2:
            del content[random.integers(len(content)) :]
        put(scratch, bytes(content))
        start = time.process_time()  # of this process: other load does not count
        read_or_refuse(scratch)
        slowest = max(slowest, time.process_time() - start)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert slowest < 0.5
    assert peak < 2_000_000


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200), start=st.sampled_from(
    [b"", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + fmt() + b"data"]))  # fmt: skip
def test_random_bytes_are_refused_or_read(scratch: Path, content: bytes, start: bytes) -> None:
    read_or_refuse(put(scratch, start + content))
