"""Eight ways to say which pixels speak for a class, each (model, inputs, classes) -> maps.

inputs: network input (n, height, width, channels); classes (n,): whose logit is explained. A map
has the inputs' shape, or one channel, and both signs unless it says otherwise.
"""
import functools

import keras
import numpy as np
import tensorflow as tf

from inside.deconvnet import RELUS
from inside.occlusion import probabilities_of_occluded
from inside.trained import outputs, two_at_once
from system.command_line import NotDrawn
from training import graph
from training.needs import images_at_a_time

RULES = ("gradient", "guided", "deconvnet")  # what comes back through a ReLU


def pull_back(model, inputs, classes, rule="gradient"):
    """Carry a class's logit back to the pixels, through ReLUs by a rule.

    "gradient": as calculus has it. "guided": of that the positive part (Springenberg et al., arXiv
    1412.6806). "deconvnet": the positive part of the signal itself, whatever went forward (Zeiler &
    Fergus, arXiv 1311.2901). Everything else passes its gradient.
    """
    return _part_by_part(_pull_back(model, rule), model, inputs, classes)


def _part_by_part(function, model, inputs, classes):
    """Return function(inputs, classes) of few images after few: forwards and back, and two parts at
    once, take eight times the memory."""
    size = max(1, images_at_a_time(model, 2000) // 8)
    return np.concatenate([function(tf.constant(inputs[i:i + size], tf.float32),
                                    tf.constant(classes[i:i + size], tf.int32)).numpy()
                           for i in range(0, len(inputs), size)])


@functools.lru_cache(maxsize=8)
def _pull_back(model, rule):
    if rule not in RULES:
        raise ValueError(f"no rule {rule!r}: {', '.join(RULES)}")

    def apply(node, calls):
        (args, kwargs), operation = calls[0], node.operation
        if isinstance(operation, keras.Model) and rule != "gradient":
            raise NotDrawn(f"{operation.name} is a network within the network; no rule for it")
        if rule == "gradient" or graph.activation_of(operation) not in RELUS:
            return [graph.call(operation, args, kwargs, training=False)]
        if getattr(operation, "weights", ()):  # the ReLU is part of a layer
            if not graph.is_known(operation):
                raise NotDrawn(f"{operation.name}: no rule for a layer of one's own that rectifies "
                               "within")
            rectify = operation.activation
        else:
            def rectify(x):
                return graph.call(operation, (x,), {}, training=False)
        return [_relu(rectify, rule)(graph.before_activation(operation, args, kwargs))]

    def pull(inputs, classes):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            values, = graph.walk(model, [inputs], apply)
            logits = values[id(graph.functional(model).outputs[0])]
            score = tf.reduce_sum(tf.gather(logits, classes, batch_dims=1))
        return tape.gradient(score, inputs)
    return _graph_of(pull, model)


def _graph_of(function, model):
    """Return the graph of (inputs, classes) -> maps for any number of images; called once, without
    TensorFlow's warning of retracing."""
    return tf.function(function, autograph=False).get_concrete_function(
        tf.TensorSpec((None, *model.input.shape[1:])), tf.TensorSpec((None,), tf.int32))


def _relu(function, rule):
    @tf.custom_gradient
    def relu(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)

        def backward(signal):
            return tf.nn.relu(signal if rule == "deconvnet" else tape.gradient(y, x, signal))
        return y, backward
    return relu


def gradient(network, inputs, classes):
    """Return the gradient of the logit (Simonyan et al., arXiv 1312.6034)."""
    return pull_back(network.model, inputs, classes)


def gradient_times_input(network, inputs, classes):
    """Return gradient times input (Shrikumar et al., arXiv 1605.01713)."""
    return inputs * gradient(network, inputs, classes)


def smoothgrad(network, inputs, classes, samples=20, noise=0.15, seed=0):
    """Return the mean gradient at noisy copies; noise: standard deviation, of an image's range
    (Smilkov et al., arXiv 1706.03825)."""
    rng = np.random.default_rng(seed)
    spread = noise * np.ptp(inputs, axis=(1, 2, 3), keepdims=True)

    def copies():
        for _ in range(samples):  # in place: of large images these are large
            copy = rng.standard_normal(inputs.shape)
            copy *= spread
            copy += inputs
            yield np.float32(copy)
    return sum(two_at_once(lambda x: gradient(network, x, classes), copies())) / samples


def integrated_gradients(network, inputs, classes, steps=20, baseline=None):
    """Return the mean gradient on the way from `baseline` (grey) to the image, times the difference
    (Sundararajan et al., arXiv 1703.01365); by the midpoint rule."""
    start = np.full_like(inputs, network.grey if baseline is None else baseline)
    way = (start + (inputs - start) * (k + 0.5) / steps for k in range(steps))
    return (inputs - start) * sum(two_at_once(
        lambda x: gradient(network, np.float32(x), classes), way)) / steps


def guided_backprop(network, inputs, classes):
    """Compute guided backpropagation (Springenberg et al., arXiv 1412.6806)."""
    return pull_back(network.model, inputs, classes, "guided")


def deconvnet(network, inputs, classes):
    """Compute the deconvnet from the logit down (Zeiler & Fergus, arXiv 1311.2901)."""
    return pull_back(network.model, inputs, classes, "deconvnet")


def grad_cam(network, inputs, classes):
    """Compute Grad-CAM (Selvaraju et al., arXiv 1610.02391) of the last feature maps, enlarged
    bilinearly; not negative, one channel."""
    return _part_by_part(_grad_cam(network.model), network.model, inputs, classes)


@functools.lru_cache(maxsize=4)
def _grad_cam(model):
    both = keras.Model(model.input, [list(graph.feature_maps(model).values())[-1], model.output])

    def cam(inputs, classes):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            values, logits = both(inputs, training=False)
            score = tf.reduce_sum(tf.gather(logits, classes, batch_dims=1))
        weights = tf.reduce_mean(tape.gradient(score, values), [1, 2], keepdims=True)
        small = tf.nn.relu(tf.reduce_sum(weights * values, -1, keepdims=True))
        return tf.image.resize(small, tf.shape(inputs)[1:3])
    return _graph_of(cam, model)


def hide_squares(network, inputs, classes):
    """Measure how much probability the class loses as a grey square hides each part (Zeiler &
    Fergus); squares of 2/7 of the shorter side, 1/7 apart, linear between their centres; one
    channel."""
    part = min(inputs.shape[1:3]) / 7
    side = max(1, round(2 * part))
    rows, columns, p = probabilities_of_occluded(network.model, inputs, side,
                                                 max(1, round(part)), network.grey)
    logits, = outputs(network.model, [network.model.output], inputs)
    whole = tf.gather(tf.nn.softmax(logits), classes, batch_dims=1).numpy()
    lost = whole[:, None, None] - p[np.arange(len(p)), ..., classes]
    down, across = (np.stack([np.interp(np.arange(n), at + (1 - side % 2) / 2, one)
                               for one in np.eye(len(at))])  # of an even square half a pixel on
                     for n, at in zip(inputs.shape[1:3], (rows, columns)))
    return np.einsum("nij,ih,jw->nhw", lost, down, across)[..., None].astype(np.float32)


METHODS = {"gradient": gradient, "gradient x input": gradient_times_input, "SmoothGrad": smoothgrad,
           "integrated gradients": integrated_gradients, "guided backprop": guided_backprop,
           "deconvnet": deconvnet, "Grad-CAM": grad_cam, "occlusion": hide_squares}


SIGNED = "gradient x input", "integrated gradients", "Grad-CAM", "occlusion"  # shares of the logit


def ranking(name, maps):
    """Return values (n, height, width) that rank pixels by how much they speak for the class: a
    method's own where its sign says so (SIGNED), else importance."""
    return maps.sum(-1) if name in SIGNED else importance(maps)


def importance(maps):
    """Return how much each pixel counts, (n, height, width): absolute values, summed over channels.
    """
    return np.abs(maps).sum(-1)
