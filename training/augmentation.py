"""Network input from pixels; in training, with random transforms, distortions and holes."""
import math

import numpy as np
import tensorflow as tf


def moments(images):
    """Return mean and standard deviation of all pixels of uint8 images, scaled to 0 .. 1.

    `prepare` divides by the latter, so that of images of one grey it is 1.

    From how often each grey level occurs, which needs no copy of the images in floating point.
    """
    counts = sum(np.bincount(part.ravel(), minlength=256)
                 for part in np.array_split(images, 1 + len(images) // 1000))
    levels, share = np.arange(256) / 255, counts / counts.sum()
    mean = share @ levels
    return float(mean), float(np.sqrt(share @ (levels - mean) ** 2)) or 1.0


def prepare(images, mean, std):
    """Return network input, float32 (pixel / 255 - mean) / std, of pixels 0 .. 255."""
    return (tf.cast(images, tf.float32) / 255 - mean) / std


def random_transforms(seed, batch, height, width, config):
    """Draw random flip, rotation, zoom and shift as projective transforms, float32 (batch, 8).

    Each row maps output to input pixels as tf.raw_ops.ImageProjectiveTransformV3 defines; all turn
    and scale about the image's centre. Without rotation and zoom, shifts are whole pixels.
    """
    draw = tf.random.stateless_uniform((5, batch), seed, -1.0, 1.0)
    angle = draw[0] * math.radians(config.rotation)
    scale = tf.exp(draw[1] * math.log1p(config.zoom))
    mirror = tf.where(draw[2] < 0, -1.0, 1.0) if config.horizontal_flip else tf.ones(batch)
    shift = draw[3:] * config.shift if config.rotation or config.zoom else tf.round(
        draw[3:] * (config.shift + 0.499))
    cos, sin = scale * tf.cos(angle), scale * tf.sin(angle)
    x, y = (width - 1) / 2, (height - 1) / 2
    zero = tf.zeros(batch)
    return tf.stack([mirror * cos, -sin, x - mirror * cos * x + sin * y + shift[0],
                     mirror * sin, cos, y - mirror * sin * x - cos * y + shift[1], zero, zero],
                    axis=1)


def elastic_fields(seed, batch, height, width, smoothness=4.0):
    """Draw random displacements of every pixel, down and right: float32 (batch, height, width, 2).

    They have unit variance and are smooth like noise under a Gaussian of `smoothness` pixels
    (Simard et al. 2003).
    """
    def blur(size):
        distance = tf.range(size, dtype=tf.float32)[:, None] - tf.range(size, dtype=tf.float32)
        return tf.math.l2_normalize(tf.exp(-0.5 * (distance / smoothness) ** 2), axis=1)
    noise = tf.random.stateless_normal((batch, 2, height, width), seed)
    return tf.transpose(tf.matmul(blur(height) @ noise, blur(width), transpose_b=True),
                        [0, 2, 3, 1])


def displace(images, fields):
    """Return images (n, height, width, channels) that show at p what was at p + field(p), pixels.

    Interpolation is bilinear; the border's pixels go on outside.
    """
    n, height, width, channels = images.shape
    y = tf.range(height, dtype=tf.float32)[:, None] + fields[..., 0]
    x = tf.range(width, dtype=tf.float32) + fields[..., 1]
    y, x = tf.clip_by_value(y, 0, height - 1), tf.clip_by_value(x, 0, width - 1)
    top, left = (tf.minimum(tf.floor(v), max(0, size - 2)) for v, size in ((y, height), (x, width)))
    down, right = (y - top)[..., None], (x - left)[..., None]  # shares of the next pixel
    corner = tf.cast(top * width + left, tf.int32)  # (n, height, width)
    pixels = tf.reshape(images, (n, height * width, channels))

    def across(first):
        here = tf.gather(pixels, first, batch_dims=1)
        return here + right * (tf.gather(pixels, first + min(1, width - 1), batch_dims=1) - here)
    above, below = across(corner), across(corner + width * min(1, height - 1))
    return above + down * (below - above)


def random_holes(seed, batch, height, width, side):
    """Draw masks, True inside one random square each: bool (batch, height, width, 1).
    """
    centre = tf.random.stateless_uniform((2, batch, 1), seed) * [[[height]], [[width]]]
    row = tf.abs(tf.range(height, dtype=tf.float32) + 0.5 - centre[0]) < side / 2
    column = tf.abs(tf.range(width, dtype=tf.float32) + 0.5 - centre[1]) < side / 2
    return (row[:, :, None] & column[:, None, :])[..., None]


def augment(parts, seeds, config, mean, std, fill=0.0):
    """Transform the parts of a batch at random: float pixels 0 .. 255 -> network input.

    seeds: of the streams "transforms", "elastic" and "holes"; drawn for the batch as a whole. fill:
    what is seen in holes, as network input.
    """
    sizes, (height, width) = [x.shape[0] for x in parts], parts[0].shape[1:3]
    if config.horizontal_flip or config.shift or config.rotation or config.zoom:
        transforms = random_transforms(seeds["transforms"], sum(sizes), height, width, config)
        parts = [tf.raw_ops.ImageProjectiveTransformV3(
            images=x, transforms=t, output_shape=[height, width], fill_value=0.0,
            interpolation="BILINEAR", fill_mode="REFLECT")
            for x, t in zip(parts, tf.split(transforms, sizes))]
    if config.elastic:
        fields = elastic_fields(seeds["elastic"], sum(sizes), height, width)
        parts = [displace(x, config.elastic * f) for x, f in zip(parts, tf.split(fields, sizes))]
    parts = [prepare(x, mean, std) for x in parts]
    if config.cutout:
        holes = random_holes(seeds["holes"], sum(sizes), height, width, config.cutout)
        parts = [tf.where(hole, fill, x) for x, hole in zip(parts, tf.split(holes, sizes))]
    return parts
