"""Gradient descent, one fused TensorFlow kernel a variable: a single pass over memory each step.

The state of a method is plain variables ("slots"), so a checkpoint holds it; nothing here counts
steps, the caller passes the step in. Equations as in the kernels' documentation and, for AdamW,
Loshchilov & Hutter (arXiv 1711.05101); checked against keras.optimizers in the tests.
"""
import tensorflow as tf

ops = tf.raw_ops



def _sgd(w, g, state, rate, powers, momentum, nesterov):
    accumulator, = state
    ops.ResourceApplyMomentum(var=w, accum=accumulator, lr=rate, grad=g, momentum=momentum,
                              use_nesterov=nesterov)


def _rmsprop(w, g, state, rate, powers, momentum, nesterov):
    square, accumulator = state
    ops.ResourceApplyRMSProp(var=w, ms=square, mom=accumulator, lr=rate, rho=0.9,
                             momentum=momentum, epsilon=1e-7, grad=g)


def _adam(w, g, state, rate, powers, momentum, nesterov):
    (m, v), (beta1_power, beta2_power) = state, powers
    ops.ResourceApplyAdam(var=w, m=m, v=v, grad=g, lr=rate, beta1=0.9, beta2=0.999, epsilon=1e-8,
                          beta1_power=beta1_power, beta2_power=beta2_power)


METHODS = {"sgd": (_sgd, ("momentum",)), "rmsprop": (_rmsprop, ("square", "momentum")),
           "adam": (_adam, ("m", "v")), "adamw": (_adam, ("m", "v"))}


def create_slots(method, variables):
    """{slot name: [variable like each of `variables`, zero]}."""
    return {name: [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in variables]
            for name in METHODS[method][1]}


def is_decayed(variable):
    """Whether weight decay concerns a Keras variable: kernels, not biases and not the scales and
    shifts of normalisation, whatever their rank."""
    return len(variable.shape) > 1 and variable.name not in ("bias", "beta", "gamma", "alpha")


def apply_gradients(method, variables, slots, gradients, step, rate,
                    momentum=0.9, nesterov=True, weight_decay=0.0, decayed=None):
    """Update `variables` in place for `step` (int32 scalar, from 0) at learning `rate` (float
    scalar). A variable whose gradient is None stays as it is.

    sgd      a <- momentum a + g;  w <- w - rate a   (nesterov: w <- w - rate (g + momentum a))
    rmsprop  s <- 0.9 s + 0.1 g^2;  a <- momentum a + rate g / sqrt(s + 1e-7);  w <- w - a
    adam     Kingma & Ba with beta1 = 0.9, beta2 = 0.999 in the form of the end of their section 2,
             as Keras's: w <- w - rate sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + 1e-8).
             (PyTorch's adds epsilon to sqrt(v / (1 - beta2^t)), up to 32 times less at first.)
    adamw    adam, and w <- w - rate weight_decay w before it
    `weight_decay` concerns the variables for which `decayed` (a list of booleans) is True; except
    for adamw it is the L2 term weight_decay w added to the gradient.
    """
    update, names = METHODS[method]
    updates = tf.cast(step + 1, tf.float32)
    powers = 0.9 ** updates, 0.999 ** updates
    for index, (w, g) in enumerate(zip(variables, gradients, strict=True)):
        if g is None:
            continue
        if weight_decay and decayed[index]:
            if method == "adamw":
                ops.ResourceApplyGradientDescent(var=w.handle, alpha=rate * weight_decay, delta=w)
            else:
                g = g + weight_decay * w
        update(w.handle, g, [slots[name][index].handle for name in names], rate, powers,
               momentum, nesterov)
