"""Batch moments where they are hard, the layers of our own as Keras layers, and the layers that see
a batch in parts, by hand."""
import keras
import numpy as np
import pytest
import tensorflow as tf

from training.layers import BatchNormalization, Bias, batch_norm, channel_moments
from training.parallel import Batch, dense, forward, shares


@pytest.mark.parametrize("ratio", [0, 3, 10, 100, 1000])
def test_moments_keep_their_digits_far_from_0(ratio):
    """Against float64, of channels whose mean is `ratio` deviations from 0."""
    x = np.random.default_rng(0).normal(ratio, 1, (16, 14, 14, 8))
    x = np.float32(x * [1, 2, 3, 4, 5, 6, 7, 0.01])
    mean, variance = channel_moments(tf.constant(x))
    exact = np.float64(x)
    np.testing.assert_allclose(variance, exact.var((0, 1, 2)), rtol=5e-5)
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-5,
                               atol=1e-5 * exact.std((0, 1, 2)).max())


@pytest.mark.parametrize("shape", [(5, 3), (1, 4), (4, 3, 2), (3, 4, 5, 2)])
def test_gradient_of_the_moments_is_tensorflows(shape):
    x = tf.constant(np.random.default_rng(0).normal(1, 2, shape), tf.float32)
    slopes = []
    for moments in (channel_moments, lambda x: tf.nn.moments(x, list(range(len(shape) - 1)))):
        with tf.GradientTape() as tape:
            tape.watch(x)
            mean, variance = moments(x)
            loss = tf.reduce_sum(tf.sin(mean) + tf.cos(variance))
        slopes.append((mean, variance, tape.gradient(loss, x)))
    for mine, theirs in zip(*slopes):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_bias_and_batch_norm_of_pooled_maps_by_hand():
    x = tf.constant([[[[1.0]], [[4.0]]], [[[2.0]], [[5.0]]]])  # two images of 2x1: mean 3, var 2.5
    assert Bias("ones")(x).numpy().ravel().tolist() == [2, 5, 3, 6]
    norm, pooled = BatchNormalization(epsilon=0.0), tf.constant([[[[4.0]]], [[[5.0]]]])
    np.testing.assert_allclose(norm(pooled, of=x, training=True).numpy().ravel(),
                               np.array([1, 2]) / np.sqrt(2.5), rtol=1e-6)
    norm.set_weights([np.float32([w]) for w in (2, 7, 3, 4)])  # gamma, beta, mean, variance
    np.testing.assert_allclose(norm(pooled).numpy().ravel(), [8, 9], rtol=1e-6)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in Keras's save
def test_layers_are_saved_and_loaded(tmp_path):
    x = keras.Input((4, 4, 1))
    pooled = keras.layers.MaxPooling2D()(x)
    model = keras.Model(x, Bias("ones")(BatchNormalization()(pooled, of=x)))
    model.save(tmp_path / "m.keras")
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype(np.float32)
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(images),
                                  model(images))


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


def test_batch_norm_by_hand():
    layer = keras.layers.BatchNormalization(scale=False, epsilon=0.0)
    layer.build((None, 1))
    parts = batch_norm(layer, [tf.constant([[1.0], [2.0]]),
                               tf.constant([[6.0]])])  # mean 3, var 14/3
    np.testing.assert_allclose(tf.concat(parts, 0)[:, 0],
                               np.array([-2, -1, 3]) / np.sqrt(14 / 3), 1e-5)


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


def test_shares():
    assert shares(5, 2) == [3, 2] and shares(4, 1) == [4] and shares(2, 4) == [1, 1]
