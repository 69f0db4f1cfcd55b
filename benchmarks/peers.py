"""The same training step in six ways, each as its own users would write it well.

Every way is a function of a Case and returns (loss, train, predict): loss() is the training loss of
the case's first batch with its given weights and no dropout, before any update; train(steps)
updates; predict() computes the logits of all COUNT images, CHUNK at a time.
What differs between the ways is only who computes it: network, weights, images, batch, precision
and optimizer (Adam, 1e-4) are the same.
"""
import dataclasses
import pathlib
import sys
import tempfile

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
COUNT, CHUNK, RATE = 6400, 640, 1e-4


@dataclasses.dataclass(frozen=True)
class Case:
    """What is trained: LeNet-5 of the original (with batch norm if `norm`), or a recurrent net."""
    network: str  # lenet5, rnn, gru, lstm
    batch: int
    units: int = 128
    shape: tuple = (28, 28, 1)
    norm: bool = False
    precision: str = "float32"

    @property
    def flops(self):
        """Multiplications and additions of the matrix products of training on one image: forward,
        and backward twice that, without the first layer's input gradient."""
        height, width, channels = self.shape
        if self.network == "lenet5":
            conv1 = height * width * 25 * channels * 32
            conv2 = (height // 2) * (width // 2) * 25 * 32 * 64
            dense = (height // 4) * (width // 4) * 64 * 1024 + 1024 * 10
            return 2 * (2 * conv1 + 3 * (conv2 + dense))
        gates = {"rnn": 1, "gru": 3, "lstm": 4}[self.network]
        inputs = width * channels * gates * self.units
        return 2 * (height * (2 * inputs + 3 * gates * self.units ** 2) + 3 * self.units * 10)

    def images(self):
        """Random images uint8 (COUNT, height, width, channels) and labels int32 (COUNT,)."""
        images, labels = np.random.default_rng(0), np.random.default_rng(2)
        return (images.integers(0, 256, (COUNT, *self.shape), np.uint8),
                labels.integers(0, 10, COUNT, np.int32))

    def weights(self):
        """Weights in Keras's order and layout."""
        rng = np.random.default_rng(1)
        height, width, channels = self.shape

        def kernel(*shape):
            return rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape).astype(np.float32)

        def bias(*shape):
            return np.full(shape, 0.1, np.float32)
        if self.network == "lenet5":
            flat = (height // 4) * (width // 4) * 64
            return [kernel(5, 5, channels, 32), bias(32), kernel(5, 5, 32, 64), bias(64),
                    kernel(flat, 1024), bias(1024), kernel(1024, 10), bias(10)]
        gates = {"rnn": 1, "gru": 3, "lstm": 4}[self.network]
        wide = gates * self.units
        return [kernel(width * channels, wide), kernel(self.units, wide),
                bias(2, wide) if self.network == "gru" else bias(wide),
                kernel(self.units, 10), bias(10)]


def ours(case):
    """This project: the experiment's own training block."""
    import machine
    machine.use_replicas(machine.cores())
    with machine.quiet_import():
        import tensorflow as tf
    import cifar_lenet5
    import mnist_rnn
    from optimizers import create_slots
    from parallel import make_predict
    if case.network == "lenet5":
        config = cifar_lenet5.Config(batch=case.batch, precision=case.precision,
                                     batch_norm="before" if case.norm else "none",
                                     activation="leaky" if case.norm else "relu")
        build = cifar_lenet5.build_model
    else:
        config = mnist_rnn.Config(batch=case.batch, precision=case.precision, cell=case.network,
                                  hidden=case.units)
        build = mnist_rnn.build_model
    images, labels = (tf.constant(x) for x in case.images())

    def block(config, model=None):
        model = model or build(case.shape, 10, config)
        for variable, value in zip(model.trainable_variables, case.weights()):
            variable.assign(value)
        slots = create_slots("adam", [v.value for v in model.trainable_variables])
        return cifar_lenet5.make_train_block(model, slots, config, 0.0, 1.0, images, labels)

    def loss():
        first = block(dataclasses.replace(config, dropout=0.0))
        return float(first(np.arange(case.batch, dtype=np.int32)[None], np.float32([0]), 0)[0])
    model = build(case.shape, 10, config)
    train_block = block(config, model)

    def train(steps):
        indices = np.random.default_rng(0).integers(0, COUNT, (steps, case.batch), np.int32)
        train_block(indices, np.full(steps, RATE, np.float32), 0).numpy()
    predict = make_predict(model, 0.0, 1.0, config.replicas)
    return loss, train, lambda: predict(images, CHUNK)


def keras(case, steps_per_execution=1):
    """Keras: the functional model, compile and fit, as its guides show it."""
    import machine
    with machine.quiet_import():
        import keras
    if case.precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    layers = keras.layers

    def build(dropout):
        x = inputs = keras.Input(case.shape)
        if case.network == "lenet5":
            for filters in (32, 64):
                x = layers.Conv2D(filters, 5, padding="same", use_bias=not case.norm)(x)
                if case.norm:
                    x = layers.BatchNormalization(scale=False)(x)
                    x = layers.LeakyReLU(negative_slope=0.1)(x)
                else:
                    x = layers.ReLU()(x)
                x = layers.MaxPooling2D(2)(x)
            x = layers.Dense(1024)(layers.Flatten()(x))
            x = layers.LeakyReLU(negative_slope=0.1)(x) if case.norm else layers.ReLU()(x)
            x = layers.Dropout(dropout)(x)
        else:
            x = layers.Reshape((case.shape[0], -1))(x)
            x = {"rnn": layers.SimpleRNN, "gru": layers.GRU,
                 "lstm": layers.LSTM}[case.network](case.units)(x)
        model = keras.Model(inputs, layers.Dense(10, dtype="float32")(x))
        for variable, value in zip(model.trainable_variables, case.weights()):
            variable.assign(value)
        model.compile(keras.optimizers.Adam(RATE),
                      keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                      steps_per_execution=steps_per_execution)
        return model
    images, labels = case.images()
    images = images.astype("float32") / 255

    def loss():
        model, first = build(0.0), slice(case.batch)
        return float(model.loss(labels[first], model(images[first], training=True)))
    model = build(0.5)

    def train(steps):
        epochs, rest = divmod(steps * case.batch, COUNT)
        assert not rest, "whole epochs"
        model.fit(images, labels, batch_size=case.batch, epochs=epochs, verbose=0)
    return loss, train, lambda: model.predict(images, batch_size=CHUNK, verbose=0)


def keras_tuned(case):
    """The same with 50 steps a graph call."""
    return keras(case, 50)


def torch(case):
    """PyTorch: eager, channels_last, fused Adam; bfloat16 by autocast."""
    import torch
    nn, fun = torch.nn, torch.nn.functional
    low, weights = case.precision == "bfloat16", [torch.tensor(w) for w in case.weights()]

    class LeNet5(nn.Module):
        def __init__(self):
            super().__init__()
            height, width, channels = case.shape
            self.conv1 = nn.Conv2d(channels, 32, 5, padding=2, bias=not case.norm)
            self.conv2 = nn.Conv2d(32, 64, 5, padding=2, bias=not case.norm)
            self.norm1, self.norm2 = (nn.BatchNorm2d(32, 1e-3), nn.BatchNorm2d(64, 1e-3))
            self.hidden = nn.Linear(height // 4 * (width // 4) * 64, 1024)
            self.drop, self.logits = nn.Dropout(0.5), nn.Linear(1024, 10)
            with torch.no_grad():
                for layer, norm, kernel, bias in ((self.conv1, self.norm1, *weights[:2]),
                                                  (self.conv2, self.norm2, *weights[2:4])):
                    layer.weight.copy_(kernel.permute(3, 2, 0, 1))
                    (norm if case.norm else layer).bias.copy_(bias)
                    norm.weight.requires_grad_(False)
                flat = weights[4].reshape(height // 4, width // 4, 64, 1024).permute(3, 2, 0, 1)
                self.hidden.weight.copy_(flat.flatten(1))
                self.logits.weight.copy_(weights[6].T)
                self.hidden.bias.copy_(weights[5])
                self.logits.bias.copy_(weights[7])

        def forward(self, x):
            act = (lambda x: fun.leaky_relu(x, 0.1)) if case.norm else fun.relu
            for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
                x = conv(x)
                x = fun.max_pool2d(act(norm(x) if case.norm else x), 2)
            return self.logits(self.drop(act(self.hidden(x.flatten(1)))))

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            kind = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[case.network]
            self.layer = kind(case.shape[1] * case.shape[2], case.units, batch_first=True)
            self.logits = nn.Linear(case.units, 10)
            W, U, b, head, bias = weights

            def order(w):  # Keras has the update gate first, PyTorch the reset gate
                if case.network != "gru":
                    return w
                z, r, n = w.split(case.units, dim=-1)
                return torch.cat([r, z, n], -1)
            both = order(b) if case.network == "gru" else torch.stack([b, torch.zeros_like(b)])
            with torch.no_grad():
                for name, value in (("weight_ih_l0", order(W).T), ("weight_hh_l0", order(U).T),
                                    ("bias_ih_l0", both[0]), ("bias_hh_l0", both[1])):
                    getattr(self.layer, name).copy_(value)
                self.logits.weight.copy_(head.T)
                self.logits.bias.copy_(bias)

        def forward(self, x):
            return self.logits(self.layer(x)[0][:, -1])

    images, labels = case.images()
    images, labels = torch.tensor(images).float() / 255, torch.tensor(labels).long()
    if case.network == "lenet5":
        model = LeNet5().to(memory_format=torch.channels_last)
        images = images.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    else:
        model, images = Recurrent(), images.reshape(COUNT, case.shape[0], -1)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], RATE,
                                 fused=True)

    def step_loss(chosen):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits = model(images[chosen])
        return fun.cross_entropy(logits.float(), labels[chosen])

    def loss():
        drop, model.drop = getattr(model, "drop", None), nn.Identity()
        value = step_loss(torch.arange(case.batch)).item()
        model.drop = drop
        return value

    def train(steps):
        order = torch.randint(COUNT, (steps, case.batch))
        for chosen in order:
            optimizer.zero_grad(set_to_none=True)
            step_loss(chosen).backward()
            optimizer.step()

    def predict():
        model.eval()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits = torch.cat([model(part) for part in images.split(CHUNK)])
        model.train()
        return logits
    return loss, train, predict


def jax(case):
    """JAX: a jitted step with optax's Adam; convolutions and scan from jax.lax."""
    import jax
    import jax.numpy as jnp
    import optax
    dtype = jnp.bfloat16 if case.precision == "bfloat16" else jnp.float32
    units = case.units

    def lenet5(weights, x, key, dropout):
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

    def recurrent(weights, x, key, dropout):
        W, U, b, head, bias = weights
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

    network = lenet5 if case.network == "lenet5" else recurrent
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
        order = np.random.default_rng(0).integers(0, COUNT, (steps, case.batch))
        for i in range(steps):
            now[0], now[1], value = step(now[0], now[1], order[i], jax.random.fold_in(now[2], i))
        value.block_until_ready()
    forward = jax.jit(lambda weights, x: network(weights, x.astype(jnp.float32) / 255, now[2], 0.0))
    return loss, train, lambda: np.concatenate(
        [forward(now[0], images[i:i + CHUNK]) for i in range(0, COUNT, CHUNK)])


def starter(case):
    """The starter-code way: a TF1 session, batches copied in Python and fed, and a summary with
    histograms written every step. LeNet-5 only."""
    import machine
    with machine.quiet_import():
        import tensorflow as tf
    v1 = tf.compat.v1
    graph = tf.Graph()
    images, labels = case.images()
    images, one_hot = images.astype("float32") / 255, np.eye(10, dtype="float32")[labels]
    with graph.as_default():
        x, y, keep = (v1.placeholder(tf.float32, shape)
                      for shape in ([None, *case.shape], [None, 10], []))
        v = [v1.get_variable(f"w{i}", initializer=w) for i, w in enumerate(case.weights())]
        h = x

        def act(h):
            return tf.nn.leaky_relu(h, 0.1) if case.norm else tf.nn.relu(h)
        for i in (0, 2):
            h = tf.nn.conv2d(h, v[i], 1, "SAME")
            if case.norm:
                mean, variance = tf.nn.moments(h, [0, 1, 2])
                h = tf.nn.batch_normalization(h, mean, variance, None, None, 1e-3)
            h = act(h + v[i + 1])
            v1.summary.histogram(f"activation{i}", h)
            h = tf.nn.max_pool2d(h, 2, 2, "SAME")
        h = act(tf.matmul(tf.reshape(h, [-1, v[4].shape[0]]), v[4]) + v[5])
        logits = tf.matmul(tf.nn.dropout(h, rate=1 - keep), v[6]) + v[7]
        mean_loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(y, logits))
        update = v1.train.AdamOptimizer(RATE).minimize(mean_loss)
        v1.summary.scalar("loss", mean_loss)
        for variable in v:
            v1.summary.histogram(variable.op.name, variable)
        merged = v1.summary.merge_all()
        session = v1.Session()
        session.run(v1.global_variables_initializer())
        folder = tempfile.TemporaryDirectory()
        writer = v1.summary.FileWriter(folder.name, graph)

    def loss():
        first = slice(case.batch)
        return float(session.run(mean_loss, {x: images[first], y: one_hot[first], keep: 1.0}))

    def train(steps):
        for i in range(steps):
            batch, targets = np.zeros((case.batch, *case.shape)), np.zeros((case.batch, 10))
            for j, k in enumerate(np.random.permutation(COUNT)[:case.batch]):
                batch[j], targets[j] = images[k], one_hot[k]
            summary, _ = session.run([merged, update], {x: batch, y: targets, keep: 0.5})
            writer.add_summary(summary, i)
            writer.flush()
    return loss, train, lambda: np.concatenate([session.run(
        logits, {x: images[i:i + CHUNK], keep: 1.0}) for i in range(0, COUNT, CHUNK)])


WAYS = dict(ours=ours, keras=keras, keras_tuned=keras_tuned, torch=torch, jax=jax, starter=starter)
