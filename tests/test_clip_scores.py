"""ROC, AUC, calibration and paired differences against scikit-learn; evaluations of several models; the SNR sweep."""

from __future__ import annotations

import doctest
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CLASSES
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime import ConfigError, EdgeBenchError, FrontEndConfig, metrics, probability
from edge_runtime.metrics import bootstrap_confusions, draw_groups, evaluate, paired_differences
from edge_runtime.probability import auc, bootstrap_auc, reliability, roc_curve


def answers(seed: int, clips: int = 200, *, steps: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities that lean towards them; with `steps` they are multiples of 1 / steps, with ties."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, clips)
    logits = rng.standard_normal((clips, 3)) + 1.2 * np.eye(3)[truth]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return truth, np.round(p * steps) / steps if steps else p


# --- ranking and calibration ------------------------------------------------------------------

sides = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=60).filter(
    lambda pairs: len({positive for positive, _ in pairs}) == 2
)


@settings(max_examples=150, deadline=None)
@given(sides)
def test_auc_and_curve_are_those_of_scikit_learn(pairs: list[tuple[bool, int]]) -> None:
    from sklearn import metrics as sk

    positive, score = np.array([p for p, _ in pairs]), np.array([s for _, s in pairs]) / 6
    assert auc(positive, score) == pytest.approx(sk.roc_auc_score(positive, score), abs=1e-12)
    false, true = roc_curve(positive, score)
    wanted = sk.roc_curve(positive, score, drop_intermediate=False)
    np.testing.assert_allclose(false, wanted[0])
    np.testing.assert_allclose(true, wanted[1])
    assert np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2) == pytest.approx(auc(positive, score))


@pytest.mark.parametrize("steps", [0, 8])
def test_probability_scores_are_those_of_scikit_learn(steps: int) -> None:
    from sklearn import metrics as sk

    truth, p = answers(1, steps=steps)
    p = p / p.sum(axis=1, keepdims=True)
    scores = probability.evaluate(truth, p, CLASSES)
    one_vs_rest = sk.roc_auc_score(truth, p, multi_class="ovr", average=None)
    np.testing.assert_allclose([scores.auc[name] for name in CLASSES], one_vs_rest)
    assert scores.macro_auc == pytest.approx(sk.roc_auc_score(truth, p, multi_class="ovr", average="macro"))
    assert scores.brier == pytest.approx(sum(sk.brier_score_loss(truth == i, p[:, i]) for i in range(3)))
    if not steps:
        assert scores.nll == pytest.approx(sk.log_loss(truth, np.maximum(p, 1 / 512)), abs=2e-3)


def test_the_reliability_diagram_is_that_of_scikit_learn() -> None:
    from sklearn.calibration import calibration_curve

    truth, p = answers(2, 500)
    diagram = reliability(truth, p)
    filled = diagram.clips > 0
    accuracy, confidence = calibration_curve(p.argmax(axis=1) == truth, p.max(axis=1), n_bins=10)
    np.testing.assert_allclose(diagram.accuracy[filled], accuracy)
    np.testing.assert_allclose(diagram.confidence[filled], confidence)
    assert diagram.clips.sum() == 500 and not diagram.accuracy[~filled].any()


def test_calibration_error_by_hand() -> None:
    # ten clips at 0.75, of which five are right, and two at 1.0, both right: (10 * 0.25 + 2 * 0) / 12
    truth = [0] * 5 + [1] * 5 + [0, 0]
    p = [[0.75, 0.25]] * 10 + [[1.0, 0.0]] * 2
    diagram = reliability(truth, p)
    assert diagram.error == pytest.approx(2.5 / 12)
    assert diagram.clips.tolist() == [0, 0, 0, 0, 0, 0, 0, 10, 0, 2]


def test_int8_probabilities_are_normalised_and_a_zero_is_not_infinite() -> None:
    truth = [0, 1, 2]
    raw = np.array([[128, 64, 0], [0, 0, 0], [255, 1, 0]]) / 256
    scores = probability.evaluate(truth, raw, CLASSES)
    _, p = probability.normalised(truth, raw)
    np.testing.assert_allclose(p, [[2 / 3, 1 / 3, 0], [1 / 3] * 3, [255 / 256, 1 / 256, 0]])
    assert scores.nll == pytest.approx(-np.mean(np.log([2 / 3, 1 / 3, 1 / 512])))


def test_a_class_without_clips_has_no_auc() -> None:
    scores = probability.evaluate([0, 1, 1], np.full((3, 3), 1 / 3), CLASSES)
    assert scores.auc == {"speech": 0.5, "music": 0.5, "noise": None} and scores.macro_auc == 0.5
    assert probability.evaluate([0], [[0.5, 0.5]], ("a", "b")).macro_auc is None


@pytest.mark.parametrize(
    ("truth", "p", "message"),
    [
        ([0, 1], [[0.5, 0.5]], "probabilities have shape"),
        ([0], [0.5], "probabilities have shape"),
        ([0], [[0.5, float("nan")]], "finite"),
        ([0], [[1.5, -0.5]], "not negative"),
        ([2], [[0.5, 0.5]], "from 0 to 1"),
        ([], np.zeros((0, 2)), "no clip"),
    ],
)
def test_probabilities_that_make_no_sense(truth: Any, p: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        probability.evaluate(truth, p, ("a", "b"))


def test_sides_that_make_no_sense() -> None:
    for positive, values, message in (
        ([True, True], [0, 1], "positives and negatives"), ([1, 0], [0, 1], "truths"),
        ([True, False], [0.0], "truths"), ([True, False], [0, float("nan")], "finite"),
    ):  # fmt: skip
        for function in (auc, roc_curve):
            with pytest.raises(ConfigError, match=message):
                function(positive, values)
    with pytest.raises(ConfigError, match="bins"):
        reliability([0], [[1.0, 0.0]], bins=0)
    with pytest.raises(ConfigError, match="2 probabilities a clip for 3 classes"):
        probability.evaluate([0], [[1.0, 0.0]], CLASSES)


# --- bootstrap --------------------------------------------------------------------------------


def recordings(clips: int = 200, each: int = 5) -> np.ndarray:
    return np.array([f"r{i // each}" for i in range(clips)])


@pytest.mark.parametrize("steps", [0, 4])
def test_auc_of_resampled_recordings_is_that_of_their_clips(steps: int) -> None:
    from sklearn.metrics import roc_auc_score

    truth, p = answers(3, 60, steps=steps)
    groups = np.array([f"r{t}{i % 4}" for i, t in enumerate(truth)])
    draws = draw_groups(truth, groups, 3, samples=25, seed=1)
    got = bootstrap_auc(truth == 1, p[:, 1], draws)
    for sample, weights in zip(got, draws.weights, strict=True):
        assert sample == pytest.approx(roc_auc_score(truth == 1, p[:, 1], sample_weight=weights[draws.cell]))


def test_draws_are_whole_groups_of_a_class() -> None:
    truth, _ = answers(4)
    draws = draw_groups(truth, recordings(), 3, samples=20, seed=2)
    assert draws.cell.shape == truth.shape and np.array_equal(draws.labels[draws.cell], truth)
    for label in range(3):
        of_class = draws.labels == label
        assert (draws.weights[:, of_class].sum(axis=1) == of_class.sum()).all()
    with pytest.raises(ConfigError, match="groups"):
        draw_groups(truth, recordings(10), 3)


def test_the_difference_is_the_difference() -> None:
    truth, p = answers(5)
    first = p.argmax(axis=1)
    second = np.where(np.arange(200) % 3 > 0, truth, first)
    found = paired_differences(truth, first, second, recordings(), CLASSES, samples=300)
    a, b = evaluate(truth, first, CLASSES), evaluate(truth, second, CLASSES)
    assert found["overall"].delta == pytest.approx(b.overall - a.overall)
    assert found["macro_f1"].delta == pytest.approx(b.macro_f1 - a.macro_f1)
    for name in CLASSES:
        assert found[f"recall {name}"].delta == pytest.approx(b.recall[name] - a.recall[name])
    low, high = found["macro_f1"].interval
    assert 0 < low <= found["macro_f1"].delta <= high and found["macro_f1"].below_zero == 0
    back = paired_differences(truth, second, first, recordings(), CLASSES, samples=300)
    assert back["macro_f1"].delta == -found["macro_f1"].delta and back["macro_f1"].below_zero == 1


def test_a_model_differs_from_itself_by_nothing() -> None:
    truth, p = answers(7)
    predicted = p.argmax(axis=1)
    for found in paired_differences(truth, predicted, predicted, recordings(), CLASSES, samples=50).values():
        assert (found.delta, found.interval, found.below_zero) == (0, (0, 0), 0)


def test_pairing_narrows_the_interval() -> None:
    """Two models that err on the same recordings: unpaired intervals drown what is always the same difference."""
    rng = np.random.default_rng(8)
    truth = np.repeat(np.arange(60) % 3, 10)
    groups = np.repeat([f"r{i}" for i in range(60)], 10)
    hard = np.repeat(rng.random(60) < 0.4, 10)
    first = np.where(hard, (truth + 1) % 3, truth)
    second = np.where(np.arange(600) % 10 == 0, (truth + 1) % 3, first)  # a tenth of its clips more
    low, high = paired_differences(truth, first, second, groups, CLASSES)["overall"].interval
    assert high < 0
    spread = [
        np.trace(bootstrap_confusions(truth, predicted, groups, 3, seed=seed), axis1=1, axis2=2) / 600
        for seed, predicted in enumerate((first, second))
    ]
    unpaired = metrics.interval(spread[1] - spread[0])
    assert high - low < 0.4 * (unpaired[1] - unpaired[0]) and unpaired[1] > 0


def test_the_interval_of_a_difference_covers() -> None:
    """In about 95 % of corpora the interval holds the true difference of two models: 0.1 of the recordings."""
    covered = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        truth = np.repeat(np.arange(90) % 3, 6)
        groups = np.repeat([f"r{i}" for i in range(90)], 6)
        first = np.where(np.repeat(rng.random(90) < 0.2, 6), (truth + 1) % 3, truth)
        second = np.where(np.repeat(rng.random(90) < 0.1, 6), (truth + 1) % 3, truth)
        low, high = paired_differences(truth, first, second, groups, CLASSES, samples=200, seed=seed)[
            "overall"
        ].interval
        covered += low <= 0.1 <= high
    assert 0.88 < covered / 120 <= 1


# --- evaluations ------------------------------------------------------------------------------

pytest.importorskip("tensorflow")

from edge_bench.train import corpus, evaluate_cli, features, snr  # noqa: E402
from edge_bench.train import evaluate as evaluation  # noqa: E402
from edge_bench.train.clips import ClipSet  # noqa: E402
from edge_bench.train.evaluate import Answers, differences, score  # noqa: E402


def made(seed: int, *, name: str = "made", classes: tuple[str, ...] = CLASSES) -> Answers:
    """Answers of a model that never was, on 200 clips of 40 recordings from two collections."""
    truth, _ = answers(0)
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((200, 3)) + (1 + seed) * np.eye(3)[truth]
    p = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    recording = np.arange(200) // 5
    clips = ClipSet(np.zeros((200, 1, 1), np.float32), truth, recordings(), recording)
    files = tuple(f"f{i}" for i in range(40))
    return Answers(name, classes, "rev", files, {1.0: (clips, p)}, tuple(f"s{i % 2}" for i in range(40)))


def test_an_evaluation_keeps_its_keys_and_gains_others() -> None:
    result = json.loads(json.dumps(score(made(1), path="p", split="validation"), allow_nan=False))
    old = {"overall", "speech_nonspeech", "macro_f1", "recall", "confusion", "intervals", "errors", "clips_by_length"}
    assert old <= set(result) and result["schema"] == "edge-bench/evaluate/1"
    for r in (result, result["clips_by_length"]["1"]):
        low, high = r["intervals"]["macro_auc"]
        assert 0.5 < low <= r["macro_auc"] <= high <= 1
        assert all(r["intervals"]["auc"][c][0] <= r["auc"][c] <= r["intervals"]["auc"][c][1] for c in CLASSES)
        assert 0 <= r["calibration_error"] <= 1 and 0 < r["brier"] < 2 and r["nll"] > 0
        assert sum(r["reliability"]["clips"]) == 200


def test_errors_by_collection_count_every_clip_once() -> None:
    found = made(0)
    rows = score(found, path="p", split="validation")["errors_by_source"]["1"]
    clips, p = found.clips[1.0]
    wrong = p.argmax(axis=1) != clips.labels
    assert sum(row["clips"] for row in rows) == 200 and sum(row["errors"] for row in rows) == wrong.sum()
    of_s1 = (clips.recording % 2 == 1) & (clips.labels == 0)
    row = next(r for r in rows if (r["source"], r["label"]) == ("s1", "speech"))
    assert (row["clips"], row["errors"]) == (of_s1.sum(), (wrong & of_s1).sum())
    assert [r["errors"] for r in rows] == sorted((r["errors"] for r in rows), reverse=True)


def test_differences_of_two_models() -> None:
    first, other = made(0), made(1, name="other")
    found = differences(first, other)["1"]
    scores = [score(a, path="p", split="validation") for a in (first, other)]
    for key in ("overall", "macro_f1", "macro_auc"):
        assert found[key]["delta"] == pytest.approx(scores[1][key] - scores[0][key])
        assert found[key]["interval"][0] <= found[key]["delta"] <= found[key]["interval"][1]
    assert found["macro_f1"]["below_zero"] == 0 and found["macro_auc"]["interval"][0] > 0
    assert differences(first, first)["1"]["macro_auc"] == {"delta": 0, "interval": (0, 0), "below_zero": 0}


def test_a_class_that_does_not_occur_is_left_out_of_means() -> None:
    found = []
    for answer in (made(0), made(1, name="other")):
        clips, p = answer.clips[1.0]
        keep = clips.labels != 2
        fewer = ClipSet(clips.x[keep], clips.labels[keep], clips.groups[keep], clips.recording[keep])
        found.append(replace(answer, clips={1.0: (fewer, p[keep])}))
    results = [score(answer, path="p", split="validation") for answer in found]
    assert results[0]["absent"] == ["noise"] and results[0]["auc"]["noise"] is None
    assert "noise" not in results[0]["intervals"]["auc"]
    apart = differences(*found)["1"]
    for key in ("macro_f1", "macro_auc"):
        assert apart[key]["delta"] == pytest.approx(results[1][key] - results[0][key])


def test_classes_in_another_order_are_put_in_line() -> None:
    first = made(1)
    turned = first.ordered(("noise", "speech", "music"))
    clips, p = turned.clips[1.0]
    assert p[:, 0].tolist() == first.clips[1.0][1][:, 2].tolist()
    assert [turned.classes[i] for i in clips.labels] == [CLASSES[i] for i in first.clips[1.0][0].labels]
    assert differences(first, turned)["1"]["macro_f1"]["delta"] == 0
    a, b = (score(x, path="p", split="validation") for x in (first, turned))
    assert a["macro_f1"] == pytest.approx(b["macro_f1"]) and a["recall"] == pytest.approx(b["recall"])


def test_models_that_cannot_be_compared() -> None:
    first = made(0)
    with pytest.raises(ConfigError, match="other knows a, b, c, not speech, music, noise"):
        differences(first, made(1, name="other", classes=("a", "b", "c")))
    clips, p = first.clips[1.0]
    for changed in (
        {2.0: (clips, p)}, {1.0: (replace(clips, recording=clips.recording[::-1]), p)}, {1.0: (clips, p[:9])}
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="cannot be paired"):
            differences(first, replace(first, clips=changed))


def test_a_look_that_cannot_be_logged_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgeBenchError, match="cannot be written"):
        evaluation.write_log(score(made(0), path="p", split="test"), tmp_path / "file" / "log.jsonl")


# --- noise ------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.floats(-30, 60), st.integers(0, 9), st.floats(1e-3, 1), st.integers(500, 3000))
def test_the_mixture_has_the_ratio_and_the_level(snr_db: float, seed: int, level: float, length: int) -> None:
    rng = np.random.default_rng(seed)
    x, noise = (rng.standard_normal(n).astype(np.float32) for n in (2000, length))
    mixed = snr.mix(x * np.float32(level), noise, snr_db, np.random.default_rng(1))
    assert mixed.shape == x.shape and mixed.dtype == np.float32
    assert np.mean(mixed**2) == pytest.approx(level**2 * np.mean(x**2), rel=1e-3)
    start = int(np.random.default_rng(1).integers(length))
    background = np.resize(np.roll(noise, -start), 2000)
    (a, b), *_ = np.linalg.lstsq(np.stack([x, background], 1).astype(float), mixed.astype(float), rcond=None)
    got = 10 * np.log10(a**2 * np.mean(x**2) / (b**2 * np.mean(background**2)))
    assert got == pytest.approx(snr_db, abs=0.3)


def test_digital_silence_stays_what_it_is() -> None:
    silence, rng = np.zeros(100, np.float32), np.random.default_rng(0)
    assert not snr.mix(silence, np.ones(10, np.float32), 0, rng).any()
    assert np.array_equal(snr.mix(silence + 1, silence, 0, rng), silence + 1)


@pytest.mark.parametrize("ratios", [[], [float("nan")], [200], [-100]])
def test_ratios_that_make_no_sense(ratios: list[float]) -> None:
    with pytest.raises(ConfigError, match="SNR"):
        snr.check_ratios(ratios)


def test_ratios_fall_and_come_once() -> None:
    assert snr.check_ratios([0, -5, 20, 0]) == (20, 0, -5)


def test_noisy_features_are_cached_and_repeat(
    corpus_root: Path, front_end: FrontEndConfig, cache: Path, tmp_path: Path
) -> None:
    data = corpus.load(corpus_root)
    first = snr.noisy_features(data, "train", front_end, 0.0)
    again = snr.noisy_features(data, "train", front_end, 0.0, cache=tmp_path / "other")
    assert np.array_equal(first.data, again.data) and len(first.starts) == 6
    assert {first.recordings[i].label for i in first.recording} == {"speech", "music"}
    said: list[str] = []
    snr.noisy_features(data, "train", front_end, 0.0, progress=lambda name, *_: said.append(name))
    assert not said, "read from the cache"
    other = snr.noisy_features(data, "train", front_end, 0.0, seed=1)
    assert not np.array_equal(first.data, other.data)
    clean = features.features(data, "train", front_end.normalised((), ()))
    high = snr.noisy_features(data, "train", front_end, 100.0)
    both = [i for i in range(len(clean.starts)) if clean.recordings[int(clean.recording[i])].label != "noise"]
    worst = max(np.abs(clean.piece(i)[:, 0] - high.piece(j)[:, 0]).mean() for j, i in enumerate(both))
    assert worst < 1, "at 100 dB hardly anything is added"


def test_a_sweep(bundles: dict[str, Path], corpus_root: Path, cache: Path) -> None:
    rows = snr.sweep(str(bundles["int8"]), corpus_root, "train", [-10, 20], clip_s=[1.0])["1"]
    assert [row["snr_db"] for row in rows] == [None, 20, -10]
    assert len({row["recall"]["noise"] for row in rows}) == 1, "noise recordings stay as they are"
    whole = evaluation.evaluate(str(bundles["int8"]), corpus_root, "train", clip_s=[1.0])
    assert rows[0]["macro_f1"] == whole["macro_f1"] and rows[0]["clips"] == whole["clips"]
    for row in rows:
        assert set(row["auc"]) == {"speech", "music"}
        for name, area in row["auc"].items():
            low, high = row["intervals"]["auc"][name]
            assert 0 <= low <= area <= high <= 1
    assert rows[1]["auc"] != rows[2]["auc"]


def test_the_command(bundles: dict[str, Path], corpus_root: Path, cache: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    def call(*arguments: str) -> Any:
        common = ["--corpus", str(corpus_root), "--clips", "1"]
        return CliRunner().invoke(evaluate_cli.evaluate, [*arguments, *common])

    a, b = map(str, bundles.values())
    done = call(a, "--plot", str(tmp_path / "a.png"), "--json", str(tmp_path / "a.json"))
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "a.json").read_text())["schema"] == "edge-bench/evaluate/1"
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG" and not (tmp_path / "a-snr.png").exists()

    done = call(a, b, "--snr", "10,0", "--plot", str(tmp_path / "ab.png"), "--json", str(tmp_path / "ab.json"))
    assert done.exit_code == 0, done.output
    assert done.stdout.count("slim-float32") == 2 and "below 0" in done.stdout and "10 dB" in done.stdout
    result = json.loads((tmp_path / "ab.json").read_text())
    assert result["schema"] == "edge-bench/evaluations/1"
    assert [e["path"] for e in result["evaluations"]] == [a, b]
    assert [row["snr_db"] for row in result["evaluations"][1]["snr"]["1"]] == [None, 10, 0]
    (pair,) = result["differences"]
    assert (pair["model"], pair["against"]) == (b, a) and "macro_f1" in pair["clips_by_length"]["1"]
    assert (tmp_path / "ab.png").is_file() and (tmp_path / "ab-snr.png").read_bytes()[:4] == b"\x89PNG"

    for arguments, message in (
        ([a, "--snr", "loud"], "--snr: 'loud' is no list of numbers"), ([a, "--snr", "1000"], "from -60 to 100 dB"),
        ([a, "--clips", "two"], "--clips"), ([a, "--clips", "-1"], "--clips"), ([a, b + "x"], "no such file"),
    ):  # fmt: skip
        failed = CliRunner().invoke(evaluate_cli.evaluate, ["--corpus", str(corpus_root), *arguments])
        assert isinstance(failed.exception, EdgeBenchError) and message in str(failed.exception)


def test_examples_in_docstrings_run() -> None:
    failed, tried = doctest.testmod(probability)
    assert tried and not failed
