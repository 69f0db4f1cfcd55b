"""The recurrent layers: against Keras's, against numerical differentiation, and by hand."""
import keras
import numpy as np
import pytest
import tensorflow as tf

from cells import CELLS, all_states
from recurrent import Recurrent, Sweeps

KERAS = {"rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU,
         "gru-before": lambda *a, **k: keras.layers.GRU(*a, reset_after=False, **k)}


def states(cell, *arguments):
    """The layer's hidden states, (batch, steps, units)."""
    return tf.stack(all_states(cell)(*arguments), axis=1)


def arguments(cell, steps=5, batch=3, features=4, units=6, dtype=np.float64, seed=0):
    """x, W, U, b of ordinary size."""
    rng, gates = np.random.default_rng(seed), CELLS[cell].gates
    shapes = ((batch, steps, features), (features, gates * units), (units, gates * units),
              (2, gates * units) if cell == "gru" else (gates * units,))
    return [tf.constant(rng.normal(0, 0.7, shape), dtype) for shape in shapes]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("every", [True, False])
def test_a_layer_is_unrolled_once(cell, every):
    """For all sizes of a batch, in a graph and out of it, with the gradients of the plain function.
    """
    layer = Recurrent(cell, 6, return_sequences=every)
    layer.build((None, 5, 4))
    x, *_ = arguments(cell, dtype=np.float32)
    weights = [w.value for w in layer.weights]

    def gradients(function):
        with tf.GradientTape() as tape:
            loss = tf.add_n([tf.reduce_sum(tf.sin(function(part))) for part in tf.split(x, (2, 1))])
        return tape.gradient(loss, weights)
    plain = gradients(lambda part: states(cell, part, *weights)[:, 0 if every else -1:])
    for found in gradients(layer), tf.function(lambda: gradients(layer))():
        for a, b in zip(found, plain, strict=True):
            np.testing.assert_allclose(a, b, 1e-5, 1e-6)
    assert layer.in_evaluation.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("steps, features, units", [(7, 5, 6), (1, 3, 4), (28, 28, 32)])
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


@pytest.mark.parametrize("cell", CELLS)
def test_gradient_is_the_numerical_one(cell):
    weight = tf.random.stateless_normal((3, 5, 6), [3, 4], dtype=tf.float64)
    theory, numeric = tf.test.compute_gradient(
        lambda *a: tf.reduce_sum(weight * states(cell, *a)), arguments(cell), delta=1e-5)
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
    h = states("gru-before", x, *weights(W, U, [0.0, 0.0, 0.0]))
    np.testing.assert_allclose(h[0, :, 0], [0.25, 0.125 + half * np.tanh(one + half * 0.25)],
                               rtol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_layer_in_a_model(cell):
    x = keras.Input((5, 4))
    model = keras.Model(x, Recurrent(cell, 6)(Recurrent(cell, 7, return_sequences=True)(x)))
    assert model.output.shape == (None, 6)
    data = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    out = tf.function(model)(data)
    first, second = model.layers[1:]
    np.testing.assert_allclose(out, second(first(data)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(first(data)[:, -1], all_states(cell)(
        tf.constant(data), *map(tf.constant, first.get_weights()))[-1], rtol=1e-5, atol=1e-6)


def test_initialisation():
    layer = Recurrent("lstm", 8, seed=3)
    layer.build((None, 5, 4))
    for gate in np.split(layer.recurrent_kernel.numpy(), 4, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(8), atol=1e-5)
    assert layer.bias.numpy().tolist() == [0] * 8 + [1] * 8 + [0] * 16
    gates = np.split(layer.recurrent_kernel.numpy(), 4, axis=1)
    assert np.abs(gates[0] - gates[1]).max() > 0.1


@pytest.mark.parametrize("cell", CELLS)
def test_bfloat16_is_close(cell):
    whole = arguments(cell, dtype=np.float32)
    short = [tf.cast(a, tf.bfloat16) for a in whole]
    np.testing.assert_allclose(tf.cast(states(cell, *short), tf.float32),
                               states(cell, *whole), atol=0.05)


@pytest.mark.parametrize("cell", CELLS)
def test_sweeps_are_keras_layers_along_columns_then_rows(cell):
    """Every column of 2x2 patches down and up by itself, then every row right and left."""
    maps = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
    layer = Sweeps(cell, 5, seed=1)
    found = layer(maps).numpy()

    def both_ways(first, second, sequence):
        """(steps, features) -> (steps, 10), by Keras's layers with the weights of two cells."""
        states = []
        for mine, backwards in ((first, False), (second, True)):
            theirs = KERAS[cell](5, return_sequences=True, go_backwards=backwards)
            theirs.build((None, *sequence.shape))
            theirs.set_weights(mine.get_weights())
            h = theirs(sequence[None]).numpy()[0]
            states.append(h[::-1] if backwards else h)
        return np.concatenate(states, axis=1)

    for image, mine in zip(maps, found):
        patches = np.array([[image[i:i + 2, j:j + 2].ravel() for j in (0, 2, 4)] for i in (0, 2)])
        read = np.stack([both_ways(layer.down, layer.up, patches[:, j]) for j in range(3)], axis=1)
        theirs = np.stack([both_ways(layer.right, layer.left, row) for row in read])
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_an_unknown_cell_is_no_other():
    with pytest.raises(ValueError, match="'lstn'"):
        Recurrent("lstn", 4)


@pytest.mark.parametrize("cell", CELLS)
def test_bidirectional_takes_our_layers(cell):
    """Keras's wrapper over ours is Keras's wrapper over Keras's layer."""
    mine = keras.layers.Bidirectional(Recurrent(cell, 5, return_sequences=True, seed=2))
    theirs = keras.layers.Bidirectional(KERAS[cell](5, return_sequences=True))
    x = np.random.default_rng(0).normal(size=(3, 7, 4)).astype(np.float32)
    theirs.build(x.shape)
    mine.build(x.shape)
    theirs.set_weights(mine.get_weights())
    np.testing.assert_allclose(mine(x), theirs(x), rtol=1e-5, atol=1e-6)
    copy = Recurrent.from_config(mine.forward_layer.get_config())
    assert (copy.cell, copy.units, copy.seed, copy.go_backwards) == (cell, 5, 2, False)
