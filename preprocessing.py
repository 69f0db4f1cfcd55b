"""Network input from pixels; in training, with random transforms and holes."""
import math

import tensorflow as tf


def prepare(images, mean, std):
    """uint8 or float pixels 0 .. 255 -> float32 network input, (pixel / 255 - mean) / std."""
    return (tf.cast(images, tf.float32) / 255 - mean) / std


def random_transforms(seed, batch, height, width, config):
    """Random flip, rotation, zoom and shift as projective transforms, float32 (batch, 8).

    Each row maps output to input pixels as tf.raw_ops.ImageProjectiveTransformV3 defines; all turn
    and scale about the image's centre. Without rotation and zoom, shifts are whole pixels.
    """
    draw = tf.random.stateless_uniform((5, batch), seed, -1.0, 1.0)
    angle = draw[0] * math.radians(config.rotate)
    scale = tf.exp(draw[1] * math.log1p(config.zoom))
    mirror = tf.sign(draw[2]) if config.flip else tf.ones(batch)
    shift = draw[3:] * config.shift if config.rotate or config.zoom else tf.round(
        draw[3:] * (config.shift + 0.499))
    cos, sin = scale * tf.cos(angle), scale * tf.sin(angle)
    x, y = (width - 1) / 2, (height - 1) / 2
    zero = tf.zeros(batch)
    return tf.stack([mirror * cos, -sin, x - mirror * cos * x + sin * y + shift[0],
                     mirror * sin, cos, y - mirror * sin * x - cos * y + shift[1], zero, zero],
                    axis=1)


def random_holes(seed, batch, height, width, side):
    """True inside one random square a mask, clipped at the border: bool (batch, height, width, 1).
    """
    centre = tf.random.stateless_uniform((2, batch, 1), seed) * [[[height]], [[width]]]
    row = tf.abs(tf.range(height, dtype=tf.float32) + 0.5 - centre[0]) < side / 2
    column = tf.abs(tf.range(width, dtype=tf.float32) + 0.5 - centre[1]) < side / 2
    return (row[:, :, None] & column[:, None, :])[..., None]


def augment(parts, seeds, config, mean, std):
    """Random transforms and holes on the parts of a batch: float pixels 0 .. 255 -> network input.

    seeds: of the streams "transforms" and "holes"; drawn for the batch as a whole.
    """
    sizes, (height, width) = [len(x) for x in parts], parts[0].shape[1:3]
    if config.flip or config.shift or config.rotate or config.zoom:
        transforms = random_transforms(seeds["transforms"], sum(sizes), height, width, config)
        parts = [tf.raw_ops.ImageProjectiveTransformV3(
            images=x, transforms=t, output_shape=[height, width], fill_value=0.0,
            interpolation="BILINEAR", fill_mode="REFLECT")
            for x, t in zip(parts, tf.split(transforms, sizes))]
    parts = [prepare(x, mean, std) for x in parts]
    if config.cutout:
        holes = random_holes(seeds["holes"], sum(sizes), height, width, config.cutout)
        parts = [tf.where(hole, 0.0, x) for x, hole in zip(parts, tf.split(holes, sizes))]
    return parts
