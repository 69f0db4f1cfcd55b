"""What cannot be trained is refused, and named."""
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from keras import ops
from networks import CLASSES, SHAPE, Declared, OnParts, build, conv, head, norm, rows

from system.command_line import InputError
from training.checks import check


class DeclaredWrongly(Declared):
    image_by_image = True

    def call(self, x):
        return x - tf.reduce_mean(x, 0)


class DeclaredLoss(Declared):
    image_by_image = True

    def call(self, x):
        self.add_loss(tf.reduce_sum(x))
        return x


class RandomOnParts(OnParts):
    def on_parts(self, parts):
        return [x + tf.random.normal(x.shape) for x in parts]


class OnePart(OnParts):
    def on_parts(self, parts):
        return parts[:1]


class NumpyRandom(L.Layer):
    def call(self, x):
        return x * np.random.rand()


class Stateful(L.Layer):
    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, x):
        self.calls.assign_add(1.0)
        return x


HIDDEN = tf.Variable(2.0)


class OwnModel(keras.Model):
    def call(self, x, training=None):
        return super().call(x) * 2


REFUSED = {  # edit, words of the line
    "random crop": (lambda x: head(L.RandomFlip()(x)), ["random_flip", "Dropout"]),
    "alpha dropout": (lambda x: head(L.AlphaDropout(0.2)(conv(x))), ["AlphaDropout"]),
    "gaussian dropout": (lambda x: head(L.GaussianDropout(0.2)(conv(x))), ["GaussianDropout"]),
    "dropout within attention": (lambda x: head(L.MultiHeadAttention(1, 4, dropout=0.2)(
        rows(x), rows(x))), ["MultiHeadAttention", "random"]),
    "dropout within an LSTM": (lambda x: head(L.LSTM(4, recurrent_dropout=0.2)(rows(x))), ["LSTM"]),
    "random numbers in a lambda": (lambda x: head(L.Lambda(
        lambda v: v + tf.random.normal([4, 6, 1]))(x)), ["Lambda", "RandomStandardNormal"]),
    "numpy in a lambda": (lambda x: head(L.Lambda(lambda v: tf.ensure_shape(tf.numpy_function(
        np.sin, [v], tf.float32), v.shape), output_shape=SHAPE)(x)), ["Lambda", "PyFunc"]),
    "a state": (lambda x: head(Stateful()(x)), ["Stateful", "state"]),
    "an unknown variable": (lambda x: head(L.Lambda(lambda v: HIDDEN * v)(x)),
                            ["Lambda", "add_weight"]),
    "numpy's random numbers": (lambda x: head(NumpyRandom()(x)), ["NumpyRandom", "NumPy"]),
    "declared wrongly": (lambda x: head(DeclaredWrongly()(x)), ["DeclaredWrongly", "parts"]),
    "declared, and adds a loss": (lambda x: head(DeclaredLoss()(x)), ["DeclaredLoss", "loss"]),
    "random on parts": (lambda x: head(RandomOnParts()(x)), ["RandomOnParts", "on_parts"]),
    "fewer parts": (lambda x: head(OnePart()(x)), ["OnePart"]),
    "another number of rows": (lambda x: head(ops.pad(ops.diff(conv(x), axis=0), (
        (1, 0), (0, 0), (0, 0), (0, 0)))), ["diff", "6 rows for 7"]),
    "float64": (lambda x: head(conv(x, dtype="float64")), ["conv2d/kernel", "float64", "mixed"]),
    "all of bfloat16": (lambda x: head(L.BatchNormalization(dtype="bfloat16")(x)), ["bfloat16"]),
    "batch norm over rows": (lambda x: head(norm(axis=1)(conv(x))), ["axis"]),
    "batch renorm": (lambda x: head(norm(renorm=True)(conv(x))), ["renorm"]),
    "a mask": (lambda x: L.Dense(CLASSES)(L.LSTM(4)(L.Dropout(0.2)(L.Masking()(rows(x))))),
               ["dropout", "mask"]),
    "softmax": (lambda x: L.Dense(CLASSES, activation="softmax")(L.Flatten()(x)), ["softmax"]),
    "softmax layer": (lambda x: L.Softmax()(head(x)), ["softmax"]),
    "softmax of a tensor": (lambda x: ops.softmax(head(x)), ["softmax"]),
    "softmax in a nested model": (lambda x: keras.Sequential([
        keras.Input(SHAPE), L.Flatten(), L.Dense(CLASSES, activation="softmax")], name="all")(x),
                                  ["'all'", "probabilities", "logits"]),
    "softmax, then float32": (lambda x: L.Activation("linear", dtype="float32")(L.Softmax(
        dtype="mixed_bfloat16")(head(x))), ["softmax"]),
    "softmax, reshaped": (lambda x: L.Reshape((CLASSES,))(L.Softmax()(head(x))), ["softmax"]),
    "average of softmaxes": (lambda x: L.Average()([L.Softmax()(head(x)), ops.softmax(head(x))]),
                             ["softmax"]),
    "softmax in a lambda": (lambda x: L.Activation(lambda v: ops.softmax(v))(head(x)),
                            ["softmax"]),
    "maps for logits": (lambda x: conv(x), ["logits", "(None, 4, 6, 4)"]),
    "wrong classes": (lambda x: L.Dense(7)(L.Flatten()(x)), ["(None, 3)", "(None, 7)"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_refused_and_named(name):
    edit, words = REFUSED[name]
    with pytest.raises(InputError) as error:
        check(build(edit), SHAPE, CLASSES)
    assert "\n" not in str(error.value) and all(word in str(error.value) for word in words)


@pytest.mark.parametrize("edit", [
    lambda x: L.Dense(CLASSES, kernel_initializer="zeros")(L.Flatten()(x)),  # sum 0
    lambda x: ops.relu(head(x)), lambda x: ops.log_softmax(head(x)),
    lambda x: ops.softmax(head(x)) - 1])
def test_logits_are_no_probabilities(edit):
    check(build(edit), SHAPE, CLASSES)


@pytest.mark.parametrize("said, edit", [
    ("'mine'", lambda x: head(L.Lambda(lambda v: v / ops.std(v), name="mine")(x))),
    ("'mean'", lambda x: head(x - ops.mean(x, axis=0, keepdims=True))),
    ("'max'", lambda x: head(x / ops.max(x))),
    ("", lambda x: head(L.Lambda(lambda v: v / ops.std(v, axis=(1, 2, 3), keepdims=True))(x))),
    ("", lambda x: head(ops.transpose(ops.transpose(conv(x), (1, 0, 2, 3)), (1, 0, 2, 3)))),
    ("", lambda x: head(norm()(conv(x))))])
def test_images_that_are_mixed_in_evaluation_are_noted(said, edit, capsys):
    check(build(edit), SHAPE, CLASSES)
    out = capsys.readouterr().out
    assert out.count("\n") == ("mixes the images" in out) == bool(said), out
    assert said in out


def test_whole_numbers_for_images_are_refused():
    x = keras.Input(SHAPE, dtype="int32")
    with pytest.raises(InputError, match="float32.*int32"):
        check(keras.Model(x, head(x)), SHAPE, CLASSES)


def test_a_model_with_a_call_of_its_own_is_refused():
    x = keras.Input(SHAPE)
    with pytest.raises(InputError, match="call"):
        check(OwnModel(x, head(x)), SHAPE, CLASSES)
    for model in (keras.Model(x, [head(x)]), keras.Sequential([L.Flatten(), L.Dense(CLASSES)])):
        with pytest.raises(InputError, match="must return"):
            check(model, SHAPE, CLASSES)
    model = keras.Sequential([x, L.Flatten(), L.Dense(CLASSES)])
    check(model, SHAPE, CLASSES)
    with pytest.raises(InputError, match=r"images \(None, 9, 6, 1\).*takes \(None, 4, 6, 1\)"):
        check(model, (9, 6, 1), CLASSES)
