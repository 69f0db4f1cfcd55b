"""Networks as people edit them, for the tests of what computes, checks and records networks."""
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from keras import ops
from keras.src.utils import naming

from training.cells import CELLS, Cell, all_states, rnn
from training.layers import Bias
from training.recurrent import Recurrent, Sweeps

SHAPE, CLASSES = (4, 6, 1), 3


def conv(x, filters=4, **options):
    return L.Conv2D(filters, 3, padding="same", bias_initializer="random_normal", **options)(x)


def head(x):
    return L.Dense(CLASSES)(L.Flatten()(x))


def norm(**options):
    return L.BatchNormalization(beta_initializer="random_normal", gamma_initializer="random_uniform"
                                if options.get("scale", True) else "ones", **options)


def residual(x):
    y = conv(L.ReLU()(conv(x)))
    return y + conv(x)


def block():
    inner = keras.Input((4, 6, 4))
    y = norm()(L.Conv2D(4, 3, padding="same", name="inside")(inner))
    return keras.Model(inner, L.Dropout(0.3)(L.ReLU()(y)))


def twice(layer, x):
    return layer(layer(x))


def rows(x):
    return L.Reshape((4, 6))(x)


class Scaled(L.Layer):
    """A layer of a student's own: each image divided by the batch's largest pixel."""

    def build(self, shape):
        self.gain = self.add_weight(shape=shape[-1:], initializer="ones", name="gain")

    def call(self, x):
        self.add_loss(0.1 * tf.reduce_sum(tf.square(self.gain)))
        return self.gain * x / tf.reduce_max(tf.abs(x))


class Declared(L.Layer):
    image_by_image = True

    def call(self, x):
        return x - tf.reduce_mean(x, [1, 2, 3], keepdims=True)


class OnParts(L.Layer):
    def call(self, x):
        return x - tf.reduce_mean(x)

    def on_parts(self, parts):
        mean = tf.add_n([tf.reduce_sum(x) for x in parts]) / tf.cast(
            tf.add_n([tf.size(x) for x in parts]), tf.float32)
        return [x - mean for x in parts]


class Maximum(keras.Operation):
    """It has the name of one that acts on each number by itself, and does not."""

    def call(self, x):
        return x - ops.mean(x)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


class PerImageLoss(L.Layer):
    def call(self, x):
        self.add_loss(tf.reduce_mean(x, [1, 2, 3]))
        return x


def mean_cell(x, W, U, b):
    """A cell of a student's own: Elman's network, half as fast."""
    return rnn(0.5 * x, W, U, b)[0], lambda *dh: [
        g * s for g, s in zip(rnn(0.5 * x, W, U, b)[1](*dh), (0.5, 1, 1, 1))]


OWN_CELL = Cell(mean_cell, 1, 1, -1, None, None)

EDITS = {
    "conv, relu, pool": lambda x: head(L.MaxPooling2D()(L.ReLU()(conv(x)))),
    "conv, pool, relu": lambda x: head(L.ReLU()(L.MaxPooling2D()(conv(x)))),
    "third convolution without pooling": lambda x: head(L.ReLU()(conv(L.ReLU()(
        L.MaxPooling2D()(conv(x)))))),
    "strides": lambda x: head(L.ReLU()(conv(x, strides=2))),
    "average pooling": lambda x: head(L.AveragePooling2D(2)(L.ReLU()(conv(x)))),
    "layer norm after conv": lambda x: head(L.ReLU()(L.LayerNormalization()(conv(x)))),
    "group norm after conv": lambda x: head(L.ReLU()(L.GroupNormalization(2)(conv(x)))),
    "depthwise after conv": lambda x: head(L.DepthwiseConv2D(3)(conv(x))),
    "separable": lambda x: head(L.SeparableConv2D(4, 3)(x)),
    "batch norm, bias left on": lambda x: head(L.ReLU()(norm(scale=False)(conv(x)))),
    "batch norm with scale": lambda x: head(L.MaxPooling2D()(L.ReLU()(norm()(conv(x))))),
    "batch norm without centre": lambda x: head(L.ReLU()(norm(center=False)(conv(x)))),
    "batch norm of a dense layer": lambda x: L.Dense(CLASSES)(norm()(L.Dense(6)(L.Flatten()(x)))),
    "batch norm, trainable=False": lambda x: head(norm(trainable=False)(conv(x))),
    "batch norm used twice": lambda x: head(twice(norm(), conv(x))),
    "batch norm in a nested model": lambda x: head(block()(conv(x))),
    "nested models of equal names": lambda x: head(block()(block()(conv(x)))),
    "nested model used twice": lambda x: head(twice(block(), conv(x))),
    "nested sequential": lambda x: head(keras.Sequential(
        [keras.Input(SHAPE), L.Conv2D(4, 3), norm(), L.ReLU()])(x)),
    "dropout after conv": lambda x: head(L.Dropout(0.5)(conv(x))),
    "dropout on the image": lambda x: head(L.ReLU()(conv(L.Dropout(0.2)(x)))),
    "two dropouts of one width": lambda x: L.Dense(CLASSES)(L.Dropout(0.5)(L.Dense(6)(
        L.Dropout(0.3)(L.Dense(6)(L.Flatten()(x)))))),
    "one dropout used twice": lambda x: head(twice(L.Dropout(0.4), conv(x))),
    "noise_shape": lambda x: head(L.Dropout(0.5, noise_shape=(None, 1, 1, 4))(conv(x))),
    "noise_shape for all": lambda x: head(L.Dropout(0.5, noise_shape=(1, 4, 1, None))(conv(x))),
    "spatial dropout": lambda x: head(L.SpatialDropout2D(0.5)(conv(x))),
    "spatial dropout of a sequence": lambda x: head(L.SpatialDropout1D(0.5)(rows(x))),
    "gaussian noise": lambda x: head(L.ReLU()(conv(L.GaussianNoise(0.3)(x)))),
    "activation in conv": lambda x: head(conv(x, activation="relu")),
    "activation in a layer named hidden": lambda x: L.Dense(CLASSES)(
        L.Dense(6, activation="tanh", name="hidden")(L.Flatten()(x))),
    "activation of one's own": lambda x: head(conv(x, activation=lambda v: v / tf.norm(v))),
    "gelu on a tensor": lambda x: head(keras.activations.gelu(conv(x))),
    "every activation on a tensor": lambda x: head(sum(
        f(conv(x)) for f in (keras.activations.relu, keras.activations.silu, ops.softplus,
                             ops.relu6, ops.hard_shrink, keras.activations.tanh, ops.sigmoid))),
    "elu, prelu, selu": lambda x: head(L.ELU()(L.PReLU()(L.Activation("selu")(conv(x))))),
    "x + y": lambda x: head(L.ReLU()(residual(x))),
    "2 * images - 1": lambda x: head(conv(2 * x - 1)),
    "arithmetic with a constant": lambda x: head(conv(x) * np.float32([1, 2, 3, 4])),
    "less the batch's mean": lambda x: head(conv(x) - ops.mean(x, axis=0, keepdims=True)),
    "over the batch's largest": lambda x: head(conv(x) / ops.max(ops.abs(x))),
    "softmax over the batch": lambda x: head(L.Softmax(axis=0)(conv(x))),
    "indexing": lambda x: head(conv(x)[:, ::2, :, 1:]),
    "images in another order": lambda x: head(ops.flip(conv(x), axis=0)),
    "batch and rows exchanged": lambda x: head(ops.transpose(
        ops.transpose(L.Dense(3)(x), (1, 0, 2, 3)) + 1, (1, 0, 2, 3))),
    "patches as a batch": lambda x: L.Dense(CLASSES)(ops.reshape(
        L.Dropout(0.3)(L.Dense(2, activation="relu")(ops.reshape(x, (-1, 6)))), (-1, 8))),
    "concatenation": lambda x: head(L.Concatenate()([conv(x), L.ReLU()(conv(x)), x])),
    "concatenation of operations": lambda x: head(ops.concatenate([conv(x), conv(x)], axis=-1)),
    "several inputs": lambda x: head(L.Multiply()([L.Add()([conv(x), conv(x)]), conv(x)])),
    "layer used twice": lambda x: head(twice(L.Conv2D(4, 3, padding="same"), conv(x))),
    "transposed": lambda x: head(L.Conv2DTranspose(3, 3)(x)),
    "upsampling and padding": lambda x: head(L.Cropping2D(2)(L.ZeroPadding2D()(
        L.UpSampling2D()(conv(x))))),
    "global pooling": lambda x: L.Dense(CLASSES)(L.GlobalAveragePooling2D()(conv(x))),
    "attention": lambda x: head(L.MultiHeadAttention(2, 4)(rows(x), rows(x))),
    "attention over the batch": lambda x: head(L.MultiHeadAttention(
        1, 4, attention_axes=(0,))(conv(x), conv(x))),
    "attention with a regularizer": lambda x: head(L.MultiHeadAttention(
        2, 4, activity_regularizer="l2")(rows(x), rows(x))),
    "attention between images": lambda x: L.Dense(CLASSES)(L.AdditiveAttention()(
        [L.Flatten()(x), L.Dense(24)(L.Flatten()(x))])),
    "softmax over the batch, in time": lambda x: head(L.TimeDistributed(L.Softmax(axis=-2))(
        rows(x))),
    "softmax of one number an image": lambda x: L.Dense(CLASSES)(ops.expand_dims(
        L.Activation("softmax")(ops.squeeze(L.Dense(1)(L.Flatten()(x)), -1)), -1)),
    "an operation of one's own": lambda x: head(Maximum()(conv(x))),
    "one that adds a loss for each image": lambda x: head(PerImageLoss()(x)),
    "kernel regularizer": lambda x: head(conv(x, kernel_regularizer="l2", bias_regularizer="l1")),
    "activity regularizer": lambda x: head(conv(x, activity_regularizer="l2")),
    "activity regularizer of all": lambda x: head(L.Activation(
        "relu", activity_regularizer=lambda v: tf.norm(v))(conv(x))),
    "regularized batch norm": lambda x: head(norm(beta_regularizer="l2")(conv(x))),
    "constraint": lambda x: head(conv(x, kernel_constraint="max_norm")),
    "frozen": lambda x: head(conv(conv(x, trainable=False))),
    "one that adds a loss": lambda x: head(Scaled()(conv(x))),
    "declared": lambda x: head(Declared()(conv(x))),
    "on_parts": lambda x: head(OnParts()(conv(x))),
    "lambda": lambda x: head(L.Lambda(lambda v: v - tf.reduce_mean(v))(conv(x))),
    "sequence of rows, ours": lambda x: L.Dense(CLASSES)(Recurrent("gru", 5)(rows(x))),
    "two of ours joined": lambda x: L.Dense(CLASSES)(L.Concatenate()(
        [Recurrent("lstm", 4)(rows(x)), Recurrent("gru", 4, go_backwards=True, seed=3)(rows(x))])),
    "bidirectional of ours": lambda x: L.Dense(CLASSES)(L.Bidirectional(Recurrent("lstm", 4))(
        L.Bidirectional(Recurrent("gru", 4, return_sequences=True))(rows(x)))),
    "a cell of one's own": lambda x: L.Dense(CLASSES)(Recurrent("mean", 5)(rows(x))),
    "dropout between ours": lambda x: L.Dense(CLASSES)(L.Dropout(0.3)(Recurrent("gru", 5)(
        L.Dropout(0.2)(Recurrent("lstm", 5, return_sequences=True)(rows(x)))))),
    "sweeps": lambda x: head(Sweeps("gru", 3)(x)),
    "keras LSTM": lambda x: L.Dense(CLASSES)(L.LSTM(5)(rows(x))),
    "keras GRU, SimpleRNN": lambda x: L.Dense(CLASSES)(L.GRU(5)(
        L.SimpleRNN(4, return_sequences=True)(rows(x)))),
    "keras bidirectional": lambda x: L.Dense(CLASSES)(L.Bidirectional(L.GRU(4))(rows(x))),
    "time distributed": lambda x: head(L.TimeDistributed(L.Dense(3))(rows(x))),
    "no convolution": lambda x: L.Dense(CLASSES)(L.Dense(9, activation="relu")(L.Flatten()(x))),
    "ours, pooled, bias": lambda x: head(L.ReLU()(Bias("random_normal")(L.MaxPooling2D()(
        L.Conv2D(4, 3, use_bias=False)(x))))),
}


QUICK = {"conv, relu, pool", "batch norm with scale", "one dropout used twice",
         "less the batch's mean", "kernel regularizer", "sequence of rows, ours"}
every_edit = pytest.mark.parametrize("name", [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in EDITS])


def build(edit, seed=0):
    """Return the network of an edit, a function of Keras's symbolic images."""
    naming.reset_uids()
    keras.utils.set_random_seed(seed)
    x = keras.Input(SHAPE)
    return keras.Model(x, edit(x))


KERAS = {"rnn": L.SimpleRNN, "lstm": L.LSTM, "gru": L.GRU,
         "gru-reset-before": lambda *a, **k: L.GRU(*a, reset_after=False, **k)}


def states(cell, *arguments):
    """The layer's hidden states, (batch, steps, units)."""
    return tf.stack(all_states(cell)(*arguments), axis=1)


def arguments(cell, steps=5, batch=3, features=4, units=6, dtype=np.float64, seed=0):
    """x, W, U, b of ordinary size."""
    rng, gates = np.random.default_rng(seed), CELLS[cell].gates
    shapes = ((batch, steps, features), (features, gates * units), (units, gates * units),
              (2, gates * units) if cell == "gru" else (gates * units,))
    return [tf.constant(rng.normal(0, 0.7, shape), dtype) for shape in shapes]
