"""Batch moments where they are hard, and the layers of our own as Keras layers."""
import keras
import numpy as np
import pytest
import tensorflow as tf

from training.layers import BatchNormalization, Bias, channel_moments


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
