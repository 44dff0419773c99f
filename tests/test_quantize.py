"""Quantising: forms that say the same, ranges, integers, recipes, fake quantisation, noise by operator."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CLASSES, with_info
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime import BundleError, ConfigError, FrontEndConfig, bundle, tflite
from edge_runtime.classify import Classifier, fitted, padded, predict, quantise
from edge_runtime.executor import Executor
from edge_runtime.fixedpoint import Multiplier, RoundedOnce
from edge_runtime.interpreter import Session, SignatureSession
from edge_runtime.truncate import signature_alone

keras = pytest.importorskip("keras")

from edge_bench.quantize import convert, deploy, qat  # noqa: E402
from edge_bench.quantize.calm import ROOM, calm, mismatches  # noqa: E402
from edge_bench.quantize.forms import two_forms  # noqa: E402
from edge_bench.quantize.fuse import fuse  # noqa: E402
from edge_bench.quantize.layers import layer_noise, to_blame  # noqa: E402
from edge_bench.quantize.quantiser import INT8, INT16, quantise_graph, weight_scales  # noqa: E402
from edge_bench.quantize.ranges import GATE_RANGE, GATED_RANGE, SHARES, _Histogram, groups, measure  # noqa: E402
from edge_bench.quantize.recipes import RECIPES, recipe_of  # noqa: E402
from edge_bench.quantize.slices import is_identity  # noqa: E402

PARTS = ((), ("b1",), ("b2", "b3"), ("b1", "b2", "b3"))


def clips(count: int, frames: int = 204, features: int = 20, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, frames, features)).astype(np.float32)


@pytest.fixture(scope="module")
def calibration() -> convert.Calibration:
    return convert.Calibration(clips(16), ("random",) * 16)


@pytest.fixture(scope="module")
def exact(slim: Any) -> Any:
    """The float graph of slim with some blocks in parts, each made once."""

    @cache
    def make(*parts: str, apart: tuple[str, ...] = ()) -> bytes:
        return deploy.swishnet_in_parts(slim, parts, apart=apart).convert(None)

    return make


# --- forms ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("parts", "apart"), [*((p, ()) for p in PARTS), *((p, deploy.APART) for p in PARTS[:2])])
def test_every_form_is_keras(slim: Any, exact: Any, parts: tuple[str, ...], apart: tuple[str, ...]) -> None:
    for frames in (48, 108, 198):
        x = clips(2, frames, seed=frames)
        length = 108 if frames <= 108 else 204
        run = Session(exact(*parts, apart=apart), frames=length).run
        got = np.concatenate([run(one[None, None]) for one in padded(x, length)])
        np.testing.assert_allclose(got, slim(x), atol=1e-5)


def test_the_plain_form_is_keras(slim: Any) -> None:
    x = clips(1, 198)
    for image in (True, False):
        form = deploy.plain(slim, frames=198, image=image)
        got = Session(form.convert(None)).run(x[None] if image else x)
        np.testing.assert_allclose(got, slim(x), atol=1e-5)


def test_parts_store_the_networks_own_weights(slim: Any) -> None:
    every = fuse(slim, in_parts=["b1", "b2", "b3"])
    assert every.parameters == slim.count_params() == 5483
    assert fuse(slim).parameters > fuse(slim, in_parts=["b1"]).parameters > 5483
    assert deploy.stored_parameters(deploy.swishnet_in_parts(slim, ["b1", "b2", "b3"]).convert(None)) == 5483
    with pytest.raises(ConfigError, match="'b4' has no two branches"):
        fuse(slim, in_parts=["b4"])


@pytest.mark.parametrize(("parts", "apart"), [(PARTS[1], ()), (PARTS[2], ()), (PARTS[1], deploy.APART)])
def test_the_dense_form_is_the_clip_at_every_phase(exact: Any, parts: tuple[str, ...], apart: tuple[str, ...]) -> None:
    """In int8 bit for bit: what comes before the mean of one instant is the mean."""
    graph = exact(*parts, apart=apart)
    x = clips(8)
    both = two_forms(quantise_graph(graph, measure(graph, x)), block_frames=60, receptive_field=108)
    dense = SignatureSession(both, "dense", backend="litert")
    fed = np.random.default_rng(0).integers(-128, 128, dense.input_shape).astype(np.int8)
    runner = Executor(signature_alone(both, "clip"), frames=108)
    (mean,) = [o for o in tflite.read(both).subgraphs[0].operators if o.name == "MEAN"]
    got = Executor(signature_alone(both, "dense")).run(fed)[0, 0]
    for phase in range(0, 60, 7):
        before_mean = runner.tensors(fed[:, :, phase : phase + 108])[mean.inputs[0]]
        assert np.array_equal(before_mean.reshape(3), got[phase])
    assert np.corrcoef(dense.run(fed)[0, 0].ravel(), got.ravel())[0, 1] > 0.99, "XNNPACK differs by some steps"


def test_an_aim_that_is_unknown(slim: Any) -> None:
    with pytest.raises(ConfigError, match=r"cannot optimise for 'beauty', must be one of .* size, plain"):
        convert.deploy(slim, optimise="beauty")


def test_the_usual_export_can_be_asked_for(slim: Any) -> None:
    usual, ours = (convert.deploy(slim, optimise=aim) for aim in ("plain", "balanced"))
    assert (usual.form, usual.has_dense, ours.form, ours.has_dense) == ("plain", False, "b1 in parts", True)


def test_slices_become_convolutions_and_all_nodes_are_delegated(exact: Any) -> None:
    graph = tflite.read(exact("b1")).subgraphs[0]
    names = [o.name for o in graph.operators]
    # without a step are the k3 branch of block 1, which starts three frames late, and what goes past block 3
    assert names.count("STRIDED_SLICE") == 2 and sum(is_identity(graph, o) for o in graph.operators) == 6
    nodes = Session(exact("b1"), backend="litert").nodes()
    assert nodes.delegated == nodes.total and nodes.partitions == 1


def test_open_shapes_are_worked_out(exact: Any) -> None:
    """What the reader says of a tensor's shape is what comes out of its operator."""
    both = two_forms(exact("b1", "b2"), block_frames=30, receptive_field=108)
    for number, key in enumerate(("clip", "dense")):
        graph, runner = tflite.read(both).subgraphs[number], Executor(signature_alone(both, key))
        values = runner.tensors(np.zeros(runner.input_shape, np.float32))
        assert {i: values[i].shape for o in graph.operators for i in o.outputs} == {
            i: graph.tensors[i].shape for o in graph.operators for i in o.outputs
        }


# --- ranges and integers ----------------------------------------------------------------------


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.sampled_from([INT8, INT16]))
def test_zero_is_a_number_and_the_range_is_reached(a: float, b: float, kind: Any) -> None:
    low, high = min(a, b), max(a, b)
    scale, zero = kind.scale_and_zero((low, high))
    assert scale > 0 and kind.low <= zero <= kind.high
    if max(high, 0) - min(low, 0) > 1e-6:
        ends = (np.array([kind.low, kind.high]) - zero) * float(scale)
        assert ends[0] <= min(low, 0) + 0.51 * scale and ends[1] >= max(high, 0) - 0.51 * scale


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=200), st.integers(1, 4))
def test_a_histogram_keeps_everything(values: list[float], pieces: int) -> None:
    histogram = _Histogram()
    array = np.array(values, np.float32)
    for piece in np.array_split(array, pieces):
        if len(piece):
            histogram.add(piece)
    assert histogram._counts.sum() == len(array)
    assert histogram.range("min-max", INT8) == (min(0.0, float(array.min())), max(0.0, float(array.max())))
    for method in ("percentile", "mse"):
        low, high = histogram.range(method, INT8)
        assert histogram.low <= low <= high <= histogram.high or high - low < 1e-6


def test_mse_has_the_least_error() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_t(3, 50_000).astype(np.float32)  # long tails
    histogram, errors = _Histogram(), {}
    histogram.add(values)
    for method in ("min-max", "percentile", "mse"):
        scale, zero = INT8.scale_and_zero(histogram.range(method, INT8))
        steps = np.clip(np.rint(values / scale) + zero, -128, 127)
        errors[method] = float((((steps - zero) * scale - values) ** 2).mean())
    assert errors["mse"] < min(errors["percentile"], errors["min-max"])
    assert histogram.range("min-max", INT8) == (values.min(), values.max())
    low, high = histogram.range("percentile", INT8)
    assert 0 < np.mean((values < low) | (values > high)) <= 2.5e-4


def test_what_only_moves_shares_one_range(exact: Any) -> None:
    graph = tflite.read(exact("b1")).subgraphs[0]
    found = groups(graph)
    assert sum(len(group.members) for group in found) == 1 + sum(len(o.outputs) for o in graph.operators)
    place = {index: number for number, group in enumerate(found) for index in group.members}
    for operator in graph.operators:
        if operator.name in ("SPLIT", "CONCATENATION", "MEAN") or is_identity(graph, operator):
            moved = [i for i in (*operator.inputs, *operator.outputs) if i in place]
            assert len({place[i] for i in moved}) == 1


def test_weights_keep_within_half_a_step(exact: Any) -> None:
    graph = exact()
    before = tflite.read(graph).subgraphs[0]
    after = tflite.read(quantise_graph(graph, measure(graph, clips(2)))).subgraphs[0]
    for a, b in zip(before.operators, after.operators, strict=True):
        if a.name == "CONV_2D":
            kernel = np.frombuffer(before.tensors[a.inputs[1]].data, np.float32)
            tensor = after.tensors[b.inputs[1]]
            scale = np.repeat(tensor.quantization.scale, len(kernel) // len(tensor.quantization.scale))
            steps = np.frombuffer(tensor.data, np.int8)
            assert np.abs(steps * scale - kernel).max() <= 0.501 * scale.max()
            # a scale may be 3 % wider than its largest weight asks for: see `calm`
            assert 127 / (1 + ROOM) - 1 < np.abs(steps.astype(int)).max() <= 127
            bias = after.tensors[b.inputs[2]].quantization.scale
            source = after.tensors[b.inputs[0]].quantization.scale[0]
            np.testing.assert_allclose(bias, np.array(tensor.quantization.scale) * source, rtol=1e-6)


def test_halves_of_a_convolution_share_a_scale(exact: Any) -> None:
    graph = exact("b1", apart=deploy.APART)
    found = tflite.read(quantise_graph(graph, measure(graph, clips(2)), one_scale=True)).subgraphs[0]
    scales: dict[int, set[tuple[float, ...]]] = {}
    for operator in found.operators:
        if operator.name == "CONV_2D":
            scales.setdefault(operator.inputs[0], set()).add(found.tensors[operator.inputs[1]].quantization.scale)
    # the second convolution of the network's input and of every block's is the tanhs'
    assert all(len(each) == 1 and len(scale) == 1 for each in scales.values() for scale in each)
    depthwise = [found.tensors[o.inputs[1]] for o in found.operators if o.name == "DEPTHWISE_CONV_2D"]
    (kernel,) = [tensor for tensor in depthwise if tensor.shape[2] == 6]
    assert len(kernel.quantization.scale) == 1
    largest = np.abs(np.frombuffer(kernel.data, np.int8).reshape(6, -1).astype(int)).max(axis=0)
    assert (largest == largest[0]).all() and largest[0] > 127 / (1 + ROOM) - 1, "each channel uses all steps"


@pytest.mark.slow
def test_a_calm_scale_is_hardly_wider_and_hardly_ever_rounded_otherwise() -> None:
    before, after = [], []
    for scale in np.exp(np.random.default_rng(0).uniform(np.log(6e-4), np.log(0.02), 20)):
        uses = [(0.04, 0.04), (0.04, 0.08)]
        chosen = calm(scale, uses)
        assert scale * (1 - 1e-6) <= chosen <= scale * (1 + ROOM + 1e-6)
        for s, counts in ((scale, before), (chosen, after)):
            counts.append(sum(int(mismatches(np.array([s], np.float32), *use)[0]) for use in uses))
        assert after[-1] <= before[-1]
    assert np.median(before) > 200 and np.median(after) < np.median(before) / 3, "at the middles of 2 x 256 steps"


@pytest.mark.parametrize("operator", ["LOGISTIC", "TANH"])
@pytest.mark.parametrize("spread", [0.5, 1.5, 2.5, 4.0, 8.0])
def test_a_gate_has_the_range_that_costs_least_behind_it(operator: str, spread: float) -> None:
    """Against quantised numbers themselves: no other share is better by more than a twentieth."""
    x = spread * np.random.default_rng(0).standard_normal(40_000).astype(np.float32)
    histogram = _Histogram()
    histogram.add(x)

    def squash(values: np.ndarray) -> np.ndarray:
        return np.tanh(values) if operator == "TANH" else 1 / (1 + np.exp(-values))

    def error(bounds: tuple[float, float]) -> float:
        scale, zero = INT8.scale_and_zero(bounds)
        steps = np.clip(np.rint(x / scale) + zero, INT8.low, INT8.high)
        return float(((squash((steps - zero) * scale) - squash(x)) ** 2).sum())

    chosen = histogram.least_error_behind({operator}, GATE_RANGE)
    assert error(chosen) <= 1.05 * min(error((share * GATE_RANGE[0], share * GATE_RANGE[1])) for share in SHARES)
    if operator == "LOGISTIC" and spread >= 4:
        assert chosen == GATE_RANGE
    if operator == "TANH" and spread <= 4:
        assert chosen[0] == GATE_RANGE[0] / 2, "a tanh is nearly flat at 3, whatever reaches farther"


@given(st.floats(1e-3, 0.02), st.integers(-200_000, 200_000))
def test_sums_between_the_middles_are_rounded_alike(factor: float, total: int) -> None:
    """What `mismatches` does not look at: the two ways differ only next to the middle of two steps."""
    x = np.array([total])
    if Multiplier.nearest(factor)(x) != RoundedOnce.nearest(factor)(x):
        assert abs(abs(total * factor) % 1 - 0.5) < 3 * factor


def test_no_product_of_two_gates_is_rounded_otherwise_by_xnnpack() -> None:
    """Of all 65,536: the reference kernels round twice, XNNPACK once. The step before, 1/127, had 200 that differed."""
    every = np.arange(-128, 128)
    products = (every + 128)[:, None] * every

    def apart(step: float) -> int:
        factor = np.float32(1 / 256) * np.float32(1 / 128) / np.float32(step)
        return int((Multiplier.nearest(factor)(products) != RoundedOnce.nearest(factor)(products)).sum())

    scale, zero = INT8.scale_and_zero(GATED_RANGE)
    assert zero == 0 and scale == np.float32(1 / 127.5) and apart(scale) == 0 and apart(1 / 127) == 200


def test_a_channel_of_zeros_keeps_its_bias() -> None:
    kernel = np.zeros((2, 1, 3, 4), np.float32)
    kernel[0] = 1
    scales = weight_scales(kernel, 0, np.array([0.5, 3.0], np.float32), 0.01)
    assert (scales > 0).all() and 3.0 / (scales[1] * 0.01) < 2**31


# --- recipes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_makes_a_bundle(
    name: str, slim: Any, front_end: FrontEndConfig, calibration: convert.Calibration, tmp_path: Path
) -> None:
    made = convert.export(
        tmp_path / "m.tflite", slim, name="m", family="swishnet", precision=name, front_end=front_end, classes=CLASSES,
        training={}, calibration=calibration,
    )  # fmt: skip
    x = clips(12, 98, seed=9)
    error = np.abs(predict(made, x) - np.asarray(slim(x)))
    assert error.mean() < {"static-int8": 0.05, "dynamic-int8": 0.05, "int16x8": 0.02}.get(name, 2e-3)
    recipe = RECIPES[name]
    kind = made.info["forms"]["clip"]["input"]["dtype"]
    assert kind == (recipe.activations if recipe.kind else "float32") and made.info["precision"] == recipe.precision
    assert (made.info["calibration"] is None) == (recipe.kind is None)
    again = bundle.read(made.path)
    assert SignatureSession(again.flatbuffer, "dense").output_shape[2] == deploy.DENSE_BLOCK


def test_recipes_that_make_no_sense() -> None:
    assert recipe_of("int8") is RECIPES["static-int8"] and recipe_of("int8", ranges="percentile").ranges == "percentile"
    for arguments, message in (
        (("int4",), "recipe 'int4' is unknown"), (("int8", "median"), "range choice 'median'"),
        (("float32", "mse"), "has no ranges"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            recipe_of(arguments[0], ranges=arguments[1] if len(arguments) > 1 else None)


def test_a_static_recipe_needs_clips(slim: Any) -> None:
    with pytest.raises(ConfigError, match="static-int8 needs calibration clips"):
        convert.convert(slim, precision="int8")


def test_the_calibration_list_can_be_made_again() -> None:
    sets = [(clips(30, n, seed=n), [f"r{i}" for i in range(30)]) for n in (48, 98, 198)]
    a, b = (convert.sample_clips(sets, 12, seed=3, drawn={"split": "train"}).provenance() for _ in range(2))
    assert a == b and a["clips"] == 12 and a["seed"] == 3 and a["split"] == "train" and a["recordings"]
    assert convert.sample_clips(sets, 12, seed=4).provenance()["sha256"] != a["sha256"]


# --- any network ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("name", "features", "step"), [("allconv-mel", 40, 10), ("mobilenet", 64, 1)])
def test_any_network_can_be_resized_and_quantised(name: str, features: int, step: int) -> None:
    from edge_bench.train.models import build

    keras.utils.set_random_seed(1)
    model = build(name)
    form = deploy.general(model, frames=198)
    assert form.clip == {"least": step, "step": step}
    x = clips(6, form.frames, features)
    made = convert.convert_deployed(form, recipe_of("int8"), convert.Calibration(x, ("random",) * 6))
    for frames in (50, 100):
        run = Session(made.exact, frames=frames).run
        np.testing.assert_allclose(run(x[:1, None, :frames]), model(x[:1, :frames]), atol=1e-4)
    session = Session(made.flatbuffer)
    fed = quantise(x[:1, None], *session.input_quantization, session.input_dtype)
    assert np.abs((session.run(fed).astype(float) + 128) / 256 - np.asarray(model(x[:1]))).max() < 0.1
    assert len(made.flatbuffer) < 0.5 * len(made.exact)


def test_a_network_of_one_length(tmp_path: Path) -> None:
    inputs = keras.Input((16, 24, 1))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    x = keras.layers.Flatten()(keras.layers.MaxPooling2D(2)(x))
    x = keras.layers.Dense(3, name="pooled_logits")(x)
    model = keras.Model(inputs, keras.layers.Softmax(name="probabilities")(x))
    form = deploy.general(model, frames=198)
    assert form.frames == 24 and form.clip == {"least": 24, "step": 0}
    x = clips(8, 24, 16)
    calibration = convert.Calibration(x, ("random",) * 8)
    config = FrontEndConfig(coefficients=16).normalised([0.0] * 16, [1.0] * 16)
    made = convert.export(
        tmp_path / "one.tflite", model, name="one", family="test", precision="int8", front_end=config,
        classes=CLASSES, training={}, calibration=calibration,
    )  # fmt: skip
    wanted = np.asarray(model(x.transpose(0, 2, 1)[..., None]))
    assert np.abs(predict(made, x) - wanted).max() < 0.05
    longer = np.concatenate([clips(8, 10, 16, seed=8), x], axis=1)
    np.testing.assert_array_equal(predict(made, longer), predict(made, x), "the oldest frames are dropped")
    with Classifier(made, clip_s=2.0) as classifier:
        assert classifier.network_input(longer[0]).shape == (1, 1, 24, 16)
    trained = qat.fake_quantised(form, calibration, recipe_of("int8"))
    assert trained(x).shape == (8, 3)


def test_a_network_that_takes_no_clips() -> None:
    model = keras.Sequential([keras.Input((60,)), keras.layers.Dense(3)])
    with pytest.raises(ConfigError, match="a bundle feeds clips of one sound"):
        deploy.general(model, frames=198)


def test_lengths_that_make_no_sense(int8: bytes) -> None:
    assert bundle.parse(with_info(int8, frames={"least": 30, "step": 10})).padded_frames(98) == 90
    assert bundle.parse(with_info(int8, frames={"least": 30, "step": 0})).padded_frames(98) == 30
    assert bundle.parse(with_info(int8, frames={"least": 30, "step": 10})).padded_frames(5) == 30
    for frames in ({}, {"least": 0, "step": 1}, {"least": 5, "step": -1}, {"least": 5.0, "step": 1}, [5, 1], 7):
        with pytest.raises(BundleError, match="frames must hold"):
            bundle.parse(with_info(int8, frames=frames))


@given(st.integers(1, 40), st.integers(1, 40))
def test_fitted_clips_end_alike(have: int, want: int) -> None:
    x = clips(2, have, 3)
    got = fitted(x, want)
    assert got.shape == (2, want, 3)
    both = min(have, want)
    assert np.array_equal(got[:, want - both :], x[:, have - both :]) and not got[:, : want - both].any()


# --- fake quantisation ------------------------------------------------------------------------


@pytest.mark.slow
def test_fake_quantisation_says_what_int8_says(slim: Any, calibration: convert.Calibration) -> None:
    recipe = recipe_of("int8")
    for aim in ("balanced", "latency"):
        form = deploy.swishnet(slim, optimise=aim)
        model = qat.fake_quantised(form, calibration, recipe)
        made = qat.to_integers(model, form, recipe)
        assert made.flatbuffer == convert.convert_deployed(form, recipe, calibration).flatbuffer, "nothing was trained"
        runner = Executor(made.flatbuffer, frames=204)
        x = clips(20, 198, seed=2)
        fed = quantise(padded(x, 204), *runner.input_quantization, runner.input_dtype)
        got = (np.concatenate([runner.run(one[None, None]) for one in fed]).astype(float) + 128) / 256
        error = np.abs(got - np.asarray(model(x)))
        assert error.mean() < 1 / 256 and np.median(error) <= 1 / 256


@pytest.mark.slow
def test_training_moves_weights_and_ranges_and_keeps_zeros(slim: Any, calibration: convert.Calibration) -> None:
    form, recipe = deploy.swishnet(slim, optimise="latency"), recipe_of("int8")
    model = qat.fake_quantised(form, calibration, recipe)
    layer = model.get_layer("pooled_logits")
    before, ranges = layer.trained_constants(), layer.trained_ranges()
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    x, y = clips(64, 108, seed=3) * 1.5, np.arange(64) % 3
    losses = model.fit(x, y, batch_size=16, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    after = layer.trained_constants()
    assert all(np.array_equal(after[i] == 0, before[i] == 0) for i in before if before[i].ndim == 4)
    assert any(not np.array_equal(after[i], before[i]) for i in before)
    moved = {i for i in ranges if not np.allclose(ranges[i], layer.trained_ranges()[i])}
    assert moved and np.isfinite([r for pair in layer.trained_ranges().values() for r in pair]).all()
    made = qat.to_integers(model, form, recipe)
    assert bundle.describe(tflite.read(made.flatbuffer))["clip"]["input"]["dtype"] == "int8"


def test_only_int8_is_trained(slim: Any, calibration: convert.Calibration) -> None:
    with pytest.raises(ConfigError, match="is for static-int8"):
        qat.fake_quantised(deploy.swishnet(slim), calibration, recipe_of("int16x8"))


# --- noise by operator ------------------------------------------------------------------------


@pytest.mark.slow
def test_the_operator_that_was_spoilt_is_to_blame(exact: Any) -> None:
    graph = exact("b1")
    ranges = measure(graph, clips(8))
    operators = tflite.read(graph).subgraphs[0].operators
    target = next(n for n, o in enumerate(operators) if o.name == "ADD" and n > 30)
    honest = layer_noise(quantise_graph(graph, ranges), graph, clips(4, seed=1))
    assert min(layer.sqnr_db for layer in honest) > 5 and not any(layer.dead_channels for layer in honest)
    share = {i for group in groups(tflite.read(graph).subgraphs[0]) if operators[target].outputs[0] in group.members
             for i in group.members}  # fmt: skip
    for factor, key in ((60, "added"), (0.1, "saturated")):
        spoilt = {i: (factor * r[0], factor * r[1]) if i in share else r for i, r in ranges.items()}
        found = layer_noise(quantise_graph(graph, spoilt), graph, clips(4, seed=1))
        worst = to_blame(found)[0] if key == "added" else max(found, key=lambda layer: layer.saturated)
        assert worst.number == target


def test_what_a_gate_cuts_is_not_the_convolution_s_noise(exact: Any) -> None:
    graph, loud = exact(), 4 * clips(4, seed=1)
    ranges = measure(graph, loud)
    gates = {i for group in groups(tflite.read(graph).subgraphs[0]) if group.squashed_by for i in group.members}
    convolutions = {n for n, o in enumerate(tflite.read(graph).subgraphs[0].operators)
                    if o.name == "CONV_2D" and o.outputs[0] in gates}  # fmt: skip
    tensors = Executor(graph).tensors(loud[0][None, None])
    assert max(np.abs(tensors[i]).max() for i in gates) > 6, "some are cut"
    found = [layer for layer in layer_noise(quantise_graph(graph, ranges), graph, loud) if layer.number in convolutions]
    assert len(found) == len(convolutions) > 5
    assert all(layer.saturated == 0 and layer.sqnr_db > 15 for layer in found)


def test_two_networks_are_not_compared(exact: Any) -> None:
    with pytest.raises(BundleError, match="not the same network"):
        layer_noise(quantise_graph(exact(), measure(exact(), clips(1))), exact("b1"), clips(1))


def test_a_paired_interval_is_narrower_than_one_alone() -> None:
    from edge_bench.quantize.prove import paired_interval
    from edge_bench.train.clips import ClipSet

    rng = np.random.default_rng(0)
    recordings = np.repeat(np.arange(60), 10)
    labels = recordings % 3
    before = np.where(rng.random(600) < 0.8, labels, (labels + 1) % 3)
    after = before.copy()
    after[::50] = (labels[::50] + 2) % 3
    clip_set = ClipSet(np.zeros((600, 1, 1), np.float32), labels, recordings.astype(str), recordings)
    low, high = paired_interval(clip_set, before, after, 3)
    assert 0 < low < 2 < high < 4 and high - low < 3
    assert paired_interval(clip_set, before, before, 3) == (0, 0)


def test_a_bundle_takes_recordings_from_beside_the_corpus(tmp_path: Path) -> None:
    from edge_bench.quantize.source import open_source

    assert open_source("swishnet-slim-float32", extra=[tmp_path]).extra == (tmp_path,)
    assert open_source("swishnet-slim-float32").extra == ()


def test_tflite_runtime_is_evaluated_beside_tensorflow() -> None:
    """It does not work in this process, which has loaded TensorFlow."""
    pytest.importorskip("tflite_runtime")
    from edge_bench.train.evaluate import open_model

    clips = np.random.default_rng(0).standard_normal((4, 98, 20)).astype(np.float32)
    answers = [open_model("swishnet-slim-int8", backend)[3](clips) for backend in ("tflite-runtime", "litert")]
    assert answers[0].shape == (4, 3)
    np.testing.assert_allclose(answers[0], answers[1], atol=0.1)
