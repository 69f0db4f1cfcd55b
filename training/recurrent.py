"""The cells as Keras layers: over a sequence, and sweeping over the patches of an image."""
import functools

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from training.cells import CELLS, all_states, last_state


@keras.saving.register_keras_serializable("mnist_rnn")
class Recurrent(keras.layers.Layer):
    """One of CELLS as a Keras layer: (batch, steps, features) -> (batch, steps, units), or the last
    state. Like Keras's, with `go_backwards` it reads from the last step to the first and gives its
    states in the order in which it read; keras.layers.Bidirectional takes it.

    Orthogonal recurrent kernel (one orthogonal matrix a gate), Glorot-uniform kernel, zero bias but
    for the LSTM's forget gate, which starts at `forget_bias`, usually 1 (Jozefowicz et al. 2015).
    """
    image_by_image = True
    return_state = stateful = False  # what Bidirectional asks for

    def __init__(self, cell, units, return_sequences=False, go_backwards=False, seed=0,
                 forget_bias=1.0, **options):
        super().__init__(**options)
        if cell not in CELLS:
            raise ValueError(f"no cell {cell!r} in CELLS: {', '.join(CELLS)}")
        if forget_bias != 1 and CELLS[cell].forget_gate < 0:
            raise ValueError(f"the cell {cell!r} has no forget gate whose bias could be set")
        self.cell, self.units, self.seed, self.forget_bias = cell, units, seed, forget_bias
        self.return_sequences, self.go_backwards = return_sequences, go_backwards

    def get_config(self):
        return super().get_config() | {name: getattr(self, name) for name in (
            "cell", "units", "return_sequences", "go_backwards", "seed", "forget_bias")}

    def build(self, input_shape):
        initializers, cell = keras.initializers, CELLS[self.cell]
        width = cell.gates * self.units
        self.kernel = self.add_weight(shape=(input_shape[-1], width), name="kernel",
                                      initializer=initializers.GlorotUniform(seed=self.seed))

        def orthogonal(shape, dtype):
            return keras.ops.concatenate([initializers.Orthogonal(seed=self.seed + 1 + gate)(
                (self.units, self.units), dtype) for gate in range(cell.gates)], axis=1)
        self.recurrent_kernel = self.add_weight(shape=(self.units, width), name="recurrent_kernel",
                                                initializer=orthogonal)

        def bias(shape, dtype):
            forget = np.arange(width) // self.units == cell.forget_gate
            return keras.ops.cast(np.broadcast_to(self.forget_bias * forget, shape), dtype)
        self.bias = self.add_weight(shape=(2, width) if cell.biases == 2 else (width,),
                                    name="bias", initializer=bias)
        shapes = [(None, *input_shape[1:]), *(w.shape for w in self.weights)]
        # within the graph of loss_and_gradients, where no layer may call another
        self.in_training = (all_states if self.return_sequences else last_state)(self.cell)
        # one graph for chunks of any size: unrolling takes a second
        self.in_evaluation = tf.function(self.in_training, autograph=False, input_signature=[
            tf.TensorSpec(shape, self.compute_dtype) for shape in shapes])

    def call(self, inputs, initial_state=None, training=False):
        if initial_state is not None:
            raise ValueError("our cells begin with zeros; there is no initial_state")
        x = tf.reverse(inputs, [1]) if self.go_backwards else inputs
        function = self.in_training if training else self.in_evaluation
        h = function(x, *(tf.cast(tf.convert_to_tensor(w.value), inputs.dtype)
                          for w in self.weights))
        return tf.stack(h, axis=1) if self.return_sequences else h

    def compute_output_shape(self, input_shape):
        middle = (input_shape[1],) if self.return_sequences else ()
        return (input_shape[0], *middle, self.units)


def columns(maps):
    """Return patches of 2x2 column by column: maps (batch, height, width, channels) ->
    (batch * width / 2, height / 2, 4 channels)."""
    _, height, width, channels = maps.shape
    x = ops.reshape(maps, (-1, height // 2, 2, width // 2, 2, channels))
    return ops.reshape(ops.transpose(x, (0, 3, 1, 2, 4, 5)), (-1, height // 2, 4 * channels))


def sweep(maps, down, up, right, left):
    """Read patches of 2x2 along every column, then what these two layers say of each along every
    row: (batch, height, width, channels) -> (batch, height / 2, width / 2, 2 units).

    Each layer returns all its states; `up` and `left` read backwards.
    """
    _, height, width, _ = maps.shape
    height, width = height // 2, width // 2

    def both_ways(x, forward, backward):
        return ops.concatenate([forward(x), ops.flip(backward(x), axis=1)], axis=-1)
    x = both_ways(columns(maps), down, up)
    features = x.shape[-1]
    x = ops.transpose(ops.reshape(x, (-1, width, height, features)), (0, 2, 1, 3))
    x = both_ways(ops.reshape(x, (-1, width, features)), right, left)
    return ops.reshape(x, (-1, height, width, features))


@keras.saving.register_keras_serializable("mnist_rnn")
class Sweeps(keras.layers.Layer):
    """A layer of ReNet (Visin et al. 2015): maps (batch, height, width, channels) -> (batch,
    height / 2, width / 2, 2 units).

    Patches of 2x2 are read along every column, down and up, then what these two cells say of each
    patch along every row, right and left. All columns share two cells, all rows two others.
    Raises ValueError for maps with an odd side.
    """

    image_by_image = True

    def __init__(self, cell, units, seed=0, forget_bias=1.0, **options):
        super().__init__(**options)
        self.cell, self.units, self.seed, self.forget_bias = cell, units, seed, forget_bias
        self.down, self.up, self.right, self.left = (
            Recurrent(cell, units, return_sequences=True, go_backwards=name in ("up", "left"),
                      seed=seed + 10 * i, forget_bias=forget_bias, name=name,
                      dtype=self.dtype_policy)
            for i, name in enumerate(("down", "up", "right", "left")))

    def build(self, input_shape):
        _, height, width, features = self.compute_output_shape(input_shape)
        for layer in (self.down, self.up):
            layer.build((None, height, 4 * input_shape[-1]))
        for layer in (self.right, self.left):
            layer.build((None, width, features))

    def get_config(self):
        return super().get_config() | dict(
            cell=self.cell, units=self.units, seed=self.seed, forget_bias=self.forget_bias)

    def call(self, inputs, training=False):
        return sweep(inputs, *(functools.partial(layer, training=training) for layer in (
            self.down, self.up, self.right, self.left)))

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        if height % 2 or width % 2:
            raise ValueError(f"patches of 2x2 do not divide maps of {height}x{width}")
        return (batch, height // 2, width // 2, 2 * self.units)
