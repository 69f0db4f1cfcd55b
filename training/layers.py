"""Layers that Keras does not have: a bias by itself, batch norm of pooled maps."""
import keras
import tensorflow as tf


@tf.function(autograph=False, jit_compile=True)
def scale_and_shift(x, scale, shift):
    """Return x * scale + shift in one pass over x: (..., channels), (channels,), (channels,)."""
    return x * scale + shift


@tf.custom_gradient
def channel_moments(x):
    """Return mean and variance of each channel of x (..., channels), each (channels,), float32.

    TensorFlow's kernel for batch norm subtracts the mean before it squares, as exactly where the
    mean is a thousand deviations from 0, and takes hardly longer than squares alone; its variance
    is the unbiased one.  Backward, n values a channel:
    dx = dmean / n + 2 (x - mean) dvariance / n.
    """
    channels = x.shape[-1]
    rows = tf.reshape(x, (1, 1, -1, channels))
    count = tf.cast(tf.shape(rows)[2], x.dtype)
    found = tf.raw_ops.FusedBatchNormV3(
        x=rows, scale=tf.ones(channels), offset=tf.zeros(channels), mean=[], variance=[])
    mean, variance = found.batch_mean, found.batch_variance * (count - 1) / count

    def backward(dmean, dvariance):
        slope = 2 * dvariance / count
        return scale_and_shift(x, slope, dmean / count - mean * slope)
    return (mean, variance), backward


def batch_norm(layer, parts, of=None):
    """Normalise the parts of a batch by its moments (Ioffe & Szegedy 2015), in training mode.

    layer: a keras.layers.BatchNormalization over the last axis; parts: [(images, ..., channels)];
    `of`: what the moments are of, if not of `parts`.
    """
    moments = [channel_moments(tf.cast(x, tf.float32)) for x in of or parts]
    sizes = [tf.cast(tf.shape(x)[0], tf.float32) for x in of or parts]
    total = tf.add_n(sizes)
    mean = tf.add_n([m * n for (m, _), n in zip(moments, sizes)]) / total
    variance = tf.add_n([(v + tf.square(m - mean)) * n
                         for (m, v), n in zip(moments, sizes)]) / total
    scale = tf.math.rsqrt(variance + layer.epsilon)
    if layer.gamma is not None:
        scale *= layer.gamma.value
    shift = -mean * scale if layer.beta is None else layer.beta.value - mean * scale
    dtype = layer.compute_dtype
    return [tf.cast(x, dtype) * tf.cast(scale, dtype) + tf.cast(shift, dtype) for x in parts]


@keras.saving.register_keras_serializable("cifar_lenet5")
class Bias(keras.layers.Layer):
    """x + b, a number for each channel: the bias of a convolution, added after its pooling.

    Adding is increasing, so max(x) + b = max(x + b), at a quarter of the work for windows of 2x2.
    """
    image_by_image = True

    def __init__(self, initializer="zeros", **options):
        super().__init__(**options)
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape):
        self.bias = self.add_weight(shape=input_shape[-1:], name="bias",
                                    initializer=self.initializer)

    def call(self, inputs):
        return tf.nn.bias_add(inputs, tf.cast(self.bias.value, inputs.dtype))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "initializer": keras.initializers.serialize(self.initializer)}


@keras.saving.register_keras_serializable("cifar_lenet5")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer, whose moments may be of other maps than it normalises: `norm(pool(x), of=x)`.

    Without a scale of its own, batch norm is increasing: that is pool(norm(x)) at less work.
    """

    def build(self, inputs_shape, of_shape=None):
        super().build(inputs_shape)

    def call(self, inputs, of=None, training=None):
        if training and self.trainable:
            return self.on_parts([inputs], None if of is None else [of])[0]
        return super().call(inputs, training=False)

    def on_parts(self, parts, of=None):
        return batch_norm(self, parts, of)

    def compute_output_shape(self, inputs_shape, of_shape=None):
        return inputs_shape
