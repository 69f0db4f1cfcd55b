"""On trial: mixup, cutmix, distillation, sharpness-aware steps, a moving average of the weights."""
import dataclasses

import tensorflow as tf

from training.parallel import Batch, forward


def mix(parts, targets, seed, config):
    """Mix each image, and its target, with another of its part.

    mixup (Zhang et al., arXiv 1710.09412): the shares are Beta(alpha, alpha), the larger its own.
    cutmix (Yun et al., arXiv 1905.04899): a square of uniform area shows the other image.
    """
    mixed, (height, width) = [], parts[0].shape[1:3]
    for k, (x, t) in enumerate(zip(parts, targets)):
        n, own = x.shape[0], seed + [100 + k, 0]
        if config.cutmix:
            u = tf.random.stateless_uniform((2, n, 1), own)
            side = tf.sqrt(u[0]) * height * tf.cast(u[1] < config.cutmix, tf.float32)
            centre = tf.random.stateless_uniform((2, n, 1), own + [50, 0]) * [[[height]], [[width]]]
            row = tf.abs(tf.range(height, dtype=tf.float32) + 0.5 - centre[0]) < side / 2
            column = tf.abs(tf.range(width, dtype=tf.float32) + 0.5 - centre[1]) < side / 2
            hole = (row[:, :, None] & column[:, None, :])[..., None]
            share = 1 - tf.reduce_mean(tf.cast(hole, tf.float32), [1, 2])
            x = tf.where(hole, x[::-1], x)
        else:
            g = tf.random.stateless_gamma((2, n, 1), own, config.mixup)
            share = g[0] / (g[0] + g[1] + 1e-12)
            share = tf.maximum(share, 1 - share)
            x = share[:, :, None, None] * x + (1 - share[:, :, None, None]) * x[::-1]
        mixed.append((x, share * t + (1 - share) * t[::-1]))
    return map(list, zip(*mixed))


class Average:
    """The moving average of a network's weights, and the network that has them."""

    def __init__(self, make_model, model, config):
        self.model = make_model(dataclasses.replace(config, dropout=0.0)) if (
            config.teacher == "ema") else None
        source = self.model or model
        self.weights = [v.value if self.model else tf.Variable(v.value)
                        for v in source.trainable_variables]
        self.decay = config.ema

    def update(self, variables, step):
        """Move towards the weights; at first faster, by (1 + step) / (10 + step)."""
        step = tf.cast(step, tf.float32)
        decay = tf.minimum(self.decay, (1 + step) / (10 + step))
        for w, mean in zip(variables, self.weights):
            tf.raw_ops.ResourceApplyGradientDescent(var=mean.handle, alpha=1 - decay,
                                                    delta=mean - w)


def answers(teacher, average, parts, seed):
    """Return the logits of a teacher for the parts of a batch."""
    if teacher:
        return [teacher(x, training=False) for x in parts]
    sizes = [x.shape[0] for x in parts]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [tf.stop_gradient(z) for z in forward(average.model, parts,
                                                 Batch(sum(sizes), sizes, starts, seed))]


def distilled(cross_entropy, config, logits, targets, step):
    """Return targets and a loss that learn from a teacher's logits, too (Hinton et al., arXiv
    1503.02531); of the network's own average more and more during 400 steps."""
    T, share = config.temperature, config.soft
    if config.teacher == "ema":
        share *= tf.minimum(1.0, tf.cast(step, tf.float32) / 400)
    both = [tf.concat([t, tf.nn.softmax(tf.cast(z, tf.float32) / T)], 1)
            for t, z in zip(targets, logits)]

    def loss(both, logits):
        hard, soft = tf.split(both, 2, 1)
        return (1 - share) * cross_entropy(hard, logits) + share * T * T * (
            tf.nn.softmax_cross_entropy_with_logits(soft, tf.cast(logits, tf.float32) / T))
    return both, loss


def sharpness_aware(compute, variables, radius):
    """Return loss and gradients where the loss is largest nearby (Foret et al., arXiv 2010.01412).
    """
    loss, gradients = compute()
    norm = tf.linalg.global_norm(gradients)
    away = [radius * g / (norm + 1e-12) for g in gradients]
    with tf.control_dependencies([loss, *away]):
        there = [v.assign_add(x) for v, x in zip(variables, away)]
    with tf.control_dependencies(there):
        second, gradients = compute()
    with tf.control_dependencies([second, *gradients]):
        back = [v.assign_sub(x) for v, x in zip(variables, away)]
    with tf.control_dependencies(back):
        return loss, [tf.identity(g) for g in gradients]
