"""A network on several cores: training mode on parts of a batch, evaluation on chunks of images.

Each operation on a part or chunk is computed by one thread. The training pass is for functional
Keras models that are a chain of layers, each convolution followed by pooling, with batch norm
before or after it, at most one of them dropout.
"""
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf

from preprocessing import prepare


def shares(batch, replicas):
    """Sizes of the nearly equal shares of a batch: shares(5, 2) = [3, 2]."""
    return [batch // replicas + (i < batch % replicas) for i in range(min(batch, replicas))]


@tf.function(jit_compile=True)
def scale_and_shift(x, scale, shift):
    """x * scale + shift, compiled to one pass over x: (..., channels), (channels,), (channels,)."""
    return x * scale + shift


@tf.custom_gradient
def channel_moments(x):
    """Mean and variance of each channel of x (..., channels), each (channels,).

    The variance as the mean of the squares less the square of the mean, which reads x less often
    than squaring what the mean leaves, and loses digits only where the mean is far larger than the
    deviation.  Backward, n values a channel:  dx = dmean / n + 2 (x - mean) dvariance / n.
    """
    axes = list(range(x.shape.rank - 1))
    count = tf.cast(tf.size(x) // x.shape[-1], x.dtype)
    mean = tf.reduce_mean(x, axes)
    variance = tf.maximum(tf.reduce_mean(tf.square(x), axes) - tf.square(mean), 0)

    def backward(dmean, dvariance):
        slope = 2 * dvariance / count
        return scale_and_shift(x, slope, dmean / count - mean * slope)
    return (mean, variance), backward


def batch_norm(layer, parts, pool=tf.identity):
    """Training-mode batch norm over all parts of a batch together, then pooling if given.

    parts: [(images, height, width, channels)]. Its statistics are of what is not pooled; pooling
    comes before its last step (see forward).
    """
    sizes = [tf.cast(tf.shape(x)[0], tf.float32) for x in parts]
    total = tf.add_n(sizes)
    moments = [channel_moments(tf.cast(x, tf.float32)) for x in parts]
    mean = tf.add_n([m * n for (m, _), n in zip(moments, sizes)]) / total
    variance = tf.add_n([(v + tf.square(m - mean)) * n
                         for (m, v), n in zip(moments, sizes)]) / total
    scale = tf.math.rsqrt(variance + layer.epsilon)
    shift = layer.beta - mean * scale
    return [pool(x) * tf.cast(scale, x.dtype) + tf.cast(shift, x.dtype) for x in parts]


def dense(layer, parts):
    """A dense layer, without activation, on parts of a batch: [(n, features)] -> [(n, units)].

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
    kernel, bias = (tf.cast(w.value, layer.compute_dtype) for w in (layer.kernel, layer.bias))
    x = tf.concat(parts, axis=0)  # (batch, features)
    return tf.split(product(x, kernel) + bias, [part.shape[0] for part in parts])


def draw_dropout(model, sizes, seed):
    """What dropout keeps of each part of a batch, drawn for the batch as a whole: for each of
    `sizes` a mask, bool (images, features), or None without dropout. seed: two integers."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout) and layer.rate:
            shape = sum(sizes), layer.output.shape[1]
            return tf.split(tf.random.stateless_uniform(shape, seed) >= layer.rate, sizes)
    return [None] * len(sizes)


def forward(model, parts, masks):
    """Training-mode logits of each part of a batch: the layers in turn, each on all parts.

    parts: [(images, height, width, channels)], logits [(images, classes)]; masks: of draw_dropout.
    As many cores as parts are busy. Batch norm sees the batch as a whole, so that the number of
    parts changes nothing but rounding; the large dense layer does so for speed. Adding a bias and,
    without a scale of its own, batch norm are increasing: pooling before them gives what pooling
    after them gives, at a quarter of the work.
    """
    layers = model.layers[1:]
    while layers:
        layer = layers.pop(0)
        if isinstance(layer, keras.layers.Conv2D):
            kernel = tf.cast(layer.kernel.value, layer.compute_dtype)
            parts = [layer.convolution_op(tf.cast(x, kernel.dtype), kernel) for x in parts]
            if layer.use_bias:
                bias, pool = tf.cast(layer.bias.value, kernel.dtype), layers.pop(0)
                parts = [tf.nn.bias_add(pool(x), bias) for x in parts]
        elif isinstance(layer, keras.layers.BatchNormalization):
            pooled = isinstance(layers[0], keras.layers.MaxPooling2D)
            parts = batch_norm(layer, parts, layers.pop(0) if pooled else tf.identity)
        elif layer.name == "hidden":
            parts = dense(layer, parts)
        elif isinstance(layer, keras.layers.Dropout) and layer.rate:
            parts = [tf.where(kept, x / (1 - layer.rate), tf.zeros([], x.dtype))
                     for x, kept in zip(parts, masks)]
        else:
            parts = [layer(x, training=True) for x in parts]
    return parts


def loss_and_gradients(model, variables, parts, targets, masks, cross_entropy):
    """Mean loss of a batch and its gradients with respect to `variables`; for use within a graph.

    parts, targets, masks: of each part of the batch; cross_entropy: (targets, logits) -> (images,).
    Where no layer sees the batch as a whole, each part is a function that one thread runs from
    input to gradients: what it writes and reads again stays with that core. (In there no layer may
    call a graph of its own, which would wait for the thread that waits for it.)
    """
    images = sum(x.shape[0] for x in parts)

    def compute(xs, labels, kept):
        with tf.GradientTape() as tape:
            logits = forward(model, xs, kept)
            loss = tf.add_n([tf.reduce_sum(cross_entropy(t, z))
                             for t, z in zip(labels, logits)]) / images
        return loss, tape.gradient(loss, variables)
    if any(isinstance(layer, keras.layers.BatchNormalization) or layer.name == "hidden"
           for layer in model.layers):
        return compute(parts, targets, masks)
    alone = tf.function(compute, autograph=False, experimental_attributes={"_noinline": True})
    with tf.experimental.function_executor_type("SINGLE_THREADED_EXECUTOR"):
        losses, gradients = zip(*(alone([x], [t], [kept])
                                  for x, t, kept in zip(parts, targets, masks)))
    return tf.add_n(losses), [tf.add_n(of_parts) for of_parts in zip(*gradients)]


def make_predict(model, mean, std, replicas):
    """Function: uint8 images (n > 0, height, width, channels) -> logits (n, classes), in evaluation
    mode; `replicas` chunks of at most `chunk` images at a time, one core each."""
    @tf.function(autograph=False)
    def predict(images):
        return model(prepare(images, mean, std), training=False)

    def on(images, chunk=250):
        chunks = [tf.constant(images[i:i + chunk]) for i in range(0, len(images), chunk)]
        # TensorFlow warns of many functions that are called once; not of concrete ones
        functions = [predict.get_concrete_function(x) for x in chunks]
        with ThreadPoolExecutor(replicas) as pool:
            return np.concatenate(list(pool.map(lambda f, x: f(x), functions, chunks)))
    return on
