"""Loading, streaming and describing recordings, and refusing what is none."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime import audio
from edge_runtime.errors import AudioError, ConfigError
from edge_runtime.resample import resample
from edge_runtime.wav import write_wav

OTHERS = [
    ("FLAC", "PCM_16", 1e-4),
    ("OGG", "VORBIS", 0.1),
    ("MP3", "MPEG_LAYER_III", 0.1),
    ("AIFF", "PCM_16", 1e-4),
    ("AU", "PCM_16", 1e-4),
    ("CAF", "PCM_16", 1e-4),
]
MAGIC = {
    "FLAC": b"fLaC" + bytes(40),
    "OGG": b"OggS" + bytes(40),
    "MP3": b"ID3\4" + bytes(40),
    "AIFF": b"FORM" + bytes(40),
    "MP4": b"\0\0\0\x20ftypM4A " + bytes(40),
}


def tone(rate: int, seconds: float = 1.0, channels: int = 1) -> np.ndarray:
    time = np.arange(round(rate * seconds)) / rate
    left = 0.4 * np.sin(2 * np.pi * 440 * time)
    return left if channels == 1 else np.stack([left, 0.2 * np.cos(2 * np.pi * 300 * time)], axis=1)


def refused(path: Path, message: str) -> None:
    """`load` and `stream` refuse the file in one line that names it."""
    for read in (audio.load, lambda p: list(audio.stream(p))):
        with pytest.raises(AudioError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


# --- formats ----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("kind", "subtype", "tolerance"), OTHERS)
def test_other_formats_whatever_their_name(
    tmp_path: Path, kind: str, subtype: str, tolerance: float, channels: int
) -> None:
    soundfile = pytest.importorskip("soundfile")
    if kind not in soundfile.available_formats():
        pytest.skip(f"this libsndfile has no {kind}")
    samples = tone(44100, channels=channels)
    expected = samples if channels == 1 else samples.mean(axis=1)
    soundfile.write(tmp_path / "a", samples, 44100, format=kind, subtype=subtype)
    for name in ("a", "a.wav", "a.raw", "a.txt"):  # a wrong extension is not believed
        path = (tmp_path / "a").rename(tmp_path / name)
        found = audio.load(path, sample_rate=44100)
        assert found.dtype == np.float32 and found.shape == (44100,)
        assert np.max(np.abs(found - expected)) < tolerance
        assert audio.info(path) == audio.AudioInfo(44100, channels, 44100, 1.0, f"{kind} {subtype}")
        path.rename(tmp_path / "a")


def test_wav_needs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    monkeypatch.setitem(sys.modules, "soxr", None)
    path = tmp_path / "a.flac"  # it is a WAV all the same
    samples = tone(48000, channels=2)
    write_wav(path, samples, 48000, sample_format="float32")
    expected = resample(samples.mean(axis=1), 48000, 16000, engine="numpy")
    np.testing.assert_allclose(audio.load(path), expected, atol=1e-6)
    assert audio.info(path) == audio.AudioInfo(48000, 2, 48000, 1.0, "WAV float32")


@pytest.mark.parametrize("kind", MAGIC)
def test_without_soundfile_the_format_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    path = tmp_path / "a.wav"
    path.write_bytes(MAGIC[kind])
    refused(path, f"format {kind} needs soundfile.*pip install soundfile")
    with pytest.raises(AudioError, match="pip install soundfile"):
        audio.info(path)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xfb\x90\0", "MP3"),
        (b"\xff\xf1\x50\x80", r"unknown \(first bytes"),  # AAC
        (b"just text", r"unknown \(first bytes b'just'\)"),
        (b"x", r"unknown \(first bytes b'x'\)"),
    ],
)
def test_undecodable(tmp_path: Path, head: bytes, kind: str) -> None:
    pytest.importorskip("soundfile")
    path = tmp_path / "a.ogg"
    path.write_bytes(head)
    refused(path, f"format {kind}.* cannot be decoded")


def test_cut_off_flac(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, 100_000), 16000)
    path.write_bytes(path.read_bytes()[:100_000])
    refused(path, "format FLAC cannot be decoded")


def test_flac_of_unknown_length(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(16000), 16000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of STREAMINFO that count the samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    refused(path, "does not say how long it is")


# --- rates, channels, pieces ------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("wanted", [16000, 8000])
def test_any_rate(tmp_path: Path, rate: int, wanted: int) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, tone(rate), rate)
    found = audio.load(path, sample_rate=wanted)
    assert found.shape == (wanted,)
    assert np.max(np.abs(found - tone(wanted))[500:-500]) < 1e-3


@settings(max_examples=40, deadline=None)
@given(
    rate=st.sampled_from([8000, 16000, 44100, 48000]),
    n=st.integers(1, 9000),
    block_s=st.floats(1 / 16000, 0.7),
)
def test_stream_is_the_numpy_engine(scratch: Path, rate: int, n: int, block_s: float) -> None:
    samples = np.random.default_rng(n).uniform(-1, 1, (n, 2))
    write_wav(scratch, samples, rate, sample_format="float32")
    blocks = list(audio.stream(scratch, block_s=max(block_s, 0.005)))
    size = max(1, round(max(block_s, 0.005) * 16000))
    mono = audio.downmix(samples.astype(np.float32))
    assert all(len(block) == size for block in blocks[:-1]) and 0 < len(blocks[-1]) <= size
    expected = resample(mono, rate, 16000, engine="numpy")
    assert np.concatenate(blocks).tobytes() == expected.tobytes()


@pytest.mark.parametrize("rate", [16000, 8000])
@pytest.mark.parametrize("channels", [1, 2])
def test_pieces_of_16_bits(tmp_path: Path, rate: int, channels: int) -> None:
    """One channel at the wanted rate comes as it lies in the file, all else as `load` has it."""
    samples = np.random.default_rng(rate).uniform(-1, 1, (300_000, channels))
    write_wav(tmp_path / "a.wav", samples, rate)
    found = np.concatenate(list(audio.pieces(tmp_path / "a.wav", sample_rate=16000)))
    assert found.dtype == (np.int16 if (rate, channels) == (16000, 1) else np.float32)
    wide = found / np.float32(32768) if found.dtype == np.int16 else found
    np.testing.assert_array_equal(wide, np.concatenate(list(audio.stream(tmp_path / "a.wav", sample_rate=16000))))


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audio") / "case.wav"


@pytest.mark.parametrize("kind", ["FLAC", "OGG"])
def test_stream_of_other_formats(tmp_path: Path, kind: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "a"
    soundfile.write(path, tone(44100, 7.0, 2), 44100, format=kind)
    mono = audio.load(path, sample_rate=44100)
    blocks = list(audio.stream(path, sample_rate=16000))
    assert [len(block) for block in blocks] == [16000] * 7
    expected = resample(mono, 44100, 16000, engine="numpy")
    np.testing.assert_array_equal(np.concatenate(blocks), expected)


def test_stream_takes_constant_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, np.zeros((48000 * 40, 2), np.float32), 48000)
    next(audio.stream(path))  # the filter is made once
    tracemalloc.start()
    total = sum(len(block) for block in audio.stream(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 16000 * 40
    assert peak < 8_000_000  # the samples are 15 MB as float32


def test_downmix() -> None:
    x = np.array([[1.0, -0.5, 0.1], [0.2, 0.2, 0.2]], np.float32)
    np.testing.assert_allclose(audio.downmix(x), [0.2, 0.2], atol=1e-7)
    np.testing.assert_array_equal(audio.downmix(x[:, :1]), x[:, 0])
    assert np.isfinite(audio.downmix(np.full((1, 2), 3e38, np.float32))).all()


# --- what is refused --------------------------------------------------------------------------


def test_missing_directory_empty(tmp_path: Path) -> None:
    refused(tmp_path / "none.wav", "No such file")
    refused(tmp_path, "is a directory")
    (tmp_path / "a.wav").touch()
    refused(tmp_path / "a.wav", "empty")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "a.wav"
    write_wav(path, tone(16000), 16000)
    # Not by the file's mode, because these tests may run as root.
    monkeypatch.setattr("edge_runtime.wav.open", deny, raising=False)
    refused(path, "Permission denied.*permissions")


def test_no_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, np.zeros(0), 16000)
    assert audio.info(path).frames == 0
    refused(path, "0 frames")
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "b.aiff", np.zeros(0), 16000, format="AIFF")
    refused(tmp_path / "b.aiff", "0 frames")


@pytest.mark.parametrize("kind", ["WAV", "AIFF"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_not_finite(tmp_path: Path, kind: str, value: float) -> None:
    soundfile = pytest.importorskip("soundfile")
    samples = tone(16000, 20.0, 2)
    samples[300_000, 1] = value
    soundfile.write(tmp_path / "a", samples, 16000, format=kind, subtype="FLOAT")
    refused(tmp_path / "a", "at frame 300000, channel 1")


def test_numbers_that_were_never_sound(tmp_path: Path) -> None:
    samples = tone(48000)
    samples[40_000] = 3e38
    write_wav(tmp_path / "a.wav", samples, 48000, sample_format="float32")
    refused(tmp_path / "a.wav", r"3e\+38 at frame 40000, full scale is 1")


@pytest.mark.parametrize("rate", [10, 999, 2**32 - 5])
def test_absurd_rate_in_the_header(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, tone(16000), 16000)
    content = bytearray(path.read_bytes())
    content[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(content)
    refused(path, f"its header says {rate} Hz")


def test_arguments(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, tone(16000), 16000)
    for rate in (0, -16000, 16000.0, "16000"):
        with pytest.raises(ConfigError, match="sample rate"):
            audio.load(path, sample_rate=rate)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="sample rate"):
            audio.stream(path, sample_rate=rate)  # type: ignore[arg-type]
    for block_s in (0.0, -1.0, float("nan"), float("inf"), 1e-9):
        with pytest.raises(ConfigError, match="block_s"):
            audio.stream(path, block_s=block_s)


def test_damaged_files_are_refused_or_read(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    random = np.random.default_rng(3)
    path = tmp_path / "case"
    seeds = []
    for kind in ("WAV", "FLAC", "OGG", "AIFF"):
        soundfile.write(path, tone(8000, 0.1, 2), 8000, format=kind)
        seeds.append(path.read_bytes())
    for case in range(400):
        content = bytearray(seeds[case % len(seeds)])
        for _ in range(random.integers(1, 5)):
            content[random.integers(min(len(content), 120))] = random.integers(256)
        path.write_bytes(content[: random.integers(1, len(content)) if case % 3 == 0 else None])
        try:
            assert np.isfinite(audio.load(path, sample_rate=8000)).all()
        except AudioError as error:
            assert str(path) in str(error) and "\n" not in str(error)


def test_import_is_cheap() -> None:
    heavy = "{'soundfile', 'soxr', 'scipy'}"
    code = f"import sys, edge_runtime.audio; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
