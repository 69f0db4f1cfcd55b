"""The cells: against Keras's, against numerical differentiation, and by hand."""
import numpy as np
import pytest
import tensorflow as tf
from networks import KERAS, arguments, states

from training.cells import CELLS


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("steps, features, units", [
    (7, 5, 6), (1, 3, 4), pytest.param(28, 28, 32, marks=pytest.mark.slow)])
def test_same_as_keras(cell, steps, features, units):
    """Same weights: same outputs and gradients within 1e-5 relative, float32."""
    x, W, U, b = arguments(cell, steps, 4, features, units, np.float32)
    U = U / np.sqrt(units)
    theirs = KERAS[cell](units, return_sequences=True)
    theirs.build((None, steps, features))
    theirs.set_weights([W, U, b])
    weight = tf.random.stateless_normal((4, steps, units), [1, 2])  # some gradient at every step
    mine = [tf.Variable(v) for v in (W, U, b)]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        h = states(cell, x, *mine)
        k = theirs(x)
        a, b = (tf.reduce_sum(weight * tf.sin(y)) for y in (h, k))
    np.testing.assert_allclose(h, k, rtol=1e-5, atol=1e-6)
    pairs = zip(tape.gradient(a, [x, *mine]),
                [tape.gradient(b, x),
                 *tape.gradient(b, [w.value for w in theirs.trainable_weights])])
    for m, t in pairs:
        assert np.abs(m - t).max() <= 1e-5 * np.abs(t).max()


@pytest.mark.parametrize("cell", [pytest.param(
    name, marks=() if name == "gru" else pytest.mark.slow) for name in CELLS])
def test_gradient_is_the_numerical_one(cell):
    weight = tf.random.stateless_normal((2, 3, 2), [3, 4], dtype=tf.float64)
    theory, numeric = tf.test.compute_gradient(
        tf.function(lambda *a: tf.reduce_sum(weight * states(cell, *a)), autograph=False),
        arguments(cell, 3, 2, 4, 2), delta=1e-5)
    for a, b in zip(theory, numeric):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)
    assert all(np.abs(a).max() > 0.1 for a in theory)


def test_one_unit_by_hand():
    """Two steps of one unit, with x = 1, 1, and all weights chosen so that the numbers are round.
    """
    x = tf.ones((1, 2, 1))
    one, half = np.arctanh(0.5), 0.5  # tanh(one) = 0.5
    def weights(*values):
        return [tf.constant(value, tf.float32) for value in values]
    h = states("rnn", x, *weights([[one]], [[2.0]], [0.0]))
    np.testing.assert_allclose(h[0, :, 0], [0.5, np.tanh(one + 1)], rtol=1e-6)
    # LSTM with U = 0, i = f = o = 0.5, g = 0.5: c = 0.25, then 0.5 * 0.25 + 0.25 = 0.375
    h = states("lstm", x, *weights([[0.0, 0.0, one, 0.0]], [[0.0] * 4], [0.0] * 4))
    np.testing.assert_allclose(h[0, :, 0], half * np.tanh([0.25, 0.375]), rtol=1e-6)
    # GRUs with z = r = 0.5: h = 0.5 n, then 0.5 h + 0.5 n'; the variants differ in where r stands
    W, U = [[0.0, 0.0, one]], [[0.0, 0.0, 1.0]]
    two_biases = [[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]]  # r multiplies the second one too
    h = states("gru", x, *weights(W, U, two_biases))
    first = half * np.tanh(one + half * 2)
    np.testing.assert_allclose(
        h[0, :, 0], [first, half * first + half * np.tanh(one + half * (first + 2))], rtol=1e-6)
    h = states("gru-reset-before", x, *weights(W, U, [0.0, 0.0, 0.0]))
    np.testing.assert_allclose(h[0, :, 0], [0.25, 0.125 + half * np.tanh(one + half * 0.25)],
                               rtol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_bfloat16_is_close(cell):
    whole = arguments(cell, dtype=np.float32)
    short = [tf.cast(a, tf.bfloat16) for a in whole]
    np.testing.assert_allclose(tf.cast(states(cell, *short), tf.float32),
                               states(cell, *whole), atol=0.05)
