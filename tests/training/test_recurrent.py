"""The cells as Keras layers: over a sequence, over the patches of an image, both ways."""
import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import KERAS, arguments, states

from training.cells import CELLS, all_states
from training.recurrent import Recurrent, Sweeps

every_cell = pytest.mark.parametrize("cell", [pytest.param(
    name, marks=() if name == "gru" else pytest.mark.slow) for name in CELLS])


@every_cell
@pytest.mark.parametrize("every", [True, False])
def test_a_layer_is_unrolled_once(cell, every):
    """For all sizes of a batch, in a graph and out of it, with the gradients of the plain function.
    """
    layer = Recurrent(cell, 6, return_sequences=every)
    layer.build((None, 3, 4))
    x, *_ = arguments(cell, steps=3, dtype=np.float32)
    weights = [w.value for w in layer.weights]

    def gradients(function):
        with tf.GradientTape() as tape:
            loss = tf.add_n([tf.reduce_sum(tf.sin(function(part))) for part in tf.split(x, (2, 1))])
        return tape.gradient(loss, weights)
    plain = gradients(lambda part: states(cell, part, *weights)[:, 0 if every else -1:])
    for found in gradients(layer), tf.function(lambda: gradients(layer), autograph=False)():
        for a, b in zip(found, plain, strict=True):
            np.testing.assert_allclose(a, b, 1e-5, 1e-6)
    assert layer.in_evaluation.experimental_get_tracing_count() == 1


@every_cell
def test_layer_in_a_model(cell):
    x = keras.Input((5, 4))
    model = keras.Model(x, Recurrent(cell, 6)(Recurrent(cell, 7, return_sequences=True)(x)))
    assert model.output.shape == (None, 6)
    data = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    out = tf.function(model, autograph=False)(data)
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
    for own in (Recurrent("lstm", 2, forget_bias=0.5), Sweeps("lstm", 2, forget_bias=0.5)):
        again = type(own).from_config(own.get_config())
        layer = getattr(again, "down", again)
        layer.build((None, 5, 4))
        assert layer.bias.numpy().tolist() == [0, 0, 0.5, 0.5, 0, 0, 0, 0]


@every_cell
def test_sweeps_are_keras_layers_along_columns_then_rows(cell):
    """Every column of 2x2 patches down and up by itself, then every row right and left."""
    maps = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
    layer = Sweeps(cell, 5, seed=1)
    found = layer(maps).numpy()

    def both_ways(first, second, sequences):
        """(n, steps, features) -> (n, steps, 10), by Keras's layers with two cells' weights."""
        states = []
        for mine, backwards in ((first, False), (second, True)):
            theirs = KERAS[cell](5, return_sequences=True, go_backwards=backwards)
            theirs.build((None, *sequences.shape[1:]))
            theirs.set_weights(mine.get_weights())
            h = theirs(sequences).numpy()
            states.append(h[:, ::-1] if backwards else h)
        return np.concatenate(states, axis=2)

    columns = np.array([[image[i:i + 2, j:j + 2].ravel() for i in (0, 2)]
                        for image in maps for j in (0, 2, 4)])
    read = both_ways(layer.down, layer.up, columns).reshape(2, 3, 2, 10)
    rows = read.transpose(0, 2, 1, 3).reshape(4, 3, 10)
    theirs = both_ways(layer.right, layer.left, rows).reshape(2, 2, 3, 10)
    np.testing.assert_allclose(found, theirs, rtol=1e-5, atol=1e-6)


def test_an_unknown_cell_is_no_other():
    with pytest.raises(ValueError, match="'lstn'"):
        Recurrent("lstn", 4)


@every_cell
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
