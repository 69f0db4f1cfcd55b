"""What is trained is what was written: networks as people edit them, against Keras's own pass."""
import itertools
import random
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from keras import ops
from networks import (
    CLASSES,
    EDITS,
    OWN_CELL,
    SHAPE,
    OnParts,
    block,
    build,
    conv,
    every_edit,
    head,
    norm,
    twice,
)

from training import graph, parallel
from training.cells import CELLS
from training.checks import check
from training.layers import BatchNormalization, Bias
from training.loop import cross_entropy
from training.parallel import Batch, forward, loss_and_gradients, measure_statistics


@pytest.fixture(autouse=True)
def own_cell(monkeypatch):
    monkeypatch.setitem(CELLS, "mean", OWN_CELL)


def noise(model, seed):
    """Let Keras's noise layers draw what is to be drawn, one call after the other."""
    numbers = itertools.count()

    def replace(layer):
        def call(x, training=None):
            shape = np.array(x.shape)
            if isinstance(layer, L.GaussianNoise):
                return x + layer.stddev * tf.random.stateless_normal(
                    shape, [seed[0] + next(numbers), seed[1]])
            if not layer.rate:
                return x
            if isinstance(layer, (L.SpatialDropout1D, L.SpatialDropout2D)):
                shape[1:-1] = 1
            elif layer.noise_shape:
                shape = np.where([n is None for n in layer.noise_shape], shape,
                                 [n or 0 for n in layer.noise_shape])
            uniform = tf.random.stateless_uniform(shape, [seed[0] + next(numbers), seed[1]])
            return x * tf.cast(uniform >= layer.rate, x.dtype) / (1 - layer.rate)
        layer.call = call
    for layer in graph.layers(model):
        if isinstance(layer, (L.Dropout, L.GaussianNoise)):
            replace(layer)


def keras_loss_and_gradients(model, x, targets, seed):
    """The loss that fit() would take, and its gradients, of the whole batch."""
    noise(model, seed)
    for layer in graph.layers(model):
        layer._losses.clear()
    with tf.GradientTape() as tape:
        logits = model(x, training=True)
        loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))
        loss += sum(tf.reduce_sum(tf.cast(own, tf.float32)) for own in model.losses)
    return loss, tape.gradient(loss, [v.value for v in model.trainable_variables])


class Untraced:
    """TensorFlow, but that tf.function leaves a function as it is: tracing takes most of the time.
    """

    def __getattr__(self, name):
        return getattr(tf, name)

    @staticmethod
    def function(compute, **_):
        compute.get_concrete_function = lambda *_: types.SimpleNamespace(graph=tf.Graph())
        return compute


def assert_same(model, *splits, seed=(3, 4), tolerance=2e-5):
    """Loss and gradients of a batch in parts are Keras's of the whole, relative to the largest.

    splits: the sizes of the parts, of equal sums; only for the last are the parts traced.
    """
    check(model, SHAPE, CLASSES)
    rng = np.random.default_rng(1)
    x = tf.constant(rng.normal(0.3, 1, (sum(splits[0]), *SHAPE)), tf.float32)
    targets = tf.one_hot(rng.integers(0, CLASSES, len(x)), CLASSES)
    variables = [v.value for v in model.trainable_variables]
    all_found = []
    for sizes in splits:
        with pytest.MonkeyPatch.context() as patch:
            if sizes is not splits[-1]:
                patch.setattr(parallel, "tf", Untraced())
            all_found.append(loss_and_gradients(
                model, variables, tf.split(x, sizes), tf.split(targets, sizes), tf.constant(seed),
                cross_entropy))
    wanted = keras_loss_and_gradients(model, x, targets, seed)
    for found in all_found:
        compare(model, found, wanted, tolerance)


def compare(model, found, wanted, tolerance):
    np.testing.assert_allclose(found[0], wanted[0], rtol=tolerance)
    for variable, mine, theirs in zip(model.trainable_variables, found[1], wanted[1], strict=True):
        theirs = tf.convert_to_tensor(theirs)
        np.testing.assert_allclose(mine, theirs, rtol=0, err_msg=variable.path,
                                   atol=tolerance * max(0.05, np.abs(theirs).max()))


@every_edit
def test_an_edited_network_is_computed_as_keras_computes_it(name):
    """As a whole, and in three parts, of which two are equal."""
    assert_same(build(EDITS[name]), [7], [3, 3, 1])


UNARY = [  # (4, 6, 4) -> (4, 6, 4)
    conv, lambda x: conv(x, activation="relu"), lambda x: L.DepthwiseConv2D(3, padding="same")(x),
    lambda x: norm()(x), lambda x: L.LayerNormalization()(x), lambda x: L.Dropout(0.3)(x),
    lambda x: L.SpatialDropout2D(0.3)(x), lambda x: L.GaussianNoise(0.2)(x),
    lambda x: L.LeakyReLU(0.2)(x), ops.relu, ops.tanh, lambda x: 2 * x - 1,
    lambda x: x - ops.mean(x, axis=0), lambda x: L.Dense(4)(x), lambda x: block()(x),
    lambda x: L.Activation("tanh", activity_regularizer="l2")(x),
    lambda x: L.UpSampling2D()(L.MaxPooling2D()(x)),
    lambda x: L.UpSampling2D()(Bias("ones")(L.MaxPooling2D()(x))),
    lambda x: L.UpSampling2D()(BatchNormalization()(L.MaxPooling2D()(x), of=x))]
BINARY = [lambda x, y: x + y, lambda x, y: L.Add()([x, y]), lambda x, y: 0.5 * x * ops.tanh(y),
          lambda x, y: L.Dense(4)(L.Concatenate()([x, y]))]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_random_graph_is_computed_as_keras_computes_it(seed):
    draw = random.Random(seed)
    keras.utils.set_random_seed(0)
    image = keras.Input(SHAPE)
    made, layers = [conv(image)], [L.Conv2D(4, 3, padding="same"), norm()]  # these are shared
    for _ in range(draw.randint(2, 7)):
        kind = draw.choice([UNARY, UNARY, BINARY, layers])
        made.append(draw.choice(kind)(*(draw.choice(made) for _ in range(1 + (kind is BINARY)))))
    model = keras.Model(image, L.Dense(CLASSES)(L.GlobalAveragePooling2D()(
        sum(made[1:], made[0]))))
    assert_same(model, draw.choice([[6], [3, 3], [4, 2], [3, 2, 1]]), tolerance=1e-4)


def test_predictions_are_float32_whatever_the_logits():
    model = build(lambda x: L.Dense(CLASSES, dtype="mixed_bfloat16")(L.Flatten()(x)))
    images = np.zeros((3, *SHAPE), np.uint8)
    assert parallel.make_predict(model, 0.0, 1.0, 1)(images).dtype == np.float32


def test_losses_of_half_the_precision_are_added():
    model = build(lambda x: head(conv(x, dtype="mixed_bfloat16", activity_regularizer="l2")))
    assert_same(model, [4, 3], tolerance=0.05)


def test_no_layer_is_known_by_its_name():
    """The rule of a layer follows from what it is: large dense layers, batch norm, own rules."""
    def kinds(edit):
        model = build(edit)
        return [parallel.kind_of(node) for node in graph.nodes(model)]
    assert kinds(lambda x: L.Dense(3, name="hidden")(L.Flatten()(x))) == ["images", "images"]
    assert kinds(lambda x: L.Dense(50_000, name="small")(L.Flatten()(x)))[-1] == "batch"
    assert kinds(lambda x: norm(trainable=False)(x)) == ["images"]
    assert kinds(lambda x: OnParts()(x)) == ["rule"] and kinds(lambda x: block()(conv(x))) == [
        "images", "model"]
    of_its_own = type("Mine", (L.Dense,), {})  # may compute anything
    assert kinds(lambda x: of_its_own(3)(x)) == ["joined"]


@pytest.mark.parametrize("name", ["batch norm with scale", "batch norm without centre",
                                  "batch norm in a nested model", "batch norm, bias left on",
                                  "batch norm of a dense layer", "nested sequential"])
def test_statistics_are_measured_whatever_the_network(name):
    """Evaluated on the images that they were measured on, a network gives what training gives."""
    model = build(EDITS[name])
    for layer in graph.layers(model):
        if isinstance(layer, L.Dropout):
            layer.rate = 0.0
    x = tf.constant(np.random.default_rng(0).normal(1, 2, (9, *SHAPE)), tf.float32)
    batch = Batch(9, [9], [0], tf.constant([0, 0]))
    wanted, = forward(model, [x], batch)
    assert np.abs(model(x, training=False) - wanted).max() > 1e-2
    measure_statistics(model, x)
    np.testing.assert_allclose(model(x, training=False), wanted, rtol=1e-4, atol=1e-4)


def test_statistics_of_a_layer_used_twice_are_the_mean_of_its_uses():
    model = build(lambda x: head(twice(L.BatchNormalization(epsilon=1e-9), x)))
    x = tf.constant(np.random.default_rng(0).normal(3, 2, (9, *SHAPE)), tf.float32)
    measure_statistics(model, x)
    layer = model.layers[1]
    mean, variance = np.mean(x), np.var(x)
    np.testing.assert_allclose(layer.moving_mean[0], (mean + 0) / 2, rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance[0], (variance + 1) / 2, rtol=1e-4)


@pytest.mark.parametrize("call", [lambda n, p, m: n(p, of=m), lambda n, p, m: n(p, m)])
def test_statistics_are_of_what_is_not_pooled(call):
    model = build(lambda x: head(call(BatchNormalization(name="n"), L.MaxPooling2D()(x), x)))
    x = tf.constant(np.random.default_rng(0).normal(3, 2, (9, *SHAPE)), tf.float32)
    measure_statistics(model, x)
    np.testing.assert_allclose(model.get_layer("n").moving_mean[0], np.mean(x), rtol=1e-4)


def test_frozen_statistics_stay():
    model = build(lambda x: head(L.BatchNormalization(trainable=False)(x)))
    measure_statistics(model, tf.ones((4, *SHAPE)))
    assert model.layers[1].moving_mean.numpy() == 0
