"""What a run writes to TensorBoard about its network: histograms of weights, activations and gates,
the first layer's kernels, and how recurrent states and their gradients grow or shrink over time.
"""
import keras
import numpy as np
import tensorflow as tf

from cells import gate_activations
from recurrent import Recurrent, Sweeps


def tile_filters(kernel, columns=8, gap=1):
    """First-layer kernels as one picture, each scaled to its own range.

    kernel: (height, width, channels, filters) -> float32 (rows, columns, channels) in 0 .. 1, the
    background white; channels is 1 or 3.
    """
    height, width, channels, count = kernel.shape
    rows = -(-count // columns)
    low, high = kernel.min(axis=(0, 1, 2)), kernel.max(axis=(0, 1, 2))
    scaled = (kernel - low) / np.maximum(high - low, 1e-12)
    picture = np.ones((rows * (height + gap) + gap, columns * (width + gap) + gap, channels),
                      np.float32)
    for i in range(count):
        row, column = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        picture[row:row + height, column:column + width] = scaled[..., i]
    return picture


def log_histograms(run, step, model, activations):
    """Histograms of all weights and of activations {name: array}; of many numbers every k-th
    counts."""
    def thin(values):
        return tf.reshape(values, [-1])[::-(-tf.size(values) // 50_000)]
    with run.writer("train").as_default():
        for variable in model.trainable_variables:
            tf.summary.histogram(f"weights/{variable.path}", thin(variable), step=step)
        for name, values in activations.items():
            tf.summary.histogram(f"activations/{name}", thin(values), step=step)


def log_features(run, step, model, inputs):
    """Histograms of weights and rectifiers; the first layer's kernels as picture and as tensor."""
    rectifiers = [layer for layer in model.layers if isinstance(layer, keras.layers.ReLU)]
    outputs = keras.Model(model.input, [layer.output for layer in rectifiers])(
        inputs, training=False)
    log_histograms(run, step, model, {layer.name: y for layer, y in zip(rectifiers, outputs)})
    kernel = model.get_layer("conv1").kernel.numpy()
    with run.writer("train").as_default():
        if kernel.shape[2] in (1, 3):
            picture = np.kron(tile_filters(kernel), np.ones((8, 8, 1), np.float32))
            tf.summary.image("filters", picture[None], step=step)
        kind = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="kernel"))
        tf.summary.write("filters/kernel", kernel, step=step, metadata=kind)


def has_time(model):
    """Whether the network reads an image as one sequence, so that its steps have norms."""
    return any(isinstance(layer, Recurrent) for layer in model.layers)


def norms_over_time(model, inputs, labels):
    """How large the last recurrent layer's state is after each step, and how much the loss feels
    it.

    inputs: network input (n, height, width, channels), labels (n,). Returns float arrays (steps,):
    "state" and "gradient", the mean over images of |h_t| and of |d loss / d h_t|, the loss being
    each image's own; of an LSTM also "memory" and "memory_gradient", the same of c_t. (Its h_t is
    made of c_t, so that the gradient by way of c_(t+1) is in the memory's and not in the state's.)
    A gradient that shrinks towards the first step is vanishing, one that grows is exploding.
    Computed with Keras's cells, step by step.
    """
    last = [layer for layer in model.layers if isinstance(layer, Recurrent)][-1]
    cells = keras.layers
    cell = {"rnn": cells.SimpleRNNCell, "lstm": cells.LSTMCell, "gru": cells.GRUCell,
            "gru-before": lambda n: cells.GRUCell(n, reset_after=False)}[last.cell](last.units)
    sequence = tf.cast(keras.Model(model.input, last.input)(inputs, training=False), tf.float32)
    cell.build(sequence[:, 0].shape)
    cell.set_weights(last.get_weights())
    states = [tf.zeros((len(sequence), last.units))] * len(tf.nest.flatten(cell.state_size))
    states_after = []
    with tf.GradientTape() as tape:
        for x in tf.unstack(sequence, axis=1):
            h, states = cell(x, states)
            states_after.append(states)  # [h], or an LSTM's [h, c]
        logits = model.get_layer("logits")(h)
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    by_kind, norms = list(zip(*states_after)), {}
    for names, *values in zip((("state", "gradient"), ("memory", "memory_gradient")), by_kind,
                              tape.gradient(loss, by_kind)):
        for name, vectors in zip(names, values):
            norms[name] = np.float64([tf.reduce_mean(tf.norm(v, axis=1)) for v in vectors])
    return norms


def log_recurrence(run, step, model, inputs, labels):
    """Histograms of weights and gates; where an image is one sequence, norms_over_time as tensors.
    """
    first = next(layer for layer in model.layers if isinstance(layer, (Recurrent, Sweeps)))
    sequence = tf.cast(keras.Model(model.input, first.input)(inputs, training=False), tf.float32)
    if isinstance(first, Sweeps):
        first, sequence = first.down, first.columns(sequence)
    gates = gate_activations(first.cell, sequence,
                             *(tf.constant(w) for w in first.get_weights()))
    log_histograms(run, step, model, gates)
    if not has_time(model):
        return
    kind = tf.compat.v1.SummaryMetadata(
        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="norms"))
    with run.writer("train").as_default():
        for name, norms in norms_over_time(model, inputs, labels).items():
            tf.summary.write(f"over_time/{name}", norms, step=step, metadata=kind)


def log_norms_over_time(run, model, inputs, labels):
    """norms_over_time as a chart whose horizontal axis is the time step, not the update."""
    if not has_time(model):
        return
    with run.writer("over_time").as_default():
        for name, norms in norms_over_time(model, inputs, labels).items():
            for t, value in enumerate(norms, 1):
                tf.summary.scalar(f"over_time/{name}_norm", value, step=t)
