"""Segmentation scores with known answers, the dense form's pooling, the search for a smoothing, and the commands."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_bench.benchmarks.cli import group, main
from edge_bench.train import corpus, posteriors, segment_evaluate, segmentation
from edge_bench.train.events import EVENT_SCORES
from edge_bench.train.posteriors import Track
from edge_bench.train.segmentation import FileCounts, score_file, summarise
from edge_bench.train.stream_files import Annotated, write_streams
from edge_bench.train.tune import tune
from edge_runtime import BundleError, Classifier, ConfigError, CorpusError, FrontEnd, audio
from edge_runtime.bundle import read
from edge_runtime.dense import DenseNetwork, Pool, pooled, softmax
from edge_runtime.segments import SILENCE, Segment
from edge_runtime.smoothing import Smoothing

CLASSES = ("speech", "music", "noise")
REFERENCE = ((0.0, 4.0, "speech"), (4.0, 5.0, SILENCE), (5.0, 9.0, "music"), (9.0, 12.0, "noise"))


def found(*cuts: tuple[float, float, str]) -> list[Segment]:
    return [Segment(a, b, label, 1.0) for a, b, label in cuts]


@pytest.fixture(scope="module")
def folder(corpus_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two streams of the stand-in corpus' validation split."""
    out = tmp_path_factory.mktemp("streams")
    write_streams(corpus.load(corpus_root), "validation", out, count=2, seed=7, workers=1)
    return out


def test_a_perfect_segmentation_scores_one() -> None:
    scores = summarise([score_file(REFERENCE, found(*REFERENCE), CLASSES)] * 3, CLASSES, samples=20)
    for name in ("frame_accuracy", "speech_nonspeech", *EVENT_SCORES, "boundary_f"):
        assert scores[name] == 1.0 and scores["intervals"][name] == (1.0, 1.0)
    assert (scores["files"], scores["frames"]) == (3, 3300), "silence is left out"


def test_known_answers() -> None:
    given_ = found((0, 4.4, "speech"), (4.4, 8.0, "music"), (8.0, 12.0, "noise"))
    counts = score_file(REFERENCE, given_, CLASSES)
    scores = summarise([counts], CLASSES)
    assert scores["frame_accuracy"] == pytest.approx(1000 / 1100), "a second of music taken for noise, of eleven"
    assert scores["speech_nonspeech"] == 1.0
    assert scores["confusion"][3] == [40, 60, 0, 0], "frames of the silence by what they were taken for"
    # onsets: speech at 0, noise at 8 (1 s early) and music at 4.4 (0.6 s early) against collars of 0.5 s
    assert counts.events[1].tolist() == [1, 3, 3] and scores["onset_f1"] == pytest.approx(1 / 3)
    assert counts.events[2].tolist() == [1, 3, 3], "speech ends 0.4 s late"
    # inner boundaries 4, 5, 9 against 4.4, 8: one hit, precision 1/2, recall 1/3
    assert scores["boundary_f"] == pytest.approx(0.4)
    assert scores["intervals"] == {}, "one file has no spread"


def test_silence_found_in_sound_is_wrong_but_no_speech() -> None:
    scores = summarise([score_file(REFERENCE, found((0, 4, "speech"), (4, 12, SILENCE)), CLASSES)], CLASSES)
    assert scores["frame_accuracy"] == pytest.approx(4 / 11)
    assert scores["speech_nonspeech"] == 1.0
    nothing = score_file(REFERENCE, found((0, 12, SILENCE)), CLASSES)
    assert nothing.events.tolist() == [[0, 11, 0], [0, 3, 0], [0, 3, 0]], "eleven seconds, three events"


def test_frames_outside_the_annotation_do_not_count() -> None:
    counts = score_file(((1.0, 2.0, "speech"),), found((0, 30, "speech")), CLASSES)
    assert counts.confusion.sum() == 200 and counts.confusion[0].tolist() == [100, 0, 0, 0]
    assert np.isnan(counts.boundary_f)
    assert "boundary_f" not in summarise([counts], CLASSES)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 3)), min_size=1, max_size=8), st.integers(0, 1000))
def test_frame_accuracy_is_the_share_of_equal_frames(runs: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.repeat([label for _, label in runs], [n for n, _ in runs])
    taken = np.where(rng.random(len(truth)) < 0.7, truth, rng.integers(0, 4, len(truth)))
    confusion = segmentation.frame_confusion(np.where(truth == 3, -1, truth), np.where(taken == 3, -1, taken), 3)
    scores = segmentation.frame_scores(confusion, CLASSES)
    sound = truth < 3
    assert float(scores["frame_accuracy"]) == pytest.approx(np.mean(truth[sound] == taken[sound]) if sound.any() else 0)
    same = (truth == 0) == (taken == 0)
    assert float(scores["speech_nonspeech"]) == pytest.approx(np.mean(same[sound]) if sound.any() else 1)


def test_the_interval_of_files_that_differ_holds_the_mean_and_is_repeatable() -> None:
    rng = np.random.default_rng(0)
    files = []
    for right in rng.integers(60, 100, 40):
        confusion = np.zeros((4, 4), np.int64)
        confusion[1, 1], confusion[1, 2] = right, 100 - right
        files.append(FileCounts(confusion, np.ones((3, 3)), 0.5))
    one, two = summarise(files, CLASSES), summarise(files, CLASSES)
    low, high = one["intervals"]["frame_accuracy"]
    assert low < one["frame_accuracy"] < high and high - low < 0.1 and one == two
    with pytest.raises(ConfigError, match="no file"):
        summarise([], CLASSES)
    with pytest.raises(ConfigError, match="is empty"):
        score_file((), found((0, 1, "speech")), CLASSES)


def test_dense_answers_are_those_of_the_clip_that_ends_there(bundles: dict[str, Path]) -> None:
    """The clip of the receptive field has one instant, so no pooling stands between its answer and the dense one."""
    bundle = read(bundles["float32"])
    x = np.random.default_rng(0).standard_normal((700, 20)).astype(np.float32)
    p = softmax(DenseNetwork(bundle).logits(x))
    assert p.shape == (700, 3)
    field = bundle.receptive_field
    with Classifier(bundle, clip_s=bundle.front_end.samples(field) / 16000) as classifier:
        for end in (field, field + 1, 511, 513, 700):
            assert p[end - 1] == pytest.approx(classifier.probabilities(x[end - field : end]), abs=2e-4)
    assert DenseNetwork(bundle).logits(x[:0]).shape == (0, 3)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.lists(st.integers(0, 90), max_size=8), st.integers(0, 1000))
def test_pooling_is_equal_for_any_chunking(length: int, cuts: list[int], seed: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (90, 3)).astype(np.float32)
    whole = pooled(logits, length)
    pool, edges = Pool(length, 3), [0, *sorted(cuts), 90]
    parts = [pool.push(logits[a:b]) for a, b in pairwise(edges)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert whole[-1] == pytest.approx(softmax(logits[-length:].mean(axis=0)), abs=1e-3)
    assert whole[0] == pytest.approx(softmax(logits[0]), abs=1e-3)


def test_a_pool_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="pool is 0"):
        Pool(0, 3)


def test_windows_answer_as_the_classifier_does(bundles: dict[str, Path], folder: Path) -> None:
    bundle = read(bundles["int8"])
    streams = segment_evaluate.gather(folder, (), [str(bundles["int8"])])
    track = posteriors.tracks(bundle, streams.files[:1], ["1"])[0]
    samples = audio.load(streams.files[0].audio)
    with Classifier(bundle, clip_s=1.0) as classifier:
        features = FrontEnd(bundle.front_end)(samples)
        frames = classifier.frames
        for end in (frames, frames + posteriors.HOP, frames + 40 * posteriors.HOP):
            wanted = classifier.probabilities(features[end - frames : end])
            assert np.array_equal(track.answers["1"][end - 1], wanted)
            assert np.array_equal(track.answers["1"][end + posteriors.HOP - 2], wanted)
    assert np.array_equal(track.answers["1"][0], track.answers["1"][frames - 1])
    assert len(track.dbfs) == len(features)


def test_tuning_finds_the_delay_and_the_smoothing_that_help() -> None:
    rng = np.random.default_rng(0)
    tracks, files = [], []
    for number in range(3):
        cuts = np.cumsum(rng.integers(250, 500, 8))
        truth = np.repeat(np.arange(8) % 3, np.diff(np.append(0, cuts)))
        late = np.concatenate([np.full(55, truth[0]), truth])[: len(truth)]
        logits = 2.0 * np.eye(3)[late] + rng.normal(0, 1.5, (len(truth), 3))
        tracks.append(Track(np.full(len(truth), -20.0, np.float32), {"dense": logits.astype(np.float32)}))
        edges = [0, *cuts]
        files.append(
            Annotated(
                Path(f"{number}.wav"),
                tuple((a / 100, b / 100, CLASSES[truth[a]]) for a, b in pairwise(edges)),
            )
        )
    choice = tune(tracks, files, "dense", CLASSES)
    s = choice.smoothing
    assert abs(s.delay - s.pool // 2 - 55) <= 5 and (s.median > 1 or s.pool > 1)
    best = max(h["frame_accuracy"] + 0.05 * h["onset_f1"] for h in choice.history)
    assert choice.aim == pytest.approx(best) and choice.aim > 1.0
    assert next(h for h in choice.history if h["smoothing"] == s.to_dict())["frame_accuracy"] > 0.97


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(group, list(arguments), catch_exceptions=False)


def test_the_commands_from_streams_to_a_table(bundles: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    name, chosen, result = str(bundles["int8"]), tmp_path / "smoothing.json", tmp_path / "result.json"
    chosen.write_text(
        json.dumps({"schema": segment_evaluate.TUNING_SCHEMA, "model": "slim-int8",
                    "chosen": {"dense": {"smoothing": Smoothing(delay=40, median=51, enter=0.4).to_dict()}}})
    )  # fmt: skip
    log = tmp_path / "log.jsonl"
    done = invoke(
        "evaluate-segmentation", name, "--streams", str(folder), "--windows", "0.5", "--smoothing", str(chosen),
        "--plot", str(tmp_path / "a.png"), "--json", str(result), "--log", str(log),
    )  # fmt: skip
    assert done.exit_code == 0 and "dense" in done.output and "tuned" in done.output
    value = json.loads(result.read_text())
    assert value["schema"] == "edge-bench/evaluate-segmentation/1" and value["files"] == 2
    kinds = [f"{r['window']}, {r['smoothing']}" for r in value["rows"]]
    assert kinds == ["0.5, none", "0.5, median 200", "dense, none", "dense, median 200", "dense, tuned"]
    assert all(0 <= r["frame_accuracy"] <= 1 and r["frames"] > 1000 for r in value["rows"])
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG" and not log.exists()


def test_own_recordings_with_labels_are_taken(bundles: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    done = invoke(
        "evaluate-segmentation", str(bundles["int8"]), "--windows", "", "--recording",
        str(folder / "stream-0000.wav"), str(folder / "stream-0000.lab"), "--json", "-",
    )  # fmt: skip
    value = json.loads(done.stdout)
    assert (value["files"], value["split"]) == (1, None)
    assert [r["window"] for r in value["rows"]] == ["dense", "dense"]


def test_the_test_split_is_only_used_by_who_says_so(
    corpus_root: Path, bundles: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, log, name = tmp_path / "test", tmp_path / "results" / "log.jsonl", str(bundles["int8"])
    write_streams(corpus.load(corpus_root), "test", out, count=1, workers=1)
    with pytest.raises(ConfigError, match="say --split test"):
        segment_evaluate.gather(out, (), [name])
    with pytest.raises(ConfigError, match="tune on those of validation"):
        segment_evaluate.tune_bundle(name, out, [])
    streams = segment_evaluate.gather(out, (), [name], split="test")
    segment_evaluate.evaluate([name], streams, [], log=log)
    entry = json.loads(log.read_text())
    assert entry["model"] == "slim-int8" and set(entry["frame_accuracy"]) == {"dense, none", "dense, median 200"}
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate-segmentation", name, "--streams", str(out)])
    assert stopped.value.code == 2 and "--split test" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing to evaluate on"), (["--streams", "/nowhere"], "no such folder"),
        (["--windows", "wide"], "expected seconds"), (["--windows", "0"], "window is 0"),
        (["--smoothing", "/nowhere.json"], "cannot be read"), (["--plot-file", "9", "--plot", "x.png"], "no stream 9"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: list[str], says: str, bundles: dict[str, Path], folder: Path, capsys: pytest.CaptureFixture[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    lacks_streams = says in ("nothing to evaluate on", "no such folder")
    given_ = arguments if lacks_streams else ["--streams", str(folder), *arguments]
    if "--windows" not in given_:
        given_ = [*given_, "--windows", ""]
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate-segmentation", str(bundles["int8"]), *given_])
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code == 2 and says in said
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema": "other"}', '{"schema": "edge-bench/tune-smoothing/1"}'])
def test_a_damaged_choice_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"s\.json: "):
        segment_evaluate.read_choices([path])


def test_a_choice_for_another_file_of_that_name_is_refused(tmp_path: Path) -> None:
    path, bundle = tmp_path / "s.json", read("swishnet-slim-int8")
    value = {"schema": segment_evaluate.TUNING_SCHEMA, "model": bundle.name, "sha256": bundle.sha256,
             "chosen": {"dense": {"smoothing": Smoothing(median=51).to_dict(), "temperature": 2.0}}}  # fmt: skip
    path.write_text(json.dumps(value))
    (chosen,) = segment_evaluate.read_choices([path], [bundle.path])[bundle.name].values()
    assert (chosen.smoothing.median, chosen.temperature) == (51, 2.0)
    path.write_text(json.dumps({**value, "sha256": "0" * 64}))
    assert segment_evaluate.read_choices([path])
    with pytest.raises(ConfigError, match="was tuned for another bundle that is called swishnet-slim-int8"):
        segment_evaluate.read_choices([path], [bundle.path])


def test_bundles_and_recordings_that_do_not_fit_are_refused(bundles: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such file"):
        segment_evaluate.gather(None, (), ["nothing-int8"])
    (tmp_path / "a.lab").write_text("0 1 jingle\n")
    with pytest.raises(CorpusError, match="jingle"):
        segment_evaluate.gather(None, [(tmp_path / "a.wav", tmp_path / "a.lab")], [str(bundles["int8"])])
