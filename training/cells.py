"""RNN, LSTM and GRU with back-propagation through time written out.

Each function maps a whole sequence x (batch, steps, features) to a tuple of its hidden states, one
(batch, units) a step, starting from zeros, and to its backward pass, as tf.custom_gradient wants
it: from the gradients of the loss with respect to the states (None where there is none) to those
with respect to x, W, U, b. A step multiplies [x_t 1 h_(t-1)] with each gate's weights stacked as
[W; b; U], one matrix product for input, bias and state. The backward pass (Werbos 1990) goes
through the steps in reverse; the gradients of a gate's W, b and U are then one product over all
steps, [x 1 h]' da. Whatever is local to a step is done step by step, while it is still in the
processor's cache, and gates are kept apart: to keep them joined would write each once more, to
memory that is not. No clipping, no truncation.

Notation: x W is a matrix product, x * y is element by element, s is the logistic function, [a b]
joins along the last axis, U' is the transpose. Weights have Keras's names, shapes and gate order:
kernel W (features, gates * units), recurrent kernel U (units, gates * units), bias b.
"""
import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Cell:
    """What a recurrent layer must know of a cell."""
    states: Callable              # x, W, U, b -> (tuple of hidden states, backward)
    gates: int                    # W is (features, gates * units), U (units, gates * units)
    biases: int                   # 1: b is (gates * units,); 2: b is (2, gates * units)
    forget_gate: int              # number of the gate that forgets; -1: none
    gate_values: Callable | None  # x, states before, W, U, b -> {gate: (n, steps, units)}
    in_keras: Callable | None     # units, options -> Keras's layer, with the same weights


CELLS = {}  # {name on the command line: Cell}


def cell(gates, biases=1, forget_gate=-1, gate_values=None, in_keras=None):
    """Register a function under its name as a recurrent cell."""
    def register(states):
        CELLS[states.__name__.replace("_", "-")] = Cell(states, gates, biases, forget_gate,
                                                        gate_values, in_keras)
        return states
    return register


def _lstm_gates(x, before, W, U, b):
    i, f, g, o = tf.split(tf.matmul(x, W) + tf.matmul(before, U) + b, 4, axis=-1)
    return {"input": tf.sigmoid(i), "forget": tf.sigmoid(f), "candidate": tf.tanh(g),
            "output": tf.sigmoid(o)}


def _gru_gates(x, before, W, U, b):
    z, r, _ = tf.split(tf.matmul(x, W) + tf.matmul(before, U) + tf.reduce_sum(
        tf.reshape(b, (-1, W.shape[1])), axis=0), 3, axis=-1)
    return {"update": tf.sigmoid(z), "reset": tf.sigmoid(r)}


def through_tanh(y, dy):
    """Return d loss / d a, dy * (1 - y^2), from y = tanh(a) and dy = d loss / d y."""
    return tf.raw_ops.TanhGrad(y=y, dy=dy)


def through_sigmoid(y, dy):
    """Return d loss / d a, dy * y * (1 - y), from y = s(a) and dy = d loss / d y."""
    return tf.raw_ops.SigmoidGrad(y=y, dy=dy)


def _steps(x):
    """Return the steps of x, a list of (batch, features), and the ones beside each, (batch, 1)."""
    return tf.unstack(x, axis=1), tf.ones((tf.shape(x)[0], 1), x.dtype)


def _start(x, U):
    """Return the state before the first step: zeros (batch, units)."""
    return tf.zeros((tf.shape(x)[0], U.shape[0]), x.dtype)


def _gates(W, b, U):
    """Stack [W; b; U] of each gate, (features + 1 + units, units); return them and U'."""
    gates = U.shape[1] // U.shape[0]
    return tf.split(tf.concat([W, b[None], U], axis=0), gates, axis=1), tf.transpose(U)


def _sum(a, b):
    """Add two gradients; None counts as zero."""
    return b if a is None else a if b is None else a + b


def _back(da, U_t, *others):
    """Return d loss / d h_(t-1): da_t U' of all gates, and what else reaches it."""
    return tf.add_n([*others, tf.matmul(tf.concat(da, axis=1), U_t)])


def _by_gate(values):
    """Join the steps of each gate: (batch, units) a step -> (steps * batch, units) a gate."""
    return [tf.concat(gate, axis=0) for gate in zip(*values)]


def _stacked_gradient(z, da):
    """Return d loss / d [W; b; U] of all gates, from the list z_t = [x_t 1 h_(t-1)] and da by gate.
    """
    z = tf.concat(z, axis=0)
    return tf.concat([tf.matmul(z, d, transpose_a=True) for d in da], axis=1)


def _input_gradient(x, W, da):
    """Return d loss / d x, shaped like x, from da by gate."""
    rows = tf.matmul(tf.concat(da, axis=1), W, transpose_b=True)  # (steps * batch, features)
    return tf.transpose(tf.reshape(rows, (x.shape[1], -1, x.shape[2])), [1, 0, 2])


def _gradients(x, W, z, da):
    """Return (dx, dW, dU, db) from z_t = [x_t 1 h_(t-1)] and da_t, each gate's d loss / d a_t."""
    da, features = _by_gate(da), W.shape[0]
    stacked = _stacked_gradient(z, da)
    return (_input_gradient(x, W, da),
            stacked[:features], stacked[features + 1:], stacked[features])


@cell(gates=1, in_keras=lambda units, **options: keras.layers.SimpleRNN(units, **options))
def rnn(x, W, U, b):
    """Compute Elman's network: h_t = tanh(x_t W + h_(t-1) U + b).

    W (features, units), U (units, units), b (units,).
    Backward:  dh_t = (from the loss) + da_(t+1) U';  da_t = dh_t * (1 - h_t^2).
    """
    (M,), U_t = _gates(W, b, U)
    (inputs, one), h, z = _steps(x), [_start(x, U)], []
    for x_t in inputs:
        z.append(tf.concat([x_t, one, h[-1]], axis=1))
        h.append(tf.tanh(tf.matmul(z[-1], M)))

    def backward(*dh):
        da, carried = [], None
        for t, d in reversed(list(enumerate(dh, 1))):
            da.insert(0, (through_tanh(h[t], _sum(d, carried)),))
            carried = _back(da[0], U_t)
        return _gradients(x, W, z, da)
    return tuple(h[1:]), backward


@cell(gates=4, forget_gate=1, gate_values=_lstm_gates,
      in_keras=lambda units, **options: keras.layers.LSTM(units, **options))
def lstm(x, W, U, b):
    """Compute a long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of
    Gers et al. 2000).

    [i f g o]_t = [s s tanh s](x_t W + h_(t-1) U + b);
    c_t = f * c_(t-1) + i * g;  h_t = o * tanh(c_t)
    W (features, 4 units), U (units, 4 units), b (4 units,).
    Backward:  dh_t = (from the loss) + da_(t+1) U';  do = dh * tanh(c);
    dc_t = dh * o * (1 - tanh(c)^2) + dc_(t+1) * f_(t+1);  di = dc * g;  df = dc * c_(t-1);
    dg = dc * i;  da = each of these through its own s or tanh.
    """
    M, U_t = _gates(W, b, U)
    (inputs, one), h, c, z, steps = _steps(x), [_start(x, U)], [_start(x, U)], [], []
    for x_t in inputs:
        z.append(tf.concat([x_t, one, h[-1]], axis=1))
        i, f, g, o = (tf.matmul(z[-1], m) for m in M)
        i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
        c.append(f * c[-1] + i * g)
        tanh_c = tf.tanh(c[-1])
        h.append(o * tanh_c)
        steps.append((i, f, g, o, tanh_c, c[-2]))

    def backward(*dh):
        da, carried, dc = [], None, None
        for (i, f, g, o, tanh_c, before), d in reversed(list(zip(steps, dh))):
            d = _sum(d, carried)
            dc = _sum(dc, through_tanh(tanh_c, d * o))
            da.insert(0, (through_sigmoid(i, dc * g), through_sigmoid(f, dc * before),
                          through_tanh(g, dc * i), through_sigmoid(o, d * tanh_c)))
            dc *= f
            carried = _back(da[0], U_t)
        return _gradients(x, W, z, da)
    return tuple(h[1:]), backward


@cell(gates=3, biases=2, gate_values=_gru_gates,
      in_keras=lambda units, **options: keras.layers.GRU(units, **options))
def gru(x, W, U, b):
    """Compute a gated recurrent unit, reset gate after the product (Keras's default, cuDNN's form).

    [z r]_t = s([xz xr] + [pz pr]);  n_t = tanh(xn + r * pn);  h_t = z * h_(t-1) + (1 - z) * n
    where [xz xr xn] = x_t W + b_0 and [pz pr pn] = h_(t-1) U + b_1.
    W (features, 3 units), U (units, 3 units), b (2, 3 units).
    Backward:  dn = dh * (1 - z) through tanh;  dr = dn * pn and dz = dh * (h_(t-1) - n) through s;
    dp_t = [dz dr dn*r];  dh_(t-1) = (from the loss) + dh * z + dp_t U';  d(x W)_t = [dz dr dn].
    """
    features, units = W.shape[0], U.shape[0]
    W_zr, W_n, b_zr, b_n = (W[:, :2 * units], W[:, 2 * units:],
                            b[0, :2 * units] + b[1, :2 * units], b[:, 2 * units:])
    M, U_t = _gates(  # of xz+pz, xr+pr and pn; xn has nothing to do with the state
        tf.concat([W_zr, tf.zeros_like(W_n)], axis=1), tf.concat([b_zr, b_n[1]], axis=0), U)
    (inputs, one), h, joined, steps = _steps(x), [_start(x, U)], [], []
    rows = tf.concat(inputs, axis=0)  # (steps * batch, features)
    xn = tf.split(tf.matmul(rows, W_n) + b_n[0], len(inputs))
    for x_t, xn_t in zip(inputs, xn):
        joined.append(tf.concat([x_t, one, h[-1]], axis=1))
        z, r, p = (tf.matmul(joined[-1], m) for m in M)
        z, r = tf.sigmoid(z), tf.sigmoid(r)
        n = tf.tanh(xn_t + r * p)
        difference = h[-1] - n
        h.append(n + z * difference)
        steps.append((z, r, p, n, difference))

    def backward(*dh):
        dp, dn, carried = [], [], None
        for (z, r, p, n, difference), d in reversed(list(zip(steps, dh))):
            d = _sum(d, carried)
            through = d * z
            dn.insert(0, through_tanh(n, d - through))
            dp.insert(0, (through_sigmoid(z, d * difference), through_sigmoid(r, dn[0] * p),
                          dn[0] * r))
            carried = _back(dp[0], U_t, through)
        (dz, dr, dpn), dn = _by_gate(dp), tf.concat(dn, axis=0)
        stacked = _stacked_gradient(joined, (dz, dr, dpn))
        dW_zr, db = stacked[:features, :2 * units], stacked[features]
        dW = tf.concat([dW_zr, tf.matmul(rows, dn, transpose_a=True)], axis=1)
        db_0 = tf.concat([db[:2 * units], tf.reduce_sum(dn, axis=0)], axis=0)
        return (_input_gradient(x, W, (dz, dr, dn)), dW, stacked[features + 1:],
                tf.stack([db_0, db]))
    return tuple(h[1:]), backward


@cell(gates=3, gate_values=_gru_gates,
      in_keras=lambda units, **options: keras.layers.GRU(units, reset_after=False, **options))
def gru_reset_before(x, W, U, b):
    """Compute a gated recurrent unit, reset gate before the product (Cho et al. 2014).

    [z r]_t = s([xz xr] + h_(t-1) Uzr);  n_t = tanh(xn + (r * h_(t-1)) Un);
    h_t = z * h_(t-1) + (1 - z) * n,  where [xz xr xn] = x_t W + b.
    W (features, 3 units), U = [Uzr Un] (units, 3 units), b (3 units,).
    Backward:  dn = dh * (1 - z) through tanh;  q = dn Un';  dz = dh * (h_(t-1) - n) and
    dr = q * h_(t-1) through s;  dh_(t-1) = (from the loss) + dh * z + q * r + [dz dr] Uzr'.
    """
    units = U.shape[0]
    (M_z, M_r, M_n), U_t = _gates(W, b, U)
    U_zr, U_n = U_t[:2 * units], U_t[2 * units:]
    (inputs, one), h, steps, joined, reset = _steps(x), [_start(x, U)], [], [], []
    for x_t in inputs:
        joined.append(tf.concat([x_t, one, h[-1]], axis=1))
        z, r = tf.sigmoid(tf.matmul(joined[-1], M_z)), tf.sigmoid(tf.matmul(joined[-1], M_r))
        reset.append(tf.concat([x_t, one, r * h[-1]], axis=1))
        n = tf.tanh(tf.matmul(reset[-1], M_n))
        steps.append((z, r, n, h[-1]))
        h.append(n + z * (h[-1] - n))

    def backward(*dh):
        d_zr, d_n, carried = [], [], None
        for (z, r, n, before), d in reversed(list(zip(steps, dh))):
            d = _sum(d, carried)
            through = d * z
            d_n.insert(0, (through_tanh(n, d - through),))
            q = tf.matmul(*d_n[0], U_n)
            d_zr.insert(0, (through_sigmoid(z, d * (before - n)), through_sigmoid(r, q * before)))
            carried = _back(d_zr[0], U_zr, through, q * r)
        parts = zip(_gradients(x, W[:, :2 * units], joined, d_zr),
                    _gradients(x, W[:, 2 * units:], reset, d_n))
        (dx, also), *others = parts
        return dx + also, *(tf.concat(pair, axis=-1) for pair in others)
    return tuple(h[1:]), backward


def all_states(cell):
    """Return a cell's function x, W, U, b -> its states, with its own gradient."""
    return tf.custom_gradient(CELLS[cell].states)


def last_state(cell):
    """Return a cell's function x, W, U, b -> its last state; earlier states receive gradient only
    through it."""
    @tf.custom_gradient
    def function(x, W, U, b):
        h, backward = CELLS[cell].states(x, W, U, b)
        return h[-1], lambda dh: backward(*[None] * (len(h) - 1), dh)
    return function


def gate_activations(cell, x, W, U, b):
    """Return {gate: values (batch, steps, units)} of a layer over a sequence, or its states if the
    cell has no gates; arguments as for the cells."""
    h = tf.stack(CELLS[cell].states(x, W, U, b)[0], axis=1)
    before = tf.concat([tf.zeros_like(h[:, :1]), h[:, :-1]], axis=1)
    gates = CELLS[cell].gate_values
    return gates(x, before, W, U, b) if gates else {"state": h}
