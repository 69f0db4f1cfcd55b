"""Make images that excite a map or a class most, by gradient ascent.

With jitter, blur and decay of the norm (Yosinski et al., Understanding neural networks through deep
visualization, arXiv 1506.06579; Olah et al., Feature visualization, 2017).
"""
import functools

import keras
import numpy as np
import tensorflow as tf

from inside.deconvnet import RELUS, receptive_field
from training import graph
from training.needs import images_at_a_time

SIZES = 0.032, 0.002  # of the first step and towards the last, of the range of black to white


@functools.lru_cache(maxsize=32)
def _ascend(model, layer, low, high, jitter=2, decay=0.005, blur=0.08):
    """Return the graph of one step: (images, which map or class, step size, seed) -> images.

    What is raised is the map's activation at the layer's middle, before a ReLU (which has no
    gradient where the unit is off), or the class's logit. jitter: the image is moved by at most so
    many pixels while the gradient is taken; blur: share of a 3x3 binomial blur; decay: share of the
    distance from the middle grey that a step takes away; both of a step of the first size, of a
    smaller one in proportion: else they would win in the end.
    """
    raised = graph.named_nodes(model)[layer]
    below = keras.Model(model.input, raised.outputs[0])  # without what is above
    rectified = graph.activation_of(raised.operation) in RELUS and graph.is_known(raised.operation)

    def apply(node, calls):
        (args, kwargs), operation = calls[0], node.operation
        if rectified and node.outputs[0] is raised.outputs[0]:  # a unit that is off has no gradient
            return [graph.before_activation(operation, args, kwargs)]
        return [graph.call(operation, args, kwargs, training=False)]
    kernel = tf.constant(np.outer([1, 2, 1], [1, 2, 1])[..., None, None] / 16, tf.float32)
    middle = (low + high) / 2

    def step(images, which, size, seed):
        move = tf.random.stateless_uniform((2,), seed, -jitter, jitter + 1, tf.int32)
        with tf.GradientTape() as tape:
            tape.watch(images)
            found, = graph.walk(below, [tf.roll(images, move, [1, 2])], apply)
            values = found[id(raised.outputs[0])]
            if values.shape.rank == 4:
                values = values[:, values.shape[1] // 2, values.shape[2] // 2]
            score = tf.reduce_sum(tf.gather(values, which, batch_dims=1))
        g = tape.gradient(score, images)
        g /= tf.sqrt(tf.reduce_mean(tf.square(g), [1, 2, 3], keepdims=True)) + 1e-8
        images += size * (high - low) * g
        padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
        soft = tf.nn.depthwise_conv2d(padded, tf.tile(kernel, [1, 1, images.shape[3], 1]),
                                      [1, 1, 1, 1], "VALID")
        share = size / SIZES[0]  # as steps become small, so does what works against them
        images += share * blur * (soft - images)
        return tf.clip_by_value(images + share * decay * (middle - images), low, high)
    return tf.function(step, autograph=False).get_concrete_function(
        tf.TensorSpec((None, *model.input.shape[1:])), tf.TensorSpec((None,), tf.int32),
        tf.TensorSpec(()), tf.TensorSpec((2,), tf.int32))


def maximize(network, layer, which, steps=200, seed=0):
    """Return images, network input (n, height, width, channels), that excite a layer's maps or
    units `which` (n,) most, each begun from noise about grey, within black and white."""
    low, high = (float(x) for x in network.inputs(np.uint8([[[[0]], [[255]]]])).ravel())
    jitter = 2
    if layer in network.layers:  # none of a few pixels
        tensor = network.stages[layer]
        top, bottom, *_ = receptive_field(network.model, layer, tensor.shape[1] // 2,
                                          tensor.shape[2] // 2)
        jitter = min(2, (bottom - top) // 8)
    step = _ascend(network.model, layer, low, high, jitter)
    shape, made = network.model.input.shape[1:], []
    size = max(1, images_at_a_time(network.model, 1024) // 8)  # forwards and back
    for first in range(0, len(which), size):
        part = np.asarray(which[first:first + size], np.int32)
        noise = np.random.default_rng([seed, first]).normal(0, 0.1, (len(part), *shape))
        images = tf.constant(network.grey + noise * (high - low), tf.float32)
        for k in range(steps):
            images = step(images, tf.constant(part), tf.constant(
                SIZES[0] + k / steps * (SIZES[1] - SIZES[0])), tf.constant([seed, k]))
        made.append(images.numpy())
    return np.concatenate(made)


def excitation(network, layer, images, which):
    """Return the largest activation of each image's map of a layer: (n,)."""
    tensor = graph.named_nodes(network.model)[layer].outputs[0]
    values = keras.Model(network.model.input, tensor)(images, training=False).numpy()
    return values.max((1, 2))[np.arange(len(which)), which]


def correlation(pairs, reach=0):
    """Return the mean correlation of pairs of images (height, width, ...) of one size, pixel by
    pixel; nan of no pairs. Of each pair the middle of one is moved over the other by at most
    `reach` pixels to where they correlate most; a part that is even correlates with nothing, 0."""
    def unit(x):
        x = x.ravel() - x.mean()
        return x / max(np.linalg.norm(x), 1e-12)
    found = []
    for a, b in pairs:
        height, width = (size - 2 * reach for size in a.shape[:2])
        middle = unit(a[reach:reach + height, reach:reach + width])
        found.append(max(middle @ unit(b[i:i + height, j:j + width])
                         for i, j in np.ndindex(2 * reach + 1, 2 * reach + 1)))
    return np.mean(found) if found else np.nan
