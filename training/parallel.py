"""A network on several cores: training mode on parts of a batch, evaluation on chunks of images.

Training follows the graph of a functional Keras model, whatever it is made of (graph.walk). The
value of each Keras tensor is a list of parts that, joined, are what Keras computes of the whole
batch. How a node acts on parts depends on what it is:

    image by image   each part by itself: convolutions, pooling, activations, dense layers, ...
    on_parts         a rule of its own: batch norm, dropout, large dense layers, and every layer
                     with a method on_parts(parts), which returns the parts of its output
    anything else    the parts are joined, computed as Keras does, and split again: slower, right

A layer of one's own is computed image by image if its class says `image_by_image = True`. What
would make a resumed run differ, state or random numbers of a layer's own, is refused (checks.py).
"""
import contextlib
import dataclasses
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf

from training import graph
from training.augmentation import prepare
from training.layers import BatchNormalization, Bias, batch_norm
from training.needs import images_at_a_time
from training.recurrent import Recurrent, Sweeps

LARGE = 2 ** 20  # weights of a dense kernel from which on the cores share it out


# ------------------------------------------------------------------- what acts image by image

IMAGE_BY_IMAGE = {getattr(keras.layers, name) for name in (
    "Activation ReLU LeakyReLU PReLU ELU Softmax Identity Rescaling Masking Embedding Dense "
    "Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose DepthwiseConv1D "
    "DepthwiseConv2D SeparableConv1D SeparableConv2D MaxPooling1D MaxPooling2D MaxPooling3D "
    "AveragePooling1D AveragePooling2D AveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D "
    "GlobalMaxPooling3D GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D "
    "Flatten Reshape Permute RepeatVector Cropping1D Cropping2D Cropping3D ZeroPadding1D "
    "ZeroPadding2D ZeroPadding3D UpSampling1D UpSampling2D UpSampling3D Add Subtract Multiply "
    "Average Maximum Minimum Concatenate LayerNormalization GroupNormalization RMSNormalization "
    "UnitNormalization SimpleRNN LSTM GRU MultiHeadAttention Attention AdditiveAttention").split()}
BATCH_NORM = keras.layers.BatchNormalization, BatchNormalization
OURS = Bias, BatchNormalization, Recurrent, Sweeps
ELEMENTWISE = graph.ACTIVATIONS | {
    "Absolute", "Add", "Clip", "Cos", "Divide", "Exp", "Expm1", "Log", "Log1p", "Maximum",
    "Minimum", "Multiply", "Negative", "Power", "Reciprocal", "Sign", "Sin", "Sqrt", "Square",
    "Subtract", "TrueDivide"}  # keras.ops of these names


def _known_layer(layer, rank):
    """Return whether a layer gives each image what it would give it alone, and adds no loss.

    rank: axes of its smallest input.
    """
    if type(layer) is keras.layers.Bidirectional:
        known = all(_known_layer(own, rank) for own in (layer.forward_layer, layer.backward_layer))
    elif type(layer) is keras.layers.TimeDistributed:
        known = _known_layer(layer.layer, rank - 1)
    else:
        known = type(layer) in IMAGE_BY_IMAGE or vars(type(layer)).get("image_by_image", False)
    if type(layer) in (keras.layers.Attention, keras.layers.AdditiveAttention):
        known = known and rank > 2
    functions = (getattr(layer, name, None) for name in ("activation", "recurrent_activation"))
    axes = keras.tree.flatten([getattr(layer, name, None) for name in ("axis", "_attention_axes")])
    drawn = ("dropout", "_dropout", "recurrent_dropout", "stateful", "_activity_regularizer")
    return (known and rank > 1
            and all(own.activity_regularizer is None for own in layer._flatten_layers())
            and all(f is None or getattr(keras.activations, getattr(f, "__name__", ""), None) is f
                    for f in functions)
            and not any(axis in (0, -rank) for axis in axes if axis is not None)
            and not any(getattr(layer, name, 0) for name in drawn))


def kind_of(node):
    """Say how a node acts on the parts of a batch.

    "model"   as a functional model of one input: by its own nodes
    "images"  each part by itself, as each image gets what it would get alone
    "noise"   each part with its share of the batch's random numbers
    "batch"   by a rule of ours for what needs the whole batch
    "rule"    by the layer's own method on_parts
    "joined"  as Keras does, on the whole batch
    """
    operation, inputs = node.operation, node.input_tensors
    shapes = [x.shape for x in inputs]
    if not shapes or any(x.shape[:1] != (None,) for x in (*inputs, *node.outputs)):
        return "joined"
    if not isinstance(operation, keras.layers.Layer):
        constants = [np.ndim(x) for x in _flat(node) if not isinstance(x, keras.KerasTensor)]
        kind = type(operation)
        elementwise = (kind.__name__ in ELEMENTWISE and kind.__module__.startswith("keras.src.")
                       and len(set(map(len, shapes))) == 1
                       and all(rank < len(shapes[0]) for rank in constants))
        return "images" if elementwise else "joined"
    if operation.activity_regularizer is not None:
        return "joined"
    if graph.functional(operation) is not None:
        own = graph.functional(operation)
        whole = len(own.outputs) == 1 and shapes == [x.shape for x in own.inputs]
        return "model" if whole and len(shapes) == 1 else "joined"
    if type(operation) in NOISE:
        first = (getattr(operation, "noise_shape", None) or (None,))[0]
        return "noise" if first in (None, 1) and None not in shapes[0][1:] else "joined"
    if type(operation) in BATCH_NORM and not operation.trainable:
        return "images"
    if "on_parts" in vars(type(operation)):
        return "rule"
    if type(operation) is keras.layers.BatchNormalization:
        last = operation.axis in (-1, len(shapes[0]) - 1)
        return "batch" if last and not operation.renorm else "joined"
    if not _known_layer(operation, min(map(len, shapes))):
        return "joined"
    large = (type(operation) is keras.layers.Dense and len(shapes[0]) == 2
             and operation.quantization_mode is None and not operation.lora_enabled
             and np.prod(operation.kernel.shape) >= LARGE)
    return "batch" if large else "images"


def _flat(node, call=None):
    """Return a node's arguments, or those of one part's call, one after the other."""
    return keras.tree.flatten(list(call) if call else [node.arguments.args, node.arguments.kwargs])


def tensors_of(node, call):
    """Return the values of a node's Keras tensors in one part's (args, kwargs)."""
    return [value for symbol, value in zip(_flat(node), _flat(node, call), strict=True)
            if isinstance(symbol, keras.KerasTensor)]


def title(node):
    return f"layer {node.operation.name!r} ({type(node.operation).__name__})"


# ------------------------------------------------------------------------------- rules on parts

@dataclasses.dataclass
class Batch:
    """The batch that the parts at hand belong to: what is random is drawn for it as a whole."""
    size: int         # images of the batch
    sizes: list       # images of each part at hand
    starts: list      # number of the first image of each part at hand
    seed: tf.Tensor   # two integers, from which this batch's dropout is drawn
    draws: int = 0    # nodes that have drawn
    losses: list = dataclasses.field(default_factory=list)  # that layers added to the batch's

    def draw(self, sample, shape, parts):
        """Draw random numbers for the whole batch; return each part's rows of them.

        sample: tf.random.stateless_...; shape: of a part's numbers, None for its first axis or 1
        where all images share them.
        """
        seed, self.draws = self.seed + [self.draws, 0], self.draws + 1
        if shape[0] == 1:
            return [sample(shape, seed)] * len(parts)
        rows = parts[0].shape[0] // self.sizes[0]  # of the tensor for each image, as a rule 1
        whole = sample((self.size * rows, *shape[1:]), seed)
        return [tf.slice(whole, [start * rows] + [0] * (len(shape) - 1),
                         [x.shape[0], *whole.shape[1:]]) for start, x in zip(self.starts, parts)]


def dropout(layer, parts, batch):
    """Apply dropout (Srivastava et al. 2014) or one of its spatial forms, which drop whole maps."""
    if not layer.rate:
        return parts
    width = parts[0].shape[1:]
    if type(layer) is keras.layers.Dropout:
        first, *shape = layer.noise_shape or (None, *width)
        shape = [size if own is None else own for own, size in zip(shape, width)]
    else:
        first, shape = None, layer._get_noise_shape(parts[0])[1:]
    masks = batch.draw(tf.random.stateless_uniform, (first, *shape), parts)
    return [tf.where(mask >= layer.rate, x / (1 - layer.rate), tf.zeros([], x.dtype))
            if layer.rate < 1 else tf.zeros_like(x) for x, mask in zip(parts, masks)]


def gaussian_noise(layer, parts, batch):
    if not layer.stddev:
        return parts
    noise = batch.draw(tf.random.stateless_normal, (None, *parts[0].shape[1:]), parts)
    return [x + tf.cast(layer.stddev * n, x.dtype) for x, n in zip(parts, noise)]


def dense(layer, parts):
    """Apply a dense layer to parts of a batch: [(n, features)] -> [(n, units)].

    The weights are shared out, not the images: each core multiplies a share of the features with
    its rows of the kernel, so that a kernel much larger than the layer's input is read once, not by
    every core (Krizhevsky 2014, arXiv 1404.5997). Its gradient is one product over the whole batch.
    """
    @tf.custom_gradient
    def product(x, W):
        features = shares(W.shape[0], len(parts))
        rows, columns = tf.split(W, features), tf.split(x, features, axis=1)

        def backward(dy):
            return (tf.concat([tf.matmul(dy, w, transpose_b=True) for w in rows], axis=1),
                    tf.matmul(x, dy, transpose_a=True))
        return tf.add_n([tf.matmul(c, w) for c, w in zip(columns, rows)]), backward
    dtype = layer.compute_dtype
    x = tf.concat([tf.cast(part, dtype) for part in parts], axis=0)  # (batch, features)
    y = product(x, tf.cast(layer.kernel.value, dtype))
    if layer.bias is not None:
        y += tf.cast(layer.bias.value, dtype)
    outputs = tf.split(y, [part.shape[0] for part in parts])
    return outputs if layer.activation is None else [layer.activation(y) for y in outputs]


NOISE = {keras.layers.Dropout: dropout, keras.layers.SpatialDropout1D: dropout,
         keras.layers.SpatialDropout2D: dropout, keras.layers.SpatialDropout3D: dropout,
         keras.layers.GaussianNoise: gaussian_noise}


BATCH = {keras.layers.BatchNormalization: batch_norm, keras.layers.Dense: dense}


def _joined(node, calls, batch):
    """Compute a node on the whole batch, as Keras does, and split the output into parts again."""
    def join(*values):
        if not tf.is_tensor(values[0]):
            return values[0]
        return tf.concat(values, axis=0)
    inputs = {id(x): join(*values) if x.shape[:1] == (None,) else values[0] for x, *values in zip(
        node.input_tensors, *(tensors_of(node, call) for call in calls), strict=True)}
    args, kwargs = node.arguments.fill_in(inputs)
    operation = node.operation
    own = list(operation._flatten_layers()) if isinstance(operation, keras.layers.Layer) else []
    for layer in own:
        layer._losses.clear()
    outputs = keras.tree.flatten(graph.call(operation, args, kwargs, training=True))
    for layer in own:
        batch.losses += [tf.reduce_sum(tf.cast(loss, tf.float32)) for loss in layer._losses]
        layer._losses.clear()

    def split(symbol, value):
        if symbol.shape[:1] != (None,):
            return [value] * len(calls)
        rows = tf.shape(value)[0] // sum(batch.sizes)
        parts = tf.split(value, [size * rows for size in batch.sizes])
        for size, part in zip(batch.sizes, parts):
            if value.shape[0] is not None:
                part.set_shape([size * (value.shape[0] // sum(batch.sizes)), *value.shape[1:]])
        return parts
    return list(zip(*map(split, node.outputs, outputs)))


# ----------------------------------------------------------------------------- the training pass

def forward(model, parts, batch):
    """Compute each part's training-mode output: the nodes in turn, each on all parts.

    parts: [(images, height, width, channels)] -> [(images, classes)]. As many cores as parts are
    busy; the number of parts changes nothing but rounding. What layers add to the loss is appended
    to batch.losses.
    """
    def apply(node, calls):
        kind, layer = kind_of(node), node.operation
        if kind == "images":
            return [graph.call(layer, *call, training=True) for call in calls]
        if kind == "joined":
            return _joined(node, calls, batch)
        if kind == "rule":
            args, kwargs = zip(*calls)
            return layer.on_parts(*(cast(x, layer) for x in map(list, zip(*args))), **{
                name: cast([own[name] for own in kwargs], layer)
                for name in kwargs[0] if name != "training"})
        inputs = [tensors_of(node, call)[0] for call in calls]
        if kind == "model":
            dtype = graph.functional(layer).inputs[0].dtype
            return forward(layer, [tf.cast(x, dtype) for x in inputs], batch)
        if kind == "noise":
            return NOISE[type(layer)](layer, inputs, batch)
        return BATCH[type(layer)](layer, inputs)
    output, = graph.functional(model).outputs
    return [values[id(output)] for values in graph.walk(model, parts, apply)]


def cast(parts, layer):
    """Cast an argument's parts to the precision in which Keras gives them to a layer."""
    return [tf.cast(x, layer.compute_dtype) if layer.autocast and tf.is_tensor(x)
            and x.dtype.is_floating else x for x in parts]


def sees_batch(model):
    """Return whether any node of a model needs the batch as a whole."""
    return any(sees_batch(node.operation) if (kind := kind_of(node)) == "model" else
               kind not in ("images", "noise") for node in graph.nodes(model))


CALLS = {"PartitionedCall", "StatefulPartitionedCall", "While", "StatelessWhile", "If",
         "StatelessIf", "Case", "StatelessCase"}  # operations that call a graph of their own


def loss_and_gradients(model, variables, parts, targets, seed, cross_entropy, on_cores=True):
    """Return a batch's mean loss and its gradients with respect to `variables`; call it in a graph.

    parts, targets: of each part of the batch; seed: two integers, from which dropout is drawn;
    cross_entropy: (targets, logits) -> (images,). To the mean are added what layers add and what
    weights' regularizers ask for. A gradient is None where the loss does not depend on a variable.
    Where no layer sees the batch as a whole, each part is a function that one thread runs from
    input to gradients: what it writes and reads again stays with that core. (Unless a layer calls a
    graph of its own, which would wait for the thread that waits for it, or not `on_cores`.)
    """
    sizes = [x.shape[0] for x in parts]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]

    def compute(xs, labels, starts, seed):
        with tf.GradientTape() as tape:
            batch = Batch(sum(sizes), [x.shape[0] for x in xs], starts, seed)
            logits = forward(model, xs, batch)
            loss = tf.add_n([tf.reduce_sum(cross_entropy(t, z))
                             for t, z in zip(labels, logits)]) / sum(sizes)
            loss = tf.add_n([loss, *batch.losses])
        return loss, tape.gradient(loss, variables)
    if sees_batch(model) or not on_cores:
        loss, gradients = compute(parts, targets, starts, seed)
    else:
        alone = tf.function(compute, autograph=False, experimental_attributes={"_noinline": True})
        calls = [([x], [t], [tf.constant(start)], seed)
                 for x, t, start in zip(parts, targets, starts)]
        functions = [alone.get_concrete_function(*call) for call in calls]
        single = not any(op.type in CALLS for f in functions for op in f.graph.get_operations())
        with (tf.experimental.function_executor_type("SINGLE_THREADED_EXECUTOR") if single
              else contextlib.nullcontext()):
            losses, of_parts = zip(*(alone(*call) for call in calls))
        loss, gradients = tf.add_n(losses), [add(*own) for own in zip(*of_parts)]
    with tf.GradientTape() as tape:
        penalties = [v.regularizer(v.value) for v in model.trainable_variables if v.regularizer]
        penalty = tf.add_n(penalties) if penalties else 0.0
    if penalties:
        loss += penalty
        gradients = list(map(add, gradients, tape.gradient(penalty, variables)))
    return loss, [g if g is None else tf.convert_to_tensor(g) for g in gradients]


def add(*gradients):
    """Add gradients; None counts as zero, and the sum of nothing else is None."""
    given = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    return tf.add_n(given) if given else None


# ------------------------------------------------------------------------------------ evaluation

def measure_statistics(model, inputs):
    """Give batch norm the means and variances of training images, once: see make_measure."""
    make_measure(model, inputs)()


def make_measure(model, inputs):
    """Return a function that gives batch norm the means and variances of training images, inputs
    (n, height, width, channels), that evaluation uses (Ioffe & Szegedy 2015, algorithm 2).

    Moving averages would lag behind the weights wherever the rate does not decay to zero. Of a
    layer that is used several times, each use counts alike, as in moving averages.
    """
    found = {}  # {layer: [its moments at each use]}

    def compute(inputs, model=model):
        def apply(node, calls):
            (args, kwargs), layer = calls[0], node.operation
            if kind_of(node) == "model":
                return [compute(tensors_of(node, calls[0])[0], layer)]
            if type(layer) in BATCH_NORM and layer.trainable:
                x = tf.cast(tensors_of(node, calls[0])[-1], tf.float32)  # `of`, if it is given
                mean, variance = tf.nn.moments(x, list(range(x.shape.rank - 1)))
                found.setdefault(layer, []).append((mean, variance))
                layer.moving_mean.assign(mean)
                layer.moving_variance.assign(variance)
            return [graph.call(layer, args, kwargs, training=False)]
        output, = graph.functional(model).outputs
        values, = graph.walk(model, [inputs], apply)
        return values[id(output)]

    @tf.function(autograph=False)
    def measure():
        compute(inputs)
        for layer, uses in found.items():
            means, variances = zip(*uses)
            layer.moving_mean.assign(tf.add_n(means) / len(uses))
            layer.moving_variance.assign(tf.add_n(variances) / len(uses))
    if any(type(layer) in BATCH_NORM and layer.trainable for layer in graph.layers(model)):
        return measure.get_concrete_function()  # of many others TensorFlow would warn: retracing
    return lambda: None


def make_predict(model, mean, std, threads):
    """Return a function: uint8 images (n > 0, height, width, channels) -> logits (n, classes),
    float32.

    It evaluates `threads` chunks of at most 500 images at a time, one core each; fewer where they
    are large. In bfloat16 each chunk casts the weights anew.
    """
    fits = images_at_a_time(model, 500)

    @tf.function(autograph=False)
    def predict(images):
        return model(prepare(images, mean, std), training=False)

    def on(images, chunk=fits):
        chunks = [tf.constant(images[i:i + chunk]) for i in range(0, len(images), chunk)]
        # one graph for any number; concrete, for TensorFlow warns of many functions called once
        function = predict.get_concrete_function(tf.TensorSpec((None, *images.shape[1:]),
                                                               images.dtype))
        with ThreadPoolExecutor(threads) as pool:
            return np.float32(np.concatenate(list(pool.map(function, chunks))))
    return on


def shares(batch, threads):
    """Return the sizes of the nearly equal parts of a batch: shares(5, 2) = [3, 2]."""
    return [batch // threads + (i < batch % threads) for i in range(min(batch, threads))]
