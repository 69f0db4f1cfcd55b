"""The layers that see a batch in parts, by hand."""
import keras
import numpy as np
import pytest
import tensorflow as tf

from training.layers import batch_norm
from training.parallel import Batch, dense, forward, shares


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
