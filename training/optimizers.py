"""Gradient descent, one fused TensorFlow kernel a variable: a single pass over memory each step.

The state of an optimizer is plain variables ("slots"), so a checkpoint holds it; nothing here
counts steps, the caller passes the step in. Equations as in the kernels' documentation and, for
AdamW, Loshchilov & Hutter (arXiv 1711.05101); checked against keras.optimizers in the tests. (Where
the learning rate changes, Keras's SGD with momentum differs: there the rate is within momentum.)
"""
import dataclasses
from collections.abc import Callable

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An update rule and its state."""
    update: Callable            # (variable's handle, gradient, its slots' handles, At)
    slots: tuple                # names of the variables that it keeps beside each weight array
    decoupled: bool             # whether weight decay stays out of the gradient


@dataclasses.dataclass(frozen=True)
class At:
    """What an update rule must know of the step."""
    rate: object                # float scalar
    updates: object             # float scalar, number of this update, from 1
    momentum: float
    nesterov: bool
    powers: dict = dataclasses.field(default_factory=dict)

    def power(self, beta):
        """Return beta to the power of `updates`, computed once."""
        if beta not in self.powers:
            self.powers[beta] = beta ** self.updates
        return self.powers[beta]


OPTIMIZERS = {}  # {name on the command line: Optimizer}


def optimizer(*slots, decoupled=False):
    """Register a function under its name as the update rule of an optimizer with these slots."""
    def register(update):
        OPTIMIZERS[update.__name__] = Optimizer(update, slots, decoupled)
        return update
    return register


@optimizer("momentum")
def sgd(w, g, slots, at):
    """Apply a <- momentum a + g;  w <- w - rate a  (nesterov: w <- w - rate (g + momentum a))."""
    tf.raw_ops.ResourceApplyMomentum(var=w, accum=slots[0], lr=at.rate, grad=g,
                                     momentum=at.momentum, use_nesterov=at.nesterov)


@optimizer("square", "momentum")
def rmsprop(w, g, slots, at):
    """Apply s <- 0.9 s + 0.1 g^2;  a <- momentum a + rate g / sqrt(s + 1e-7);  w <- w - a."""
    tf.raw_ops.ResourceApplyRMSProp(var=w, ms=slots[0], mom=slots[1], lr=at.rate, rho=0.9,
                                    momentum=at.momentum, epsilon=1e-7, grad=g)


@optimizer("m", "v")
def adam(w, g, slots, at):
    """Apply Adam (Kingma & Ba) with beta1 = 0.9, beta2 = 0.999 in the form of the end of their
    section 2, as Keras's: w <- w - rate sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + 1e-8).

    (PyTorch's adds epsilon to sqrt(v / (1 - beta2^t)), up to 32 times less at first.)
    """
    tf.raw_ops.ResourceApplyAdam(var=w, m=slots[0], v=slots[1], grad=g, lr=at.rate, beta1=0.9,
                                 beta2=0.999, epsilon=1e-8, beta1_power=at.power(0.9),
                                 beta2_power=at.power(0.999))


@optimizer("m", "v", decoupled=True)
def adamw(w, g, slots, at):
    """Apply Adam after w <- w - rate weight_decay w."""
    adam(w, g, slots, at)


def create_slots(name, variables):
    """Return {slot name: [variable like each of `variables`, zero]} of an optimizer."""
    return {slot: [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in variables]
            for slot in OPTIMIZERS[name].slots}


def is_decayed(variable):
    """Return whether weight decay concerns a Keras variable: kernels, not biases and not the scales
    and shifts of normalisation, whatever their rank."""
    return len(variable.shape) > 1 and variable.name not in ("bias", "beta", "gamma", "alpha")


def apply_gradients(name, variables, slots, gradients, step, rate,
                    momentum=0.9, nesterov=True, weight_decay=0.0, decayed=None):
    """Update `variables` in place for `step` (int32 scalar, from 0) at learning `rate` (float
    scalar). A variable whose gradient is None stays as it is.

    `weight_decay` concerns the variables for which `decayed` (a list of booleans) is True; unless
    the optimizer decouples it, it is the L2 term weight_decay w added to the gradient.
    """
    own, at = OPTIMIZERS[name], At(rate, tf.cast(step + 1, tf.float32), momentum, nesterov)
    for index, (w, g) in enumerate(zip(variables, gradients, strict=True)):
        if g is None:
            continue
        if weight_decay and decayed[index]:
            if own.decoupled:
                tf.raw_ops.ResourceApplyGradientDescent(var=w.handle, alpha=rate * weight_decay,
                                                        delta=w)
            else:
                g = g + weight_decay * w
        own.update(w.handle, g, [slots[slot][index].handle for slot in own.slots], at)
