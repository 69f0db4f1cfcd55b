"""The deconvnet of Zeiler & Fergus (arXiv 1311.2901, section 2.1): which pixels excite a unit.

    activations = forward(model, "relu2", images)[-1]        # what that layer gives
    seed = one_unit(activations, row, column, feature_map)   # one unit of it, all others zero
    pixels = project(model, "relu2", images, seed)           # what in the images it answers to

Layer by layer downwards: max-pooling is undone by putting each value back where the maximum was
(its switch), a ReLU by rectifying the signal itself, a convolution or dense layer by its
transpose without bias, batch norm by the factor gamma / sqrt(variance + epsilon), and a rescaling
by its own. It is not the gradient, which a ReLU masks by what went forward, and not guided
backprop, which masks by both. Backwards a leaky ReLU is a ReLU too, the paper's rule.
Nothing rectifies the pixels, so projections have both signs. They grow in proportion to a seed of
at least 0; of a negative seed nothing passes the ReLU of its own layer.

From the layer down to the image there must be a chain of convolution, bias, batch norm, rescaling,
ReLU, max-pooling, flatten and dense layers, pooling before or after the ReLU, and layers
that act in training alone; anything else raises. What lies beside or above the chain does not
matter.
"""
import keras
import numpy as np
import tensorflow as tf

from system.command_line import NotDrawn
from training import graph
from training.layers import BatchNormalization, Bias

RELUS = ("relu", "leaky_relu", "leakyrelu")
NORMS = keras.layers.BatchNormalization, BatchNormalization
IDLE = {Bias} | {getattr(keras.layers, name) for name in (  # do nothing to a projection
    "ReLU LeakyReLU Activation Dropout SpatialDropout2D GaussianNoise Identity RandomFlip "
    "RandomRotation RandomZoom RandomTranslation RandomContrast RandomBrightness").split()}
KNOWN = IDLE | {*NORMS} | {getattr(keras.layers, name) for name in (
    "Conv2D Dense MaxPooling2D Flatten Rescaling Normalization").split()}


class NoRule(NotDrawn, ValueError):
    """A layer that the deconvnet cannot pass; the message names it."""


def chain(model, name):
    """Return the nodes from a model's input to `name`; NoRule names one that has no rule."""
    named = graph.named_nodes(model)
    if name not in named:
        raise ValueError(f"{model.name} has no layer {name!r}; it has {', '.join(named)}")
    found, tensor = [], named[name].outputs[0]
    while tensor is not graph.functional(model).inputs[0]:
        node = graph.node_of(model, tensor)
        _check(node)
        found.insert(0, node)
        tensor = node.input_tensors[0]  # the second of BatchNormalization is for its moments
    return found


def _check(node):
    kinds, layer = keras.layers, node.operation
    kind, activation = type(layer), graph.activation_of(layer)
    title = f"layer {layer.name!r} ({kind.__name__})"
    is_relu = not isinstance(layer, kinds.Layer) and activation in RELUS
    if not (kind in KNOWN or is_relu) or (
            len(node.input_tensors) != 1 and kind is not BatchNormalization):
        raise NoRule(f"{title} has no deconvnet rule")
    if activation not in (*RELUS, "linear"):
        raise NoRule(f"{title}: activation {activation!r} is no ReLU")
    if kind is kinds.Conv2D and (layer.groups != 1 or layer.dilation_rate != (1, 1)):
        raise NoRule(f"{title}: no deconvnet rule for grouped or dilated kernels")
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise NoRule(f"{title}: only channels_last is supported")
    if kind in NORMS and layer.axis not in (-1, len(node.outputs[0].shape) - 1):
        raise NoRule(f"{title}: only batch norm over the last axis has a deconvnet rule")
    if kind is kinds.Normalization and layer.invert:
        raise NoRule(f"{title}: no deconvnet rule for its inverse")
    if kind is kinds.Dense and len(node.outputs[0].shape) != 2:
        raise NoRule(f"{title}: only a dense layer of vectors has a deconvnet rule")
    if activation == "relu" and (getattr(layer, "max_value", None) is not None
                                 or getattr(layer, "threshold", 0)):
        raise NoRule(f"{title}: only a plain or leaky ReLU has a deconvnet rule")


def forward(model, name, images):
    """Compute what each layer gives in evaluation mode, from the input to layer `name`: a list.

    images: network input (n, height, width, channels).
    """
    values = [tf.convert_to_tensor(images, tf.float32)]
    for node in chain(model, name):
        values.append(graph.call(node.operation, (values[-1],), {}, training=False))
    return values


def one_unit(activations, *unit):
    """Return zeros but for one unit an image: that unit's activation.

    activations (n, height, width, maps) with unit = (row, column, feature map), or (n, units) with
    unit = (index,); each of them a number or an array (n,).
    """
    activations = np.asarray(activations)
    seed = np.zeros_like(activations)
    index = (np.arange(len(activations)), *unit)
    seed[index] = activations[index]
    return seed


def project(model, name, images, seed):
    """Carry `seed`, shaped like layer `name`'s output, down to the pixels, shaped like `images`.

    seed: array, or function that makes it of the layer's activations. The images set the switches
    of the pooling layers, nothing else.
    """
    values = forward(model, name, images)
    signal = tf.convert_to_tensor(seed(values[-1]) if callable(seed) else seed, tf.float32)
    for node, below in zip(chain(model, name)[::-1], values[-2::-1]):
        signal = _step_down(node.operation, signal, tf.cast(below, tf.float32))
    return signal.numpy()


def _step_down(layer, signal, below):
    """Return the signal at a layer's input, given that at its output and the layer's input."""
    kinds = keras.layers
    if graph.activation_of(layer) in RELUS:
        signal = tf.nn.relu(signal)
    if isinstance(layer, kinds.Conv2D):
        return tf.nn.conv2d_transpose(signal, layer.kernel.value, tf.shape(below), layer.strides,
                                      layer.padding.upper())
    if isinstance(layer, kinds.Dense):
        return tf.matmul(signal, layer.kernel.value, transpose_b=True)
    if isinstance(layer, kinds.BatchNormalization):
        scale = tf.math.rsqrt(layer.moving_variance.value + layer.epsilon)
        return signal * (scale if layer.gamma is None else scale * layer.gamma.value)
    if isinstance(layer, kinds.Rescaling):
        return signal * tf.constant(layer.scale, tf.float32)
    if isinstance(layer, kinds.Normalization):
        return signal / tf.maximum(tf.sqrt(layer.variance), keras.config.epsilon())
    if isinstance(layer, kinds.MaxPooling2D):
        return unpool(layer, signal, below)
    if isinstance(layer, kinds.Flatten):
        return tf.reshape(signal, tf.shape(below))
    return signal  # a ReLU, dealt with above, or one of IDLE


def unpool(layer, signal, below):
    """Put each value where its window of `below`, the layer's input, has its maximum (its switch),
    zeros elsewhere; ties go to the first maximum, values that meet are added."""
    signal, below = np.asarray(signal), np.asarray(below)
    kept = np.flatnonzero(signal != 0)  # of one unit's signal most is zero
    image, row, column, channel = np.unravel_index(kept, signal.shape)
    place, most = None, -np.inf
    for offsets in np.ndindex(*layer.pool_size):
        inside = [np.clip(at * layer.strides[axis] - padding(layer, axis, size) + offsets[axis], 0,
                          size - 1)
                  for axis, (at, size) in enumerate(zip((row, column), below.shape[1:3]))]
        here = np.ravel_multi_index((image, *inside, channel), below.shape)
        value = below.ravel()[here]
        place = here if place is None else np.where(value > most, here, place)
        most = np.maximum(value, most)
    return tf.reshape(tf.scatter_nd(place[:, None], signal.ravel()[kept], [below.size]),
                      below.shape)


def window(layer):
    """Return the (height, width) that a layer looks at; None of a layer of single values."""
    return getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)


def padding(layer, axis, size):
    """Return how many rows (axis 0) or columns (1) a layer adds before the first of `size`."""
    if layer.padding == "valid":
        return 0
    stride = layer.strides[axis]
    return max((-(-size // stride) - 1) * stride + window(layer)[axis] - size, 0) // 2


def receptive_field(model, name, row, column):
    """Return the pixels that can change unit (row, column) of a layer: (top, bottom, left, right).

    `bottom` and `right` are exclusive; clipped at the image's border. From kernels, strides and
    padding alone. Of arrays of rows and columns: arrays. Of a dense layer they do not matter.
    """
    field = [[row, row + 1], [column, column + 1]]
    for node in chain(model, name)[::-1]:
        layer, shape = node.operation, node.input_tensors[0].shape
        if isinstance(layer, keras.layers.Flatten):  # a dense layer sees all units below it
            field = [[0, size] for size in shape[1:3]]
        if window(layer) is None:
            continue
        for axis, ((start, stop), size) in enumerate(zip(field, shape[1:3])):
            stride, before = layer.strides[axis], padding(layer, axis, size)
            field[axis] = [np.maximum(start * stride - before, 0), np.minimum(
                (stop - 1) * stride - before + window(layer)[axis], size)]
    return *field[0], *field[1]
