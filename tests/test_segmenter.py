"""A stream gives what the whole recording gives, frame by frame and to the bit; what is unsure or lost is said."""

from __future__ import annotations

import json
import threading
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime import AudioError, BundleError, ConfigError, FrontEnd, InterpreterError, audio
from edge_runtime.bundle import Bundle, parse, read
from edge_runtime.decisions import UNKNOWN, Segmentation, read_segmentation
from edge_runtime.dense import DenseNetwork, pooled
from edge_runtime.dense_stream import DenseStream
from edge_runtime.level import levels_dbfs
from edge_runtime.segmenter import Frames, Segmenter
from edge_runtime.segments import Segment, segments
from edge_runtime.sequence import Gap, SequenceCheck
from edge_runtime.smoothing import Smoothing
from edge_runtime.wav import write_wav

RATE = 16000
NAMES = ("swishnet-slim-int8", "swishnet-slim-float32")
BUNDLES = {name: read(name) for name in NAMES}
#: settings in which every step has something to do
BUSY = Segmentation(
    Smoothing(
        pool=20, delay=30, median=41, enter=0.6, leave=0.3, minimum_s={"speech": 0.3, "noise": 0.5},
        silence_dbfs=-50.0, minimum_silence_s=0.2,
    ),
    temperature=1.5,
    unknown_below=0.6,
)  # fmt: skip


@lru_cache
def recording(seed: int, seconds: float = 12.0) -> np.ndarray:
    """Speech, silence, music and noise in turn."""
    rng = np.random.default_rng(seed)
    parts = []
    while sum(map(len, parts)) < seconds * RATE:
        make = [helpers.speech, helpers.music, helpers.noise][rng.integers(3)]
        parts.append(make(rng.uniform(0.4, 3), int(rng.integers(1000))))
        parts.append(np.full(rng.integers(0, RATE // 2), 1e-5, np.float32))
    return np.concatenate(parts)[: round(seconds * RATE)]


@lru_cache
def whole_logits(name: str, seed: int) -> np.ndarray:
    """Logits of a whole recording by the front end and the network, without any stream."""
    return DenseNetwork(BUNDLES[name]).logits(FrontEnd(BUNDLES[name].front_end)(recording(seed)))


def cut(x: np.ndarray, lengths: list[int]) -> list[np.ndarray]:
    """Cut into pieces of these lengths, over and over."""
    pieces, at, number = [], 0, 0
    while at < len(x):
        pieces.append(x[at : at + lengths[number % len(lengths)]])
        at, number = at + lengths[number % len(lengths)], number + 1
    return pieces


LENGTHS = st.lists(
    st.one_of(st.integers(40, 700), st.integers(400, 20_000), st.integers(20_000, 60 * RATE)), min_size=1, max_size=8
)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=8, deadline=None)
@given(lengths=LENGTHS, hop=st.integers(1, 512), seed=st.integers(0, 3))
def test_answers_of_a_stream_are_those_of_the_whole(name: str, lengths: list[int], hop: int, seed: int) -> None:
    x = recording(seed)
    stream = DenseStream(BUNDLES[name], decision_hop=hop)
    parts = [stream.push(piece) for piece in cut(x, lengths)]
    parts.append(stream.finish())
    logits = whole_logits(name, seed)
    np.testing.assert_array_equal(np.concatenate([p.logits for p in parts]), logits)
    np.testing.assert_array_equal(np.concatenate([p.dbfs for p in parts]), levels_dbfs(x, 160)[: len(logits)])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=8, deadline=None)
@given(lengths=LENGTHS, hop_s=st.sampled_from([0.01, 0.1, 0.37, 5.12]), seed=st.integers(0, 3), busy=st.booleans())
def test_segments_of_a_stream_are_those_of_the_whole(
    name: str, lengths: list[int], hop_s: float, seed: int, busy: bool
) -> None:
    bundle, x = BUNDLES[name], recording(seed)
    chosen = BUSY if busy else Segmentation()
    seen: list[Frames] = []
    with Segmenter(bundle, settings=chosen, decision_hop_s=hop_s, watch=seen.append) as segmenter:
        got: list[Segment] = []
        for piece in cut(x, lengths):
            got += segmenter.push(piece)
        got += segmenter.finish()
        streamed = np.concatenate([f.probabilities for f in seen])
        assert tuple(got) == segmenter.segment(x)
    p = pooled(whole_logits(name, seed) / np.float32(chosen.temperature), chosen.smoothing.pool)
    np.testing.assert_array_equal(streamed, p)
    if not chosen.unknown_below:
        whole = segments(p, bundle.classes, chosen.smoothing, dbfs=levels_dbfs(x, 160)[: len(p)])
        assert [(s.start_s, s.label, s.confidence) for s in got] == [
            (s.start_s, s.label, s.confidence) for s in whole
        ]
    assert got[0].start_s == 0 and got[-1].end_s == pytest.approx(len(x) / RATE, abs=1e-6)
    assert all(a.end_s == b.start_s for a, b in pairwise(got))


@pytest.mark.parametrize("name", NAMES)
def test_sample_by_sample(name: str) -> None:
    x = (recording(5, 0.7) * 32767).astype(np.int16)
    with Segmenter(BUNDLES[name], settings=BUSY) as segmenter:
        got = [s for i in range(len(x)) for s in segmenter.push(x[i : i + 1])]
        assert (*got, *segmenter.finish()) == segmenter.segment(x)


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_that_begins_in_the_middle(name: str) -> None:
    x = recording(7, 18.0)
    whole = DenseStream(BUNDLES[name])
    parts = [whole.push(x), whole.finish()]
    logits, dbfs = (np.concatenate([getattr(p, k) for p in parts]) for k in ("logits", "dbfs"))
    for first in (512, 1024):
        stream = DenseStream(BUNDLES[name], first=first)
        for _ in range(2):  # again after finish
            pieces = [stream.push(x[stream.first_sample :][:30_001]), stream.push(x[stream.first_sample + 30_001 :])]
            pieces.append(stream.finish())
            np.testing.assert_array_equal(np.concatenate([p.logits for p in pieces]), logits[first:])
            np.testing.assert_array_equal(np.concatenate([p.dbfs for p in pieces]), dbfs[first:])
    with pytest.raises(ConfigError, match="cannot begin at frame 100"):
        DenseStream(BUNDLES[name], first=100)


def test_reset_and_re_use() -> None:
    a, b = recording(1, 4.0), recording(2, 5.0)
    with Segmenter(BUNDLES[NAMES[0]], settings=BUSY) as segmenter:
        expected = segmenter.segment(b)
        segmenter.push(a)
        with pytest.raises(ConfigError, match="a stream is open"):
            segmenter.segment(b)
        segmenter.reset()
        assert segmenter.now is None
        assert segmenter.segment(b) == expected
        segmenter.push(a)
        segmenter.finish()
        assert (*segmenter.push(b), *segmenter.finish()) == expected


def test_a_bad_chunk_leaves_the_stream_as_it_was() -> None:
    x = recording(3, 4.0)
    with Segmenter(BUNDLES[NAMES[0]], settings=BUSY) as segmenter:
        expected = segmenter.segment(x)
        got = list(segmenter.push(x[:30_000]))
        with pytest.raises(AudioError, match="sample 30001 is nan"):
            segmenter.push(np.array([0, np.nan], np.float32))
        with pytest.raises(AudioError, match="shape"):
            segmenter.push(np.zeros((10, 2), np.float32))
        got += segmenter.push(x[30_000:])
        assert (*got, *segmenter.finish()) == expected


def test_streams_in_threads() -> None:
    recordings = [recording(seed, 6.0) for seed in range(4)]
    bundle = BUNDLES[NAMES[0]]
    with Segmenter(bundle) as segmenter:
        expected = [segmenter.segment(x) for x in recordings]
    found: dict[int, tuple[Segment, ...]] = {}

    def work(number: int) -> None:
        with Segmenter(bundle) as own:
            got = [s for piece in cut(recordings[number], [1600, 777]) for s in own.push(piece)]
            found[number] = (*got, *own.finish())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(recordings))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(len(recordings))] == expected
    shared: dict[int, tuple[Segment, ...]] = {}
    with Segmenter(bundle) as segmenter:  # calls to one object wait for one another
        threads = [
            threading.Thread(target=lambda i=i: shared.update({i: segmenter.segment(recordings[i])})) for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [shared[i] for i in range(len(recordings))] == expected


@pytest.mark.parametrize("hop_s", [0.01, 0.1, 0.25])
@pytest.mark.parametrize("smoothing", [Smoothing(median=1), BUSY.smoothing])
def test_a_label_is_known_after_the_look_ahead(hop_s: float, smoothing: Smoothing) -> None:
    with Segmenter(BUNDLES[NAMES[0]], settings=Segmentation(smoothing), decision_hop_s=hop_s) as segmenter:
        x = recording(4, 4.0)
        ahead = segmenter.look_ahead_s
        closest = np.inf
        for i in range(0, len(x), 80):
            segmenter.push(x[i : i + 80])
            heard = (i + 80) / RATE
            if heard >= ahead:
                assert segmenter.now is not None
                closest = min(closest, segmenter.now.at_s - (heard - ahead))
        assert closest > -1e-9
        if not smoothing.minimum_s:  # and it is no more than needed
            assert closest <= 0.0101


def test_a_file_is_read_in_blocks(tmp_path: Path) -> None:
    x = recording(6, 45.0)
    write_wav(tmp_path / "a.wav", x, RATE)
    steps: list[tuple[float, float]] = []
    with Segmenter(BUNDLES[NAMES[0]]) as segmenter:
        found = segmenter.segment_file(tmp_path / "a.wav", progress=lambda *s: steps.append(s))
        assert found == segmenter.segment(audio.load(tmp_path / "a.wav"))
        write_wav(tmp_path / "short.wav", x[:399], RATE)
        with pytest.raises(AudioError, match=r"short\.wav: has 399 samples, at least 400"):
            segmenter.segment_file(tmp_path / "short.wav")
        assert segmenter.segment_file(tmp_path / "a.wav") == found
    assert [s[0] for s in steps] == [20.0, 40.0, 45.0] and {s[1] for s in steps} == {45.0}


def test_unknown_and_temperature() -> None:
    x = recording(8, 10.0)
    plain = Smoothing(delay=20, median=31)
    bundle = BUNDLES[NAMES[0]]

    def found(**options: Any) -> tuple[Segment, ...]:
        with Segmenter(bundle, settings=Segmentation(plain, **options)) as segmenter:
            return segmenter.segment(x)

    sure, flat = found(), found(temperature=50.0)
    assert max(s.confidence for s in flat) < 0.45 < max(s.confidence for s in sure)
    limit = float(np.median([s.confidence for s in sure]))
    judged = found(unknown_below=limit)
    assert {s.label for s in judged} > {UNKNOWN}
    assert all(a.label != UNKNOWN or b.label != UNKNOWN for a, b in pairwise(judged))
    doubtful = sum(s.end_s - s.start_s for s in sure if s.confidence < limit)
    assert sum(s.end_s - s.start_s for s in judged if s.label == UNKNOWN) == pytest.approx(doubtful)
    assert [s for s in judged if s.label != UNKNOWN] == [s for s in sure if s.confidence >= limit]


def test_gaps_are_reported() -> None:
    heard: list[Gap] = []
    with Segmenter(BUNDLES[NAMES[0]], on_gap=heard.append) as segmenter:
        for time_s in (5.0, 5.1, 5.1999, 5.5, 5.6, 5.6):
            segmenter.push(np.zeros(1600, np.float32), time_s=time_s)
        assert segmenter.gaps == heard == [Gap(0.3, 0.2001), Gap(0.5, -0.1)]
        assert [str(g).split(" at")[0] for g in heard] == ["0.200 s of sound dropped", "0.100 s of sound repeated"]
        with pytest.raises(ConfigError, match="time of a chunk is nan"):
            segmenter.push(np.zeros(10, np.float32), time_s=float("nan"))
        segmenter.reset()
        assert segmenter.gaps == []


@given(chunks=st.lists(st.integers(0, 5000), min_size=1, max_size=20), lost=st.integers(200, 50_000), data=st.data())
def test_a_lost_chunk_is_found_where_it_was(chunks: list[int], lost: int, data: st.DataObject) -> None:
    where = data.draw(st.integers(0, len(chunks) - 1))
    check, time_s, gaps = SequenceCheck(RATE), 1e6, []
    for number, count in enumerate(chunks):
        time_s += lost / RATE if number == where else 0.0
        gaps.append(check.take(time_s, count))
        time_s += count / RATE
    assert [i for i, g in enumerate(gaps) if g] == ([where] if where else [])
    if where:
        assert gaps[where] == Gap(round(sum(chunks[:where]) / RATE, 6), pytest.approx(lost / RATE, abs=1e-5))


def test_settings_travel(tmp_path: Path) -> None:
    bundle = BUNDLES[NAMES[0]]
    assert Segmentation.from_dict(json.loads(json.dumps(BUSY.to_dict()))) == BUSY
    file = tmp_path / "own.json"
    file.write_text(json.dumps({"schema": "edge-bench/segmentation/1", **BUSY.to_dict()}))
    assert read_segmentation(file, bundle) == BUSY
    chosen = {"dense": {"smoothing": BUSY.smoothing.to_dict(), "frame_accuracy": 0.9}}
    tuned = {"schema": "edge-bench/tune-smoothing/1", "model": bundle.name, "chosen": chosen}
    file.write_text(json.dumps(tuned))
    assert read_segmentation(file, bundle).smoothing == BUSY.smoothing
    file.write_text(json.dumps({**tuned, "model": "another"}))
    with pytest.raises(ConfigError, match="tuned for another"):
        read_segmentation(file, bundle)
    for text in ("", "[]", "{}", '{"schema": "other/1"}', '{"schema": "edge-bench/tune-smoothing/1"}'):
        file.write_text(text)
        with pytest.raises(ConfigError, match=r"own\.json"):
            read_segmentation(file, bundle)
    data = Path(bundle.path).read_bytes()
    assert Segmentation.of(parse(helpers.with_info(data, segmentation=BUSY.to_dict()))) == BUSY


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": 0}, "temperature is 0, must be from"),
        ({"temperature": "hot"}, "must be a number"),
        ({"unknown_below": 1.5}, "unknown_below"),
        ({"unknown_below": float("nan")}, "must be a number"),
        ({"smoothing": 3}, "smoothing"),
        ({"median": 3}, "unknown key 'median'"),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Segmentation.from_dict(values)


def test_mistakes() -> None:
    bundle = BUNDLES[NAMES[0]]
    for hop in (0.0, -1.0, 61.0, float("nan")):
        with pytest.raises(ConfigError, match="decision hop"):
            Segmenter(bundle, decision_hop_s=hop)
    with Segmenter(bundle) as segmenter:
        for x in (np.zeros(0, np.float32), np.zeros(1, np.float32)):
            with pytest.raises(AudioError, match="at least 400"):
                segmenter.segment(x)
        with pytest.raises(AudioError, match="shape"):
            segmenter.segment(np.zeros((2, 1000), np.float32))
        assert segmenter.finish() == ()
    with pytest.raises(InterpreterError, match="closed"):
        segmenter.push(np.zeros(10, np.float32))
    forms = {"clip": bundle.info["forms"]["clip"]}
    clip_only = Bundle(bundle.path, "", 0, bundle.flatbuffer, {**bundle.info, "forms": forms}, ())
    with pytest.raises(BundleError, match="no signature 'dense'"):
        Segmenter(clip_only)
