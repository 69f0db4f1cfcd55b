"""What is trained is what was written: networks as people edit them, against Keras's own pass."""
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras.src.utils import naming

import graph
import parallel
from cells import CELLS, Cell, rnn
from checks import check
from cifar_lenet5 import cross_entropy
from layers import BatchNormalization, Bias
from parallel import Batch, forward, loss_and_gradients, measure_statistics
from recurrent import Recurrent, Sweeps
from runs import InputError
from summaries import log_inside, norms_over_time

L, ops = keras.layers, keras.ops
SHAPE, CLASSES = (8, 8, 1), 3


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
    inner = keras.Input((8, 8, 4))
    y = norm()(L.Conv2D(4, 3, padding="same", name="inside")(inner))
    return keras.Model(inner, L.Dropout(0.3)(L.ReLU()(y)))


def twice(layer, x):
    return layer(layer(x))


def rows(x):
    return L.Reshape((8, 8))(x)


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


def mean_cell(x, W, U, b):
    """A cell of a student's own: Elman's network, half as fast."""
    return rnn(0.5 * x, W, U, b)[0], lambda *dh: [
        g * s for g, s in zip(rnn(0.5 * x, W, U, b)[1](*dh), (0.5, 1, 1, 1))]


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
    "noise_shape for all": lambda x: head(L.Dropout(0.5, noise_shape=(1, 8, 1, None))(conv(x))),
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
        L.Dropout(0.3)(L.Dense(2, activation="relu")(ops.reshape(x, (-1, 16)))), (-1, 8))),
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
        [L.Flatten()(x), L.Dense(64)(L.Flatten()(x))])),
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


@pytest.fixture(autouse=True)
def own_cell(monkeypatch):
    monkeypatch.setitem(CELLS, "mean", Cell(mean_cell, 1))


def build(edit, seed=0):
    naming.reset_uids()
    keras.utils.set_random_seed(seed)
    x = keras.Input(SHAPE)
    return keras.Model(x, edit(x))


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


def assert_same(model, *splits, seed=(3, 4), tolerance=2e-5):
    """Loss and gradients of a batch in parts are Keras's of the whole, relative to the largest.

    splits: the sizes of the parts, of equal sums.
    """
    check(model, SHAPE, CLASSES)
    rng = np.random.default_rng(1)
    x = tf.constant(rng.normal(0.3, 1, (sum(splits[0]), *SHAPE)), tf.float32)
    targets = tf.one_hot(rng.integers(0, CLASSES, len(x)), CLASSES)
    variables = [v.value for v in model.trainable_variables]
    all_found = [loss_and_gradients(model, variables, tf.split(x, sizes), tf.split(targets, sizes),
                                    tf.constant(seed), cross_entropy) for sizes in splits]
    wanted = keras_loss_and_gradients(model, x, targets, seed)
    for found in all_found:
        compare(model, found, wanted, tolerance)


def compare(model, found, wanted, tolerance):
    np.testing.assert_allclose(found[0], wanted[0], rtol=tolerance)
    for variable, mine, theirs in zip(model.trainable_variables, found[1], wanted[1], strict=True):
        theirs = tf.convert_to_tensor(theirs)
        np.testing.assert_allclose(mine, theirs, rtol=0, err_msg=variable.path,
                                   atol=tolerance * max(0.05, np.abs(theirs).max()))


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_network_is_computed_as_keras_computes_it(name):
    """In one, two and three parts."""
    assert_same(build(EDITS[name]), [7], [4, 3], [3, 2, 2])


UNARY = {  # (8, 8, 4) -> (8, 8, 4)
    "conv": conv, "conv + relu": lambda x: conv(x, activation="relu"),
    "depthwise": lambda x: L.DepthwiseConv2D(3, padding="same")(x),
    "batch norm": lambda x: norm()(x), "layer norm": lambda x: L.LayerNormalization()(x),
    "dropout": lambda x: L.Dropout(0.3)(x), "spatial": lambda x: L.SpatialDropout2D(0.3)(x),
    "noise": lambda x: L.GaussianNoise(0.2)(x), "leaky": lambda x: L.LeakyReLU(0.2)(x),
    "relu": lambda x: ops.relu(x), "double": lambda x: 2 * x - 1, "tanh": lambda x: ops.tanh(x),
    "pool": lambda x: L.UpSampling2D()(L.MaxPooling2D()(x)), "nested": lambda x: block()(x),
    "centred": lambda x: x - ops.mean(x, axis=0), "activity": lambda x: L.Activation(
        "tanh", activity_regularizer="l2")(x), "dense": lambda x: L.Dense(4)(x),
    "pooled bias": lambda x: L.UpSampling2D()(Bias("ones")(L.MaxPooling2D()(x))),
    "norm of pooled": lambda x: L.UpSampling2D()(BatchNormalization()(L.MaxPooling2D()(x), of=x))}
BINARY = {"add": lambda x, y: x + y, "Add": lambda x, y: L.Add()([x, y]),
          "times": lambda x, y: 0.5 * x * ops.tanh(y),
          "join": lambda x, y: L.Dense(4)(L.Concatenate()([x, y]))}


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_a_random_graph_is_computed_as_keras_computes_it(data):
    keras.utils.set_random_seed(0)
    image = keras.Input(SHAPE)
    made, layers = [conv(image)], [L.Conv2D(4, 3, padding="same"), norm()]  # these are shared
    for _ in range(data.draw(st.integers(2, 7))):
        kind = data.draw(st.sampled_from(["unary", "unary", "binary", "shared"]))
        pick = st.sampled_from(range(len(made)))
        if kind == "unary":
            made.append(UNARY[data.draw(st.sampled_from(sorted(UNARY)))](made[data.draw(pick)]))
        elif kind == "binary":
            join = BINARY[data.draw(st.sampled_from(sorted(BINARY)))]
            made.append(join(made[data.draw(pick)], made[data.draw(pick)]))
        else:
            made.append(data.draw(st.sampled_from(layers))(made[data.draw(pick)]))
    model = keras.Model(image, L.Dense(CLASSES)(L.GlobalAveragePooling2D()(
        sum(made[1:], made[0]))))
    assert_same(model, data.draw(st.sampled_from([[6], [3, 3], [4, 2], [3, 2, 1]])), tolerance=1e-4)


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
        lambda v: v + tf.random.normal([8, 8, 1]))(x)), ["Lambda", "RandomStandardNormal"]),
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
    "maps for logits": (lambda x: conv(x), ["logits", "(None, 8, 8, 4)"]),
    "wrong classes": (lambda x: L.Dense(7)(L.Flatten()(x)), ["(None, 3)", "(None, 7)"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_refused_and_named(name):
    edit, words = REFUSED[name]
    with pytest.raises(InputError) as error:
        check(build(edit), SHAPE, CLASSES)
    assert "\n" not in str(error.value) and all(word in str(error.value) for word in words)


def test_whole_numbers_for_images_are_refused():
    x = keras.Input(SHAPE, dtype="int32")
    with pytest.raises(InputError, match="float32.*int32"):
        check(keras.Model(x, head(x)), SHAPE, CLASSES)


def test_losses_of_half_the_precision_are_added():
    model = build(lambda x: head(conv(x, dtype="mixed_bfloat16", activity_regularizer="l2")))
    assert_same(model, [4, 3], tolerance=0.05)


def test_a_model_with_a_call_of_its_own_is_refused():
    x = keras.Input(SHAPE)
    with pytest.raises(InputError, match="call"):
        check(OwnModel(x, head(x)), SHAPE, CLASSES)
    for model in (keras.Model(x, [head(x)]), keras.Sequential([L.Flatten(), L.Dense(CLASSES)])):
        with pytest.raises(InputError, match="must return"):
            check(model, SHAPE, CLASSES)
    model = keras.Sequential([x, L.Flatten(), L.Dense(CLASSES)])
    check(model, SHAPE, CLASSES)
    with pytest.raises(InputError, match=r"images \(None, 9, 8, 1\).*takes \(None, 8, 8, 1\)"):
        check(model, (9, 8, 1), CLASSES)


# ---------------------------------------------------------------------------- what it is made of

def test_no_layer_is_known_by_its_name():
    """The rule of a layer follows from what it is: large dense layers, batch norm, own rules."""
    def kinds(edit):
        model = build(edit)
        return [parallel.kind_of(node) for node in graph.nodes(model)]
    assert kinds(lambda x: L.Dense(3, name="hidden")(L.Flatten()(x))) == ["images", "images"]
    assert kinds(lambda x: L.Dense(2 ** 14, name="small")(L.Flatten()(x)))[-1] == "batch"
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


@pytest.mark.parametrize("after", [lambda h: h, lambda h: L.LayerNormalization()(
    L.Dense(6, activation="relu")(h)), lambda h: L.Concatenate()([h, L.Dense(2)(h)])])
def test_norms_over_time_take_the_true_path(after):
    """d loss / d h_T is that of the layers from the last state to the logits, whatever they are."""
    keras.utils.set_random_seed(1)
    x = keras.Input(SHAPE)
    h = Recurrent("gru", 5)(rows(x))
    model = keras.Model(x, L.Dense(CLASSES)(after(h)))
    images = tf.constant(np.random.default_rng(0).normal(size=(6, *SHAPE)), tf.float32)
    labels = np.arange(6) % CLASSES
    states, rest = keras.Model(x, h)(images), keras.Model(h, model.output)
    with tf.GradientTape() as tape:
        tape.watch(states)
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, rest(states)))
    norms = norms_over_time(model, images, labels)
    np.testing.assert_allclose(norms["gradient"][-1], tf.reduce_mean(tf.norm(
        tape.gradient(loss, states), axis=1)), rtol=1e-5)
    np.testing.assert_allclose(norms["state"][-1], tf.reduce_mean(tf.norm(states, axis=1)), 1e-5)


@pytest.mark.parametrize("layer, kinds", [
    (lambda: L.LSTM(4), {"state", "gradient", "memory", "memory_gradient"}),
    (lambda: L.GRU(4), {"state", "gradient"}), (lambda: L.Bidirectional(L.GRU(4)), set()),
    (lambda: Recurrent("mean", 4), set()), (lambda: L.Flatten(), set()),
    (lambda: L.RNN(L.StackedRNNCells([L.LSTMCell(3), L.LSTMCell(4)])), set()),
    (lambda: lambda x: L.LSTM(4, return_state=True)(x)[0], set()),
    (lambda: lambda x: L.GRU(4)(sequences=x), {"state", "gradient"})])
def test_norms_over_time_of_any_network(layer, kinds):
    model = build(lambda x: L.Dense(CLASSES)(layer()(rows(x))))
    assert set(norms_over_time(model, tf.ones((2, *SHAPE)), np.array([0, 1]))) == kinds


def test_a_description_tells_networks_apart():
    """Equal for equal networks, whatever the precision, seeds and initial weights; else not."""
    def described(**options):
        return graph.describe(build(lambda x: head(conv(x, **options)), seed=len(options)))
    assert described() == described(dtype="mixed_bfloat16", kernel_initializer="zeros")
    for other in ({"strides": 2}, {"activation": "relu"}, {"dilation_rate": 2}):
        assert described() != described(**other)
    table = np.arange(32.0).reshape(8, 4).astype(np.float32)
    for edit, values in ((lambda x, k: head(k * conv(x)), (1, 2)),
                         (lambda x, k: head(keras.activations.leaky_relu(conv(x), k)), (0.1, 0.3)),
                         (lambda x, k: head(ops.clip(x, 0, k)), (1, 6)),
                         (lambda x, k: head(ops.flip(x, axis=k)), (1, 2)),
                         (lambda x, k: head(conv(x) + k * table), (1, 2)),
                         (lambda x, k: head(L.Lambda(lambda v: k * v)(x)), (1, 2)),
                         (lambda x, k: head(conv(x, activation=lambda v: v * k)), (1, 2))):
        same, again, other = (graph.describe(build(lambda x, k=k, edit=edit: edit(x, k)))
                              for k in (values[0], *values))
        assert same == again != other


def test_a_description_sees_the_code_of_ones_own_layers():
    described = []
    for call in (lambda self, x: 2 * x, lambda self, x: 3 * x, lambda self, x: 2 * x):
        kind = type("Mine", (L.Layer,), {"call": call})
        described.append(graph.describe(build(lambda x, kind=kind: head(kind()(x)))))
    assert described[0] == described[2] != described[1]


def test_weights_and_slots_have_names_of_their_own():
    class Outer(L.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.inner = L.Dense(2, name="dense")

        def call(self, x):
            return self.inner(x)
    model = build(lambda x: L.Dense(CLASSES, name="dense")(Outer(name="m")(L.Flatten()(x))))
    weights = graph.name_weights(model.weights)
    assert set(weights) == {"m/dense/kernel", "m/dense/bias", "dense/kernel", "dense/bias"}
    assert not set(weights) & {f"m//{name}" for name in weights}


def test_stages_are_activations_whatever_their_names():
    assert list(graph.stages(build(EDITS["conv, relu, pool"]))) == ["re_lu"]
    model = build(lambda x: head(twice(L.ReLU(name="r"), conv(x, activation="relu", name="c"))))
    assert list(graph.stages(model)) == ["c", "r", "r:2"]
    linear = build(lambda x: L.Dense(CLASSES)(L.Flatten()(conv(x, name="only"))))
    assert list(graph.stages(linear)) == ["only"] and graph.first_convolution(linear).filters == 4
    assert graph.first_convolution(build(EDITS["no convolution"])) is None


class Records:
    def writer(self, part):
        return tf.summary.create_noop_writer()


@pytest.mark.parametrize("name", EDITS)
def test_what_is_inside_is_recorded_whatever_the_network(name):
    model = build(EDITS[name])
    log_inside(Records(), 0, model, tf.ones((3, *SHAPE)), np.array([0, 1, 2]))
    names = graph.name_weights(model.weights)
    assert len(names) == len(model.weights)
    graph.assign(names, {name: v.numpy() for name, v in names.items()}, "itself")
    with pytest.raises(InputError, match="itself is of another network: more"):
        graph.assign(names, {name: v.numpy() for name, v in names.items()} | {"more": np.ones(1)},
                     "itself")
