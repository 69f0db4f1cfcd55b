"""The deconvnet against independent routes, plain NumPy, and what it must not be."""
import functools
import importlib.util

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import lacking

from inside.deconvnet import chain, forward, one_unit, project, receptive_field, unpool
from sources import synthetic

L = keras.layers
SHAPES = [(1, "same", (12, 10)), (2, "valid", (29, 23)), (2, "same", (13, 11))]


def network(order="pool first", leaky=0.0, size=(12, 10), strides=1, padding="same", seed=0):
    """Two convolutional layers, batch norm with statistics far from 0 and 1, a dense layer."""
    keras.utils.set_random_seed(seed)
    x = images = keras.Input((*size, 2))
    for i, filters in ((1, 4), (2, 5)):
        x = L.Conv2D(filters, 3, strides if i == 1 else 1, padding, name=f"conv{i}")(x)
        steps = [L.MaxPooling2D(2, padding=padding, name=f"pool{i}"),
                 L.ReLU(negative_slope=leaky, name=f"relu{i}")]
        for layer in steps if order == "pool first" else steps[::-1]:
            x = layer(x)
        x = L.BatchNormalization(name=f"norm{i}")(x)
    x = L.Flatten(name="flatten")(x)
    x = L.Dense(6, activation="relu", name="hidden")(x)
    model = keras.Model(images, L.Dense(3, name="logits")(L.Dropout(0.5, name="dropout")(x)))
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights([rng.uniform(0.5, 2, shape), rng.normal(size=shape),
                               rng.normal(size=shape), rng.uniform(0.5, 2, shape)])
    return model


shared = functools.cache(network)  # to be read, not written into


def pictures(model, count=4, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, *model.input.shape[1:])).astype(np.float32)


def strongest(activations):
    """(row, column, feature map) of each image's strongest unit."""
    flat = np.asarray(activations).reshape(len(activations), -1).argmax(1)
    return np.unravel_index(flat, activations.shape[1:])


@tf.custom_gradient
def deconvnet_relu(x):
    return tf.nn.relu(x), tf.nn.relu


@tf.custom_gradient
def guided_relu(x):
    return tf.nn.relu(x), lambda dy: tf.nn.relu(dy) * tf.cast(x > 0, tf.float32)


def by_gradient(model, name, images, seed, relu):
    """d sum(seed * activations) / d images with a rectifier of one's own; the rest is TF's."""
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        x = images
        for layer in (node.operation for node in chain(model, name)):
            if isinstance(layer, L.ReLU):
                x = relu(x)
            elif layer.name == "hidden":
                x = relu(tf.matmul(x, layer.kernel) + layer.bias)
            elif isinstance(layer, L.MaxPooling2D):
                x = tf.nn.max_pool2d(x, layer.pool_size, layer.strides, layer.padding.upper())
            else:
                x = layer(x, training=False)
        total = tf.reduce_sum(x * seed)
    return tape.gradient(total, images).numpy()


@pytest.mark.parametrize("order", ["pool first", "rectifier first"])
@pytest.mark.parametrize("name", ["conv1", "norm1", "relu2", "norm2", "hidden", "logits"])
@pytest.mark.parametrize("strides, padding, size", SHAPES)
def test_equals_an_independent_route(order, name, strides, padding, size):
    """Custom-gradient ReLU plus the max-pool's own gradient, to 1e-5."""
    model = shared(order, strides=strides, padding=padding, size=size)
    images = pictures(model)
    activations = forward(model, name, images)[-1]
    seed = one_unit(activations, *strongest(activations))
    mine = project(model, name, images, seed)
    other = by_gradient(model, name, images, seed, deconvnet_relu)
    assert mine.shape == images.shape and np.abs(mine).max() > 0
    np.testing.assert_allclose(mine, other, atol=1e-5 * np.abs(other).max())


def test_is_neither_gradient_nor_guided_backprop():
    model = network()
    images = pictures(model)
    activations = forward(model, "relu2", images)[-1]
    seed = one_unit(activations, *strongest(activations))
    mine = project(model, "relu2", images, seed)
    for relu in (tf.nn.relu, guided_relu):
        other = by_gradient(model, "relu2", images, seed, relu)
        assert np.abs(mine - other).max() > 0.1 * np.abs(other).max()


@pytest.mark.parametrize("front", [
    [L.Rescaling(1 / 127.5, -1)], [L.Rescaling([0.5, 2.0])],
    [L.Normalization(mean=[1.0, 2.0], variance=[4.0, 0.25]), L.RandomFlip(), L.RandomZoom(0.1)]])
def test_what_scales_the_pixels_scales_the_projection(front):
    x = y = keras.Input((8, 9, 2))
    for layer in [*front, L.Conv2D(4, 3), L.ReLU(name="relu")]:
        y = layer(y)
    model = keras.Model(x, y)
    images = pictures(model)
    activations = forward(model, "relu", images)[-1]
    seed = one_unit(activations, *strongest(activations))
    expected = by_gradient(model, "relu", images, seed, deconvnet_relu)
    np.testing.assert_allclose(project(model, "relu", images, seed), expected,
                               atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # that captum sets hooks
def test_the_thirteen_convolutions_of_vgg16_equal_captum():
    """Of each the strongest unit; weights as Keras initialises them, and biases."""
    if not importlib.util.find_spec("captum"):
        lacking("needs captum, of benchmarks/requirements.txt")
    import torch
    from captum import attr
    model = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    rng, modules, names = np.random.default_rng(0), [], []
    for layer in model.layers[1:]:
        if isinstance(layer, L.MaxPooling2D):
            modules.append(torch.nn.MaxPool2d(2))
            continue
        layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))
        kernel, bias = map(torch.tensor, layer.get_weights())
        conv, relu = torch.nn.utils.skip_init(
            torch.nn.Conv2d, *kernel.shape[2:], 3, padding=1), torch.nn.ReLU()
        conv.weight.data, conv.bias.data = kernel.permute(3, 2, 0, 1), bias
        modules += conv, relu
        names.append((layer.name, relu))
    net, images = torch.nn.Sequential(*modules).eval(), pictures(model, 1)
    assert len(names) == 13
    for name, relu in names:
        activations = forward(model, name, images)[-1].numpy()
        row, column, feature_map = (int(i) for i, in strongest(activations))
        mine = project(model, name, images, one_unit(activations, row, column, feature_map))
        theirs = attr.NeuronDeconvolution(net, relu).attribute(
            torch.tensor(images).permute(0, 3, 1, 2).requires_grad_(), (feature_map, row, column))
        theirs = activations.max() * theirs.permute(0, 2, 3, 1).numpy()
        assert np.abs(theirs).max() > 1e-6
        np.testing.assert_allclose(mine, theirs, atol=1e-5 * np.abs(theirs).max(), err_msg=name)


def test_against_plain_numpy():
    """conv 3x3 valid, ReLU, 2x2 pool, written with loops."""
    images = keras.Input((6, 6, 1))
    model = keras.Model(images, L.MaxPooling2D(2, name="pool")(
        L.Conv2D(2, 3, activation="relu", name="conv")(images)))
    kernel, bias = model.get_layer("conv").get_weights()
    x = pictures(model, 1)
    conv = np.zeros((4, 4, 2))
    for r in range(4):
        for c in range(4):
            conv[r, c] = (x[0, r:r + 3, c:c + 3, :, None] * kernel).sum((0, 1, 2)) + bias
    conv = np.maximum(conv, 0)
    expected = np.zeros((6, 6))
    values = np.random.default_rng(5).normal(size=(1, 2, 2, 2)).astype(np.float32)
    for r in range(2):
        for c in range(2):
            for k in range(2):
                window = conv[2 * r:2 * r + 2, 2 * c:2 * c + 2, k]
                i, j = np.unravel_index(window.argmax(), (2, 2))
                value = max(values[0, r, c, k], 0)
                r0, c0 = 2 * r + i, 2 * c + j
                expected[r0:r0 + 3, c0:c0 + 3] += value * kernel[..., 0, k]
    np.testing.assert_allclose(project(model, "pool", x, values)[0, ..., 0], expected, atol=1e-5)


def test_linear_in_the_seed():
    model = network()
    images = pictures(model)
    activations = forward(model, "relu2", images)[-1]
    seed = one_unit(activations, *strongest(activations))
    one, three = project(model, "relu2", images, seed), project(model, "relu2", images, 3 * seed)
    np.testing.assert_allclose(three, 3 * one, rtol=1e-5, atol=1e-6)


def test_leaky_rectifier_is_undone_by_relu():
    """Same kernels and switches: leaky or not, the backward pass is the same."""
    plain, leaky = network(leaky=0.0), network(leaky=0.3)
    leaky.set_weights(plain.get_weights())
    images = pictures(plain)
    seed = np.abs(pictures(plain, 4)[:, :6, :5, :1]) * np.ones((1, 1, 1, 4), np.float32)
    np.testing.assert_allclose(project(plain, "relu1", images, seed),
                               project(leaky, "relu1", images, seed), rtol=1e-6)


def test_ties_go_to_one_place():
    layer = L.MaxPooling2D(2)
    layer.build((None, 4, 4, 1))
    below = tf.ones((2, 4, 4, 1))
    back = unpool(layer, tf.ones((2, 2, 2, 1)), below).numpy()
    assert back.sum() == 8 and set(np.unique(back)) == {0, 1}
    np.testing.assert_array_equal(back[0, ::2, ::2, 0], np.ones((2, 2)))


@functools.cache
def open_network(strides, padding, size):
    """One whose weights are positive, so that every path through a maximum can open, and whose
    rectifiers are linear, so that none hides."""
    model = network(leaky=1.0, strides=strides, padding=padding, size=size)
    model.set_weights([np.abs(w) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("strides, padding, size", SHAPES)
@pytest.mark.parametrize("name", ["conv1", "relu1", "pool1", "conv2", "norm2", "hidden"])
def test_receptive_field_against_brute_force(name, strides, padding, size):
    """Exactly the pixels that change the unit."""
    model = open_network(strides, padding, size)
    base = np.zeros((1, *size, 2), np.float32)
    rows, columns = (model.get_layer(name).output.shape[1:3] if name != "hidden" else (1, 1))
    changed = np.repeat(base, size[0] * size[1], axis=0)
    for i in range(len(changed)):
        changed[i, i // size[1], i % size[1]] = 100.0
    outputs = forward(model, name, np.concatenate([base, changed]))[-1].numpy()
    units = [(0, 0), (rows - 1, columns - 1), (rows // 2, columns // 2)]
    fields = [np.broadcast_to(x, len(units))
              for x in receptive_field(model, name, *np.transpose(units))]
    for (row, column), field in zip(units, np.transpose(fields)):
        unit = outputs[:, row, column, 0] if name != "hidden" else outputs[:, 0]
        where = np.flatnonzero(np.abs(unit[1:] - unit[0]) > 1e-6)
        r, c = where // size[1], where % size[1]
        seen = r.min(), r.max() + 1, c.min(), c.max() + 1
        assert receptive_field(model, name, row, column) == seen == tuple(field)


def test_known_gratings_come_back():
    """A first layer of gratings: each answers most to its own class, and projects itself."""
    data = synthetic.patterns(train=30, test=1)
    images, labels = data.train_images, data.train_labels
    row, column = np.mgrid[:9, :9] - 4
    kernels = np.stack([np.cos(2 * np.pi / 5 * (column * np.sin(a) + row * np.cos(a)))
                        for a in np.radians([0, 45, 90, 135])], -1).astype(np.float32)
    kernels -= kernels.mean((0, 1))
    x = keras.Input((28, 28, 1))
    model = keras.Model(x, L.Conv2D(4, 9, activation="relu", use_bias=False, name="conv")(x))
    model.get_layer("conv").set_weights([kernels[:, :, None]])
    for label in range(4):
        chosen = images[labels == label] / np.float32(255) - 0.5
        activations = forward(model, "conv", chosen)[-1].numpy()
        assert activations.mean((0, 1, 2)).argmax() == label
        r, c = np.unravel_index(activations[0, ..., label].argmax(), activations.shape[1:3])
        seed = one_unit(activations[:1], r, c, label)
        pixels = project(model, "conv", chosen[:1], seed)[0, ..., 0]
        np.testing.assert_allclose(pixels[r:r + 9, c:c + 9], seed.max() * kernels[..., label],
                                   rtol=1e-4, atol=1e-5)
        pixels[r:r + 9, c:c + 9] = 0
        assert not pixels.any()


@pytest.mark.parametrize("layer, word", [
    (L.AveragePooling2D(2, name="odd"), "odd"), (L.Activation("tanh", name="odd"), "tanh"),
    (L.Conv2D(4, 3, dilation_rate=2, name="odd"), "dilated"),
    (L.ReLU(max_value=6, name="odd"), "odd"),
    (lambda x: keras.activations.relu(x, max_value=6), "re_lu"),
    (lambda x: keras.activations.gelu(x), "gelu"),
    (L.Normalization(mean=0.0, variance=4.0, invert=True, name="odd"), "inverse"),
    (L.DepthwiseConv2D(3, name="odd"), "odd"), (L.Conv2D(4, 3, groups=2, name="odd"), "grouped")])
def test_foreign_layers_raise_and_are_named(layer, word):
    x = keras.Input((8, 8, 2))
    model = keras.Model(x, L.ReLU(name="end")(layer(L.Conv2D(4, 3)(x))))
    with pytest.raises(ValueError, match=word):
        project(model, "end", np.zeros((1, 8, 8, 2), np.float32), np.zeros(model.output.shape[1:]))
    with pytest.raises(ValueError, match="no layer 'nothing'"):
        chain(model, "nothing")


def test_branches_raise():
    x = keras.Input((8, 8, 2))
    a = L.Conv2D(4, 3, name="a")(x)
    b = L.Conv2D(4, 3, name="b")(x)
    model = keras.Model(x, L.Add(name="sum")([a, b]))
    with pytest.raises(ValueError, match="chain|rule"):
        chain(model, "sum")
