"""LeNet-5: the network, its training step, and what it learns."""
import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import run_script

import utils
from cifar_lenet5 import RECIPES, Config, build_model
from system.command_line import parse
from system.files import read_json
from training.augmentation import moments, prepare
from training.loop import cross_entropy, make_train_steps, train_step
from training.optimizers import create_slots
from training.parallel import Batch, forward, make_predict, measure_statistics

TINY = dataclasses.replace(Config(), filters=(3, 4), units=5, batch_size=6, threads=2)


def images(count=6, size=8, channels=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), np.uint8)


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
    config = dataclasses.replace(TINY, activation="leaky_relu")
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


@pytest.mark.parametrize("place", ["before", "after"])
def test_measured_statistics_are_the_batch_own(place):
    """With statistics measured on some images, evaluation of these images is training mode's."""
    model = build_model((8, 8, 1), 3, dataclasses.replace(TINY, batch_norm=place, dropout=0.0))
    x = prepare(images(7), 0.5, 0.25)
    expected = model(x, training=True)
    assert np.abs(model(x, training=False) - expected).max() > 0.1
    measure_statistics(model, x)
    np.testing.assert_allclose(model(x, training=False), expected, rtol=1e-4, atol=1e-5)


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


@pytest.mark.slow
def test_threads_change_rounding_only():
    """Same images, augmentation, dropout and batch statistics, however a batch is shared out."""
    def weights(count):
        config = dataclasses.replace(
            TINY, batch_norm="after", horizontal_flip=True, shift=2, rotation=10.0, zoom=0.1,
            cutout=3, threads=count, label_smoothing=0.1, optimizer="sgd", learning_rate=0.1)
        model = build_model((8, 8, 1), 3, config)
        slots = create_slots("sgd", [v.value for v in model.trainable_variables])
        data = tf.constant(images(20)), tf.constant(np.arange(20) % 3, tf.int32)
        step = tf.function(lambda i: train_step(model, slots, config, 0.5, 0.25, *data,
                                                tf.range(6) + i, 0.1, i), autograph=False)
        losses = [float(step(tf.constant(i))) for i in range(3)]
        return losses, model.get_weights()
    (loss_a, a), (loss_b, b) = weights(1), weights(3)
    np.testing.assert_allclose(loss_a, loss_b, rtol=1e-4)
    for x, y in zip(a, b):
        np.testing.assert_allclose(x, y, rtol=2e-3, atol=1e-5)


def test_predict_handles_any_count():
    model = build_model((8, 8, 1), 3, TINY)
    x = images(7)
    whole = model(prepare(x, 0.5, 0.25), training=False)
    for chunk in (1, 3, 100):
        np.testing.assert_allclose(make_predict(model, 0.5, 0.25, 2)(x, chunk), whole, 1e-4, 1e-5)


@pytest.mark.parametrize("standardize, expected", [
    (True, 0.0), pytest.param(False, 51 / 255, marks=pytest.mark.slow)])
def test_cutout_shows_the_mean(standardize, expected):
    """In a batch all of which is hole, the network is trained on the training pixels' mean."""
    config = dataclasses.replace(TINY, cutout=99, standardize=standardize, dropout=0.0)
    data = np.zeros((12, 8, 8, 1), np.uint8)
    data[::2] = 102
    mean, std = moments(data) if standardize else (0.0, 1.0)
    model = build_model((8, 8, 1), 3, config)
    slots = create_slots("adam", [v.value for v in model.trainable_variables])
    train_steps = make_train_steps(model, slots, config, mean, std, data, np.zeros(12, np.int32))
    loss, = train_steps(np.arange(6, dtype=np.int32)[None], np.float32([0]), 0).numpy()
    logits = model(np.full((1, 8, 8, 1), expected, np.float32))
    assert loss == pytest.approx(float(cross_entropy(tf.one_hot([0], 3), logits)[0]), rel=1e-5)


def test_recipes_and_overrides():
    config = parse(Config, RECIPES, ["--recipe", "original-bn", "--seed", "3"])
    assert (config.steps, config.batch_size, config.learning_rate) == (2000, 64, 1e-3)
    assert (config.batch_norm, config.activation) == ("before", "leaky_relu")
    assert (config.dropout, config.name) == (0.5, "original-bn")
    config = parse(Config, RECIPES, ["--recipe", "original", "--epochs", "2", "--kernel_size", "7",
                                     "--no-staircase", "--filters", "8", "16", "32"])
    assert (config.steps, config.epochs, config.filters) == (0, 2.0, (8, 16, 32))
    assert config.name == "original-epochs=2.0-no-staircase-kernel-size=7-filters=8,16,32"
    assert parse(Config, RECIPES, ["--steps", "7"]).epochs == 0
    with pytest.raises(SystemExit):
        parse(Config, RECIPES, ["--epochs", "inf"])
    assert parse(Config, RECIPES, []).name == "best"
    config = parse(Config, RECIPES, ["--data", "mnist", "--recipe", "mnist"])
    assert config.name == "mnist-data=mnist" and not config.horizontal_flip


QUICK = ("--filters", 8, 16, "--units", 64, "--evaluations", 1, "--snapshots", 0, "--shift", 0,
         "--threads", 1, "--precision", "float32")


@pytest.mark.slow
def test_real_digits(tmp_path):
    """Those that scikit-learn brings: they are there without a network, and never mirrored."""
    status, out, err = run_script("cifar_lenet5", "--data", "digits", "--steps", 60,
                                  "--batch-size", 32, *QUICK, cwd=tmp_path)
    assert (status, err) == (0, "") and "mirrored" not in out
    assert "8x8 grey, 1,437 train, 360 test" in out and "of 360 images" in out
    assert read_json(next(tmp_path.rglob("result.json")))["test_accuracy"] > 0.7
    assert read_json(next(tmp_path.rglob("config.json")))["options"]["horizontal_flip"] is False


@pytest.mark.slow
def test_real_subset_trains(real_data, tmp_path):
    """An epoch on the real images is far above chance."""
    status, out, err = run_script(
        "cifar_lenet5", *QUICK, "--epochs", 1, "--data-dir", real_data, "--validation-split", 0,
        cwd=tmp_path)
    assert status == 0 and "ELEC 677 subset" in out, err
    result = read_json(next(tmp_path.rglob("result.json")))
    assert result["test_accuracy"] > 0.25 and "validation_accuracy" not in result
    config = read_json(next(tmp_path.rglob("config.json")))
    assert config["data"]["train"] == 10000 and config["data"]["checksum"] == utils.load_images(
        "elec677", real_data).checksum
