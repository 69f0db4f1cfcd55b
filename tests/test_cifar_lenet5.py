"""LeNet-5: the network, the augmentation, the training step, and what it learns."""
import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import run

import utils
from cifar_lenet5 import (
    RECIPES,
    Config,
    build_model,
    cross_entropy,
    evaluate,
    make_train_block,
    train_step,
)
from layers import batch_norm
from optimizers import create_slots
from options import parse
from parallel import Batch, dense, forward, make_predict, measure_statistics, shares
from preprocessing import (
    augment,
    displace,
    elastic_fields,
    moments,
    prepare,
    random_holes,
    random_transforms,
)
from summaries import tile_filters

TINY = dataclasses.replace(Config(), filters=(3, 4), units=5, batch=6, replicas=2)


def images(count=6, size=8, channels=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), np.uint8)


# ------------------------------------------------------------------------------------ network

def test_original_has_the_original_number_of_weights():
    model = build_model((28, 28, 1), 10, Config())
    # conv 5*5*1*32+32, conv 5*5*32*64+64, dense 7*7*64*1024+1024, dense 1024*10+10
    assert model.count_params() == 832 + 51_264 + 3_212_288 + 10_250 == 3_274_634
    biases = [variable.numpy() for variable in model.weights if variable.name == "bias"]
    assert len(biases) == 4 and all(np.all(bias == np.float32(0.1)) for bias in biases)


def test_network_follows_data_and_flags():
    config = dataclasses.replace(Config(), filters=(6, 7, 8), kernel_size=3, units=9,
                                 batch_norm="after")
    model = build_model((33, 20, 3), 4, config)
    assert model.get_layer("conv3").output.shape == (None, 9, 5, 8)  # 33 -> 17 -> 9, 20 -> 10 -> 5
    assert model.output.shape == (None, 4)
    without = build_model((28, 28, 1), 10, dataclasses.replace(Config(), units=0))
    assert without.count_params() == 832 + 51_264 + 3136 * 10 + 10


@pytest.mark.parametrize("option, value", [("activation", "gelu"), ("batch_norm", "layer"),
                                           ("precision", "float16")])
def test_an_unknown_option_is_no_other(option, value):
    with pytest.raises(KeyError, match=value):
        build_model((8, 8, 1), 3, dataclasses.replace(TINY, **{option: value}))
    with pytest.raises(KeyError, match="hinge"):
        cross_entropy(tf.ones((1, 2)), tf.ones((1, 2)), "hinge")


def test_pooling_before_the_rectifier_changes_nothing():
    config = dataclasses.replace(TINY, activation="leaky")
    model = build_model((8, 8, 1), 3, config)
    x = model.input
    for i in (1, 2):
        x = model.get_layer(f"bias{i}")(model.get_layer(f"conv{i}")(x))
        x = model.get_layer(f"pool{i}")(keras.ops.leaky_relu(x, 0.1))
    x = keras.ops.leaky_relu(model.get_layer("hidden")(model.get_layer("flatten")(x)), 0.1)
    textbook = keras.Model(model.input, model.get_layer("logits")(x))
    x = prepare(images(), 0.5, 0.25)
    np.testing.assert_allclose(model(x), textbook(x), rtol=1e-5, atol=1e-5)


def test_initialisation_depends_on_its_stream_alone():
    one, two, other = (build_model((8, 8, 1), 3, dataclasses.replace(TINY, seed=s))
                       for s in (1, 1, 2))
    for a, b in zip(one.get_weights(), two.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert np.any(one.get_weights()[0] != other.get_weights()[0])


# ------------------------------------------------------------------------------- training step

@pytest.mark.parametrize("place, precision", [
    ("none", "float32"), ("before", "float32"), ("after", "float32"), ("before", "bfloat16")])
def test_forward_is_keras_in_training_mode(place, precision):
    """Outputs and gradients over the parts of a batch are Keras's over the whole."""
    config = dataclasses.replace(TINY, batch_norm=place, dropout=0.0, precision=precision)
    model = build_model((7, 8, 1), 3, config)
    x, results = prepare(images(7)[:, :7], 0.5, 0.25), []
    batch = Batch(7, [4, 2, 1], [0, 4, 6], tf.constant([0, 0]))
    for network in (lambda: tf.concat(forward(model, tf.split(x, [4, 2, 1]), batch), 0),
                    lambda: model(x, training=True)):
        with tf.GradientTape() as tape:
            logits = network()
            loss = tf.reduce_sum(tf.square(logits))
        results.append([logits, *tape.gradient(
            loss, [v.value for v in model.trainable_variables])])
    tolerance = {"float32": 1e-4, "bfloat16": 0.05}[precision]
    for mine, theirs in zip(*results):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def test_dense_by_hand():
    """Three images, each a part: more parts than the layer has features."""
    layer = keras.layers.Dense(1)
    layer.build((None, 2))
    layer.set_weights([np.float32([[2.0], [3.0]]), np.float32([1.0])])
    parts = [tf.constant([[1.0, 1.0]]), tf.constant([[0.0, 2.0]]), tf.constant([[1.0, 0.0]])]
    with tf.GradientTape() as tape:
        tape.watch(parts)
        outputs = dense(layer, parts)
        loss = tf.reduce_sum(outputs[0]) + 10 * tf.reduce_sum(outputs[2])
    np.testing.assert_allclose(tf.concat(outputs, 0)[:, 0], [6, 7, 3])
    kernel, bias, *inputs = tape.gradient(loss, [layer.kernel.value, layer.bias.value, *parts])
    np.testing.assert_allclose(kernel[:, 0], [11, 1])
    np.testing.assert_allclose(bias, [11])
    np.testing.assert_allclose(tf.concat(inputs, 0), [[2, 3], [0, 0], [20, 30]])


@pytest.mark.parametrize("place", ["before", "after"])
def test_measured_statistics_are_the_batch_own(place):
    """With statistics measured on some images, evaluation of these images is training mode's."""
    model = build_model((8, 8, 1), 3, dataclasses.replace(TINY, batch_norm=place, dropout=0.0))
    x = prepare(images(7), 0.5, 0.25)
    expected = model(x, training=True)
    assert np.abs(model(x, training=False) - expected).max() > 0.1
    measure_statistics(model, x)
    np.testing.assert_allclose(model(x, training=False), expected, rtol=1e-4, atol=1e-5)


def test_batch_norm_by_hand():
    layer = keras.layers.BatchNormalization(scale=False, epsilon=0.0)
    layer.build((None, 1))
    parts = batch_norm(layer, [tf.constant([[1.0], [2.0]]),
                               tf.constant([[6.0]])])  # mean 3, var 14/3
    np.testing.assert_allclose(tf.concat(parts, 0)[:, 0],
                               np.array([-2, -1, 3]) / np.sqrt(14 / 3), 1e-5)


def test_batch_norm_of_what_is_pooled_is_batch_norm_pooled():
    """--batch-norm before is Keras's layer between convolution and pooling, in value and slope."""
    config = dataclasses.replace(TINY, batch_norm="before", dropout=0.0)
    model = build_model((8, 8, 1), 3, config)
    x, weights = model.input, []
    for i in (1, 2):
        conv, mine = model.get_layer(f"conv{i}"), model.get_layer(f"norm{i}")
        theirs = keras.layers.BatchNormalization(scale=False)
        x = model.get_layer(f"relu{i}")(model.get_layer(f"pool{i}")(theirs(conv(x))))
        theirs.set_weights(mine.get_weights())
        weights.append((mine.beta.value, theirs.beta.value))
    for name in ("flatten", "hidden", "relu_hidden", "logits"):
        x = model.get_layer(name)(x)
    textbook, x = keras.Model(model.input, x), prepare(images(7), 0.5, 0.25)
    slopes = []
    for network, which in ((model, 0), (textbook, 1)):
        with tf.GradientTape() as tape:
            logits = network(x, training=True)
            loss = tf.reduce_sum(tf.square(logits))
        slopes.append([logits, *tape.gradient(loss, [
            model.get_layer("conv1").kernel.value, *(pair[which] for pair in weights)])])
    for mine, theirs in zip(*slopes):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("replicas", [1, 3, 4])
def test_replicas_change_rounding_only(replicas):
    """Same images, augmentation, dropout and batch statistics, however a batch is shared out."""
    def weights(count):
        config = dataclasses.replace(
            TINY, batch_norm="after", flip=True, shift=2, rotate=10.0, zoom=0.1, cutout=3,
            replicas=count, label_smoothing=0.1, optimizer="sgd", rate=0.1)
        model = build_model((8, 8, 1), 3, config)
        slots = create_slots("sgd", [v.value for v in model.trainable_variables])
        data = tf.constant(images(20)), tf.constant(np.arange(20) % 3, tf.int32)
        step = tf.function(lambda i: train_step(model, slots, config, 0.5, 0.25, *data,
                                                tf.range(6) + i, 0.1, i))
        losses = [float(step(tf.constant(i))) for i in range(3)]
        return losses, model.get_weights()
    (loss_a, a), (loss_b, b) = weights(2), weights(replicas)
    np.testing.assert_allclose(loss_a, loss_b, rtol=1e-4)
    for x, y in zip(a, b):
        np.testing.assert_allclose(x, y, rtol=2e-3, atol=1e-5)


def test_dropout_drops_its_share_and_keeps_the_mean():
    x = keras.Input((1000,))
    model = keras.Model(x, keras.layers.Dropout(0.3)(x))

    def forward_dropping(sizes, seed):
        batch = Batch(100, sizes, [0, *sizes[:-1]], tf.constant(seed))
        return tf.concat(forward(model, [tf.ones((n, 1000)) for n in sizes], batch), 0).numpy()
    out = forward_dropping([60, 40], [1, 2])
    assert (np.mean(out == 0) == pytest.approx(0.3, abs=0.01)
            and out.mean() == pytest.approx(1, abs=0.01))
    assert set(np.unique(out)) == {0.0, np.float32(1 / 0.7)}
    np.testing.assert_array_equal(out, forward_dropping([100], [1, 2]))
    assert np.any(out != forward_dropping([100], [1, 3]))


def test_cross_entropy_by_hand_and_where_the_original_breaks():
    logits = tf.constant([[0.0, np.log(3.0)], [0.0, 1000.0]])
    targets = tf.constant([[1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(cross_entropy(targets, logits), [np.log(4), 1000], rtol=1e-6)
    unclamped = cross_entropy(targets, logits, "unclamped").numpy()
    assert unclamped[0] == pytest.approx(np.log(4)) and not np.isfinite(unclamped[1])


def test_evaluate_by_hand():
    loss, accuracy = evaluate(np.float32([[0, np.log(3)], [0, 0], [5, 0]]), np.array([1, 0, 1]))
    assert accuracy == pytest.approx(2 / 3)
    assert loss == pytest.approx((np.log(4 / 3) + np.log(2) + np.log(1 + np.exp(5))) / 3, rel=1e-5)


def test_predict_handles_any_count():
    model = build_model((8, 8, 1), 3, TINY)
    x = images(7)
    whole = model(prepare(x, 0.5, 0.25), training=False)
    for chunk in (1, 3, 100):
        np.testing.assert_allclose(make_predict(model, 0.5, 0.25, 2)(x, chunk), whole, 1e-4, 1e-5)


def test_shares():
    assert shares(5, 2) == [3, 2] and shares(4, 1) == [4] and shares(2, 4) == [1, 1]


# ------------------------------------------------------------------------------- augmentation

def transformed(x, config, seed=(0, 0)):
    t = random_transforms(seed, len(x), *x.shape[1:3], config)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(x, tf.float32), transforms=t, output_shape=x.shape[1:3], fill_value=0.0,
        interpolation="BILINEAR", fill_mode="CONSTANT").numpy()


def test_flip_and_shift_are_exact():
    x = np.repeat(images(1, size=9), 400, axis=0)
    flips = transformed(x, dataclasses.replace(TINY, flip=True))
    kinds = [np.array_equal(y, x[0]) + 2 * np.array_equal(y, x[0, :, ::-1]) for y in flips]
    assert set(kinds) == {1, 2} and 140 < kinds.count(1) < 260
    moved = transformed(x, dataclasses.replace(TINY, shift=1))[:, 3:6, 3:6]
    windows = {(r, c): x[0, 3 + r:6 + r, 3 + c:6 + c] for r in (-1, 0, 1) for c in (-1, 0, 1)}
    seen = [next(k for k, w in windows.items() if np.array_equal(w, y)) for y in moved]
    assert set(seen) == set(windows) and min(map(seen.count, windows)) > 20


def test_rotation_and_zoom_keep_the_centre_and_their_bounds():
    config = dataclasses.replace(TINY, rotate=30.0, zoom=0.2)
    t = random_transforms((0, 0), 1000, 9, 9, config).numpy()
    centre = t[:, [0, 3]] * 4 + t[:, [1, 4]] * 4 + t[:, [2, 5]]
    np.testing.assert_allclose(centre, 4, atol=1e-4)
    angle = np.degrees(np.arctan2(t[:, 3], t[:, 0]))
    scale = np.hypot(t[:, 0], t[:, 3])
    assert 27 < angle.max() <= 30 and -30 <= angle.min() < -27
    assert 1.15 < scale.max() <= 1.2001 and 1 / 1.2001 <= scale.min() < 0.87


def test_elastic_fields_are_smooth_and_of_unit_variance():
    fields = elastic_fields((0, 0), 2000, 12, 20).numpy()
    assert fields.shape == (2000, 12, 20, 2)
    np.testing.assert_allclose(fields.std(0), 1, atol=0.08)
    np.testing.assert_allclose(fields.mean(0), 0, atol=0.11)

    def correlation(a, b):
        return np.corrcoef(a.ravel(), b.ravel())[0, 1]
    # noise under a Gaussian of s pixels correlates over d pixels by exp(-d^2 / 4 s^2)
    near = correlation(fields[:, 6, 10], fields[:, 6, 14])
    assert near == pytest.approx(np.exp(-1 / 4), abs=0.06)
    assert abs(correlation(fields[..., 0], fields[..., 1])) < 0.05


def test_displacement_by_hand():
    x = np.float32([[0, 1, 2], [10, 11, 12], [20, 21, 22]])[None, ..., None]
    fields = np.zeros((1, 3, 3, 2), np.float32)
    np.testing.assert_array_equal(displace(x, fields), x)
    fields[0, 1, 1] = 0.25, -0.5  # from a quarter below and a half to the left: 11 + 2.5 - 0.5
    fields[0, 0, 0] = -3, 9       # outside: the border goes on
    seen = displace(x, fields).numpy()[0, ..., 0]
    assert seen[1, 1] == 13.0 and seen[0, 0] == 2.0 and seen[2, 2] == 22.0
    assert displace(np.float32([[[[7]]]]), np.ones((1, 1, 1, 2), np.float32)).numpy() == 7


def test_displacement_is_that_of_keras():
    x = np.float32(images(4, size=9, channels=3))
    fields = 3 * elastic_fields((1, 2), 4, 9, 9).numpy()
    n, y, x_, c = np.meshgrid(*map(np.arange, x.shape), indexing="ij")
    there = np.stack([n, y + fields[..., :1], x_ + fields[..., 1:], c])
    expected = keras.ops.image.map_coordinates(x, np.float32(there), order=1, fill_mode="nearest")
    np.testing.assert_allclose(displace(x, fields), expected, atol=1e-3)


def test_elastic_distorts_what_is_trained_on():
    config, x = dataclasses.replace(TINY, elastic=1.0), np.float32(images(6, size=9))
    seeds = {stream: tf.constant([1, 2]) for stream in ("transforms", "elastic", "holes")}
    one, = augment([x], seeds, config, 0.0, 1 / 255)
    parts = augment([x[:4], x[4:]], seeds, config, 0.0, 1 / 255)
    np.testing.assert_allclose(one, np.concatenate(parts), atol=1e-3)
    field = elastic_fields([1, 2], 6, 9, 9)
    np.testing.assert_allclose(one, displace(x, field), atol=1e-3)
    assert np.abs(one - x).mean() > 10


def test_cutout_hides_one_square():
    holes = random_holes((0, 0), 500, 12, 12, 4)[..., 0].numpy()
    areas = holes.sum((1, 2))
    assert areas.max() == 16 and areas.min() >= 4
    for hole in holes[:20]:
        rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
        assert hole.sum() == len(rows) * len(columns) and len(rows) <= 4


@pytest.mark.parametrize("standardize, expected", [(True, 0.0), (False, 51 / 255)])
def test_cutout_shows_the_mean(standardize, expected):
    """In a batch all of which is hole, the network is trained on the training pixels' mean."""
    config = dataclasses.replace(TINY, cutout=99, standardize=standardize, dropout=0.0)
    data = np.zeros((12, 8, 8, 1), np.uint8)
    data[::2] = 102
    mean, std = moments(data) if standardize else (0.0, 1.0)
    model = build_model((8, 8, 1), 3, config)
    slots = create_slots("adam", [v.value for v in model.trainable_variables])
    block = make_train_block(model, slots, config, mean, std, tf.constant(data),
                             tf.zeros(12, tf.int32))
    loss, = block(np.arange(6, dtype=np.int32)[None], np.float32([0]), 0).numpy()
    logits = model(np.full((1, 8, 8, 1), expected, np.float32))
    assert loss == pytest.approx(float(cross_entropy(tf.one_hot([0], 3), logits)[0]), rel=1e-5)


def test_tiles():
    kernel = np.arange(2 * 2 * 1 * 3, dtype=np.float32).reshape(2, 2, 1, 3)
    picture = tile_filters(kernel, columns=2)
    assert picture.shape == (7, 7, 1)  # 2 rows and columns of 2 pixels, gaps of 1 around each
    np.testing.assert_allclose(picture[1:3, 1:3, 0], [[0, 1 / 3], [2 / 3, 1]], rtol=1e-6)
    assert picture[4:6, 4:6].min() == 1 and tile_filters(np.zeros((2, 2, 1, 1)), 1)[1, 1, 0] == 0


# ------------------------------------------------------------------------------- whole runs

def test_recipes_and_overrides():
    config = parse(Config, RECIPES, ["--recipe", "original-bn", "--seed", "3"])
    assert (config.steps, config.batch, config.rate, config.dropout) == (2000, 64, 1e-3, 0.5)
    assert (config.batch_norm, config.activation, config.name) == ("before", "leaky", "original-bn")
    config = parse(Config, RECIPES, ["--recipe", "original", "--epochs", "2", "--kernel-size", "7",
                                          "--no-nesterov", "--filters", "8", "16", "32"])
    assert (config.steps, config.epochs, config.filters) == (0, 2.0, (8, 16, 32))
    assert config.name == "original-kernel-size=7-filters=8,16,32-epochs=2.0-no-nesterov"
    assert parse(Config, RECIPES, ["--steps", "7"]).epochs == 0
    assert parse(Config, RECIPES, []).name == "best"


def test_synthetic_is_learnable(tmp_path):
    status, out, err = run("cifar_lenet5.py", "--data", "synthetic", "--filters", 8, 16,
                           "--units", 64, "--steps", 400, "--evaluations", 1, "--snapshots", 0,
                           "--logs", tmp_path)
    result = json.loads(next(tmp_path.rglob("result.json")).read_text())
    assert result["test_accuracy"] > 0.8, out + err


def test_logits_loss_survives_what_the_unclamped_cannot():
    """At the same confident and wrong logits one loss has a gradient, the other has none."""
    logits = tf.Variable([[0.0, 200.0]])
    for kind, finite in (("logits", True), ("unclamped", False)):
        with tf.GradientTape() as tape:
            loss = cross_entropy(tf.constant([[1.0, 0.0]]), logits, kind)
        assert np.isfinite(tape.gradient(loss, logits)).all() == finite


def test_real_subset_trains(real_data, tmp_path):
    """One epoch on the real images is far above chance."""
    status, out, err = run("cifar_lenet5.py", "--epochs", 1, "--data-dir", real_data,
                           "--logs", tmp_path, "--evaluations", 1, "--snapshots", 0,
                           "--validation-fraction", 0)
    assert status == 0 and "ELEC 677 subset" in out, err
    result = json.loads(next(tmp_path.rglob("result.json")).read_text())
    assert result["test_accuracy"] > 0.25 and "validation_accuracy" not in result
    config = json.loads(next(tmp_path.rglob("config.json")).read_text())
    assert config["data"]["train"] == 10000 and config["data"]["checksum"] == utils.load_images(
        "elec677", real_data).checksum


def test_moments():
    half_white = np.array([0, 255] * 1500, np.uint8).reshape(1500, 2, 1, 1)
    assert moments(half_white) == (0.5, 0.5)
    images = np.random.default_rng(0).integers(0, 256, (2100, 3, 2, 3)).astype(np.uint8)
    np.testing.assert_allclose(moments(images), (images.mean() / 255, images.std() / 255))
    assert moments(np.full((2, 3, 3, 1), 51, np.uint8)) == (0.2, 1.0)  # all of one grey
