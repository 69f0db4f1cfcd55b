"""Gradient descent, one fused TensorFlow kernel a variable: a single pass over memory each step.

The state of a method is plain variables ("slots"), so a checkpoint holds it; nothing here counts
steps, the caller passes the step in. Equations as in the kernels' documentation and, for AdamW,
Loshchilov & Hutter (arXiv 1711.05101); checked against keras.optimizers in the tests.
"""
import tensorflow as tf

SLOTS = {"sgd": ("momentum",), "rmsprop": ("square", "momentum"),
         "adam": ("m", "v"), "adamw": ("m", "v")}


def create_slots(method, variables):
    """{slot name: [variable like each of `variables`, zero]}."""
    return {name: [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in variables]
            for name in SLOTS[method]}


def apply_gradients(method, variables, slots, gradients, step, rate,
                    momentum=0.9, nesterov=True, weight_decay=0.0):
    """Update `variables` in place for `step` (int32 scalar, from 0) at learning `rate` (float
    scalar).

    sgd      a <- momentum a + g;  w <- w - rate a   (nesterov: w <- w - rate (g + momentum a))
    rmsprop  s <- 0.9 s + 0.1 g^2;  a <- momentum a + rate g / sqrt(s + 1e-7);  w <- w - a
    adam     Kingma & Ba with beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8
    adamw    adam, and w <- w - rate weight_decay w before it
    `weight_decay` concerns arrays of two and more dimensions (kernels); except for adamw it is the
    L2 term weight_decay w added to the gradient.
    """
    ops = tf.raw_ops
    updates = tf.cast(step + 1, tf.float32)
    beta1_power, beta2_power = 0.9 ** updates, 0.999 ** updates
    for index, (w, g) in enumerate(zip(variables, gradients, strict=True)):
        decay = weight_decay if w.shape.rank > 1 else 0.0
        state = [slots[name][index].handle for name in SLOTS[method]]
        if decay and method == "adamw":
            ops.ResourceApplyGradientDescent(var=w.handle, alpha=rate * decay, delta=w)
        elif decay:
            g = g + decay * w
        if method == "sgd":
            ops.ResourceApplyMomentum(var=w.handle, accum=state[0], lr=rate, grad=g,
                                      momentum=momentum, use_nesterov=nesterov)
        elif method == "rmsprop":
            ops.ResourceApplyRMSProp(var=w.handle, ms=state[0], mom=state[1], lr=rate, rho=0.9,
                                     momentum=momentum, epsilon=1e-7, grad=g)
        else:
            ops.ResourceApplyAdam(var=w.handle, m=state[0], v=state[1], grad=g, lr=rate, beta1=0.9,
                                  beta2=0.999, epsilon=1e-8, beta1_power=beta1_power,
                                  beta2_power=beta2_power)
