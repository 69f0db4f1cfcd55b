"""JAX: a jitted step with optax's Adam; convolutions and scan from jax.lax."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from peers import CHUNK, RATE


def lenet5(case, dtype, weights, x, key, dropout):
    def act(x):
        return jnp.where(x > 0, x, 0.1 * x) if case.norm else jax.nn.relu(x)
    for kernel, bias in (weights[:2], weights[2:4]):
        x = jax.lax.conv_general_dilated(x.astype(dtype), kernel.astype(dtype), (1, 1), "SAME",
                                         dimension_numbers=("NHWC", "HWIO", "NHWC"))
        if case.norm:
            wide = x.astype(jnp.float32)
            x = ((wide - wide.mean((0, 1, 2))) * jax.lax.rsqrt(wide.var((0, 1, 2)) + 1e-3)
                 ).astype(dtype)
        x = act(x + bias.astype(dtype))
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = act(x.reshape(len(x), -1) @ weights[4].astype(dtype) + weights[5].astype(dtype))
    x = x * jax.random.bernoulli(key, 1 - dropout, x.shape) / (1 - dropout)
    return x.astype(jnp.float32) @ weights[6] + weights[7]


def recurrent(case, dtype, weights, x, key, dropout):
    W, U, b, head, bias = weights
    units = case.units
    x = x.reshape(len(x), case.shape[0], -1).transpose(1, 0, 2).astype(dtype)
    inputs = x @ W.astype(dtype) + (b[0] if case.network == "gru" else b).astype(dtype)
    U, zero = U.astype(dtype), jnp.zeros((x.shape[1], units), dtype)

    def rnn(h, a):
        return (jnp.tanh(a + h @ U),) * 2

    def gru(h, a):
        p = h @ U + b[1].astype(dtype)
        z, r = jnp.split(jax.nn.sigmoid(a[:, :2 * units] + p[:, :2 * units]), 2, 1)
        n = jnp.tanh(a[:, 2 * units:] + r * p[:, 2 * units:])
        return (n + z * (h - n),) * 2

    def lstm(state, a):
        h, c = state
        i, f, g, o = jnp.split(a + h @ U, 4, 1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h
    cell = {"rnn": rnn, "gru": gru, "lstm": lstm}[case.network]
    state = (zero, zero) if case.network == "lstm" else zero
    return jax.lax.scan(cell, state, inputs)[1][-1].astype(jnp.float32) @ head + bias


def build(case):
    network = functools.partial(lenet5 if case.network == "lenet5" else recurrent, case,
                                jnp.bfloat16 if case.precision == "bfloat16" else jnp.float32)
    images, labels = (jnp.asarray(x) for x in case.images())
    weights = [jnp.asarray(w) for w in case.weights()]
    optimizer = optax.adam(RATE)

    def mean_loss(weights, chosen, key, dropout):
        logits = network(weights, images[chosen].astype(jnp.float32) / 255, key, dropout)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels[chosen]).mean()

    @jax.jit
    def step(weights, state, chosen, key):
        value, gradient = jax.value_and_grad(mean_loss)(weights, chosen, key, 0.5)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(weights, updates), state, value
    now = [weights, optimizer.init(weights), jax.random.key(0)]

    def loss():
        return float(mean_loss(weights, jnp.arange(case.batch), now[2], 0.0))

    def train(steps):
        order = np.random.default_rng(0).integers(0, case.count, (steps, case.batch))
        for i in range(steps):
            now[0], now[1], value = step(now[0], now[1], order[i], jax.random.fold_in(now[2], i))
        value.block_until_ready()
    forward = jax.jit(lambda weights, x: network(weights, x.astype(jnp.float32) / 255, now[2], 0.0))
    return loss, train, lambda: np.concatenate(
        [forward(now[0], images[i:i + CHUNK]) for i in range(0, case.count, CHUNK)])
