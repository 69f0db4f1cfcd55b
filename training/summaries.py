"""What a run writes to TensorBoard about its network: histograms of weights, activations and gates,
the first layer's kernels, and how recurrent states and their gradients grow or shrink over time.
"""
import keras
import numpy as np
import tensorflow as tf

from training import graph
from training.cells import CELLS, gate_activations
from training.recurrent import Recurrent, Sweeps, columns


def tile_filters(kernel, columns=8, gap=1):
    """Return first-layer kernels as one picture, each scaled to its own range.

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


def log_histograms(events, step, model, activations):
    """Log histograms of all weights and of activations {name: array}; of many values every k-th.

    Computed by NumPy, in a sixth of the time that tf.summary.histogram takes.
    """
    from tensorboard.plugins.histogram.summary import histogram_pb
    arrays = {f"weights/{v.path}": v.numpy() for v in model.trainable_variables} | {
        f"activations/{name}": np.ravel(values) for name, values in activations.items()}
    with events.into("train"):
        for name, values in arrays.items():
            thin = values.ravel()[::max(1, -(-values.size // 50_000))]
            tf.summary.experimental.write_raw_pb(
                histogram_pb(f"histograms/{name}", thin).SerializeToString(), step=step)


def log_inside(events, step, model, inputs, labels):
    """Log what the network has of: histograms of weights, activations and gates; the first
    convolution's kernels, as picture and as tensor; norms_over_time, as tensors."""
    stages = graph.stages(model)
    values = tf.nest.flatten(keras.Model(model.input, list(stages.values()))(
        inputs, training=False)) if stages else []  # of a list of one Keras makes no list
    log_histograms(events, step, model, dict(zip(stages, values, strict=True))
                   | first_gates(model, inputs))
    log_kernels(events, step, model)
    with events.into("train"):
        for name, norms in norms_over_time(model, inputs, labels).items():
            tf.summary.write(f"over_time/{name}", norms, step=step, metadata=_kind("norms"))


def log_kernels(events, step, model):
    """Log the first convolution's kernels, if there is one, as picture and as tensor."""
    first = graph.first_convolution(model)
    if first is None:
        return
    kernel = first.kernel.numpy()
    with events.into("train"):
        if kernel.shape[2] in (1, 3):
            picture = np.kron(tile_filters(kernel), np.ones((8, 8, 1), np.float32))
            tf.summary.image("filters", picture[None], step=step)
        tf.summary.write("filters/kernel", kernel, step=step, metadata=_kind("kernel"))


def _kind(plugin):
    return tf.compat.v1.SummaryMetadata(
        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name=plugin))


def first_gates(model, inputs):
    """Return {gate: values} of the first layer of our cells; empty if a network has none."""
    first = next((node for node in graph.nodes(model)
                  if isinstance(node.operation, (Recurrent, Sweeps))), None)
    if first is None:
        return {}
    sequence = tf.cast(keras.Model(model.input, first.input_tensors[0])(
        inputs, training=False), tf.float32)
    layer = first.operation
    if isinstance(layer, Sweeps):
        layer, sequence = layer.down, columns(sequence)
    if layer.go_backwards:
        sequence = tf.reverse(sequence, [1])
    return gate_activations(layer.cell, sequence, *(tf.constant(w) for w in layer.get_weights()))


def step_by_step(node, sequence):
    """Return a Keras cell with a recurrent node's weights, or None if there is no such cell."""
    layer = node.operation
    if len(node.input_tensors) > 1 or len(node.outputs) > 1:  # states or masks given, states taken
        return None
    if type(layer) in (keras.layers.SimpleRNN, keras.layers.LSTM, keras.layers.GRU):
        return layer.cell
    if type(layer) is not Recurrent or CELLS[layer.cell].in_keras is None:
        return None
    cell = CELLS[layer.cell].in_keras(layer.units).cell
    cell.build(sequence[:, 0].shape)
    cell.set_weights(layer.get_weights())
    return cell


def norms_over_time(model, inputs, labels):
    """Measure the last recurrent layer's state after each time step, and the loss's gradient there.

    inputs: network input (n, height, width, channels), labels (n,). Returns float arrays (steps,):
    "state" and "gradient", the mean over images of |h_t| and of |d loss / d h_t|, the loss being
    each image's own; of an LSTM also "memory" and "memory_gradient", the same of c_t. (Its h_t is
    made of c_t, so that the gradient by way of c_(t+1) is in the memory's and not in the state's.)
    A gradient that shrinks towards the first step is vanishing, one that grows is exploding.
    An image counts at a step unless what the layer reads there is constant, as a blank row of a
    digit is; where fewer than half of the images count, norms are nan.
    Computed with Keras's cells, step by step, and from there on to the loss by the network's own
    graph. Empty where no layer reads the image as one sequence, or the last of them is not one of
    ours, SimpleRNN, LSTM or GRU, or is given or gives states.
    """
    kinds = Recurrent, keras.layers.RNN, keras.layers.Bidirectional
    recurrent = [node for node in graph.nodes(model) if isinstance(node.operation, kinds)]
    states_after, counted = [], []  # of each step [h], or an LSTM's [h, c]; which images count
    if not recurrent:
        return {}

    def apply(node, calls):
        (args, kwargs), layer = calls[0], node.operation
        if node is not recurrent[-1]:
            return [graph.call(layer, args, kwargs, training=False)]
        sequence = tf.cast((*args, *kwargs.values())[0], tf.float32)
        cell = step_by_step(node, sequence)
        if cell is None:
            return [graph.call(layer, args, kwargs, training=False)]
        if layer.go_backwards:
            sequence = tf.reverse(sequence, [1])
        states = [tf.zeros((len(sequence), size)) for size in keras.tree.flatten(cell.state_size)]
        outputs = []
        for x in tf.unstack(sequence, axis=1):
            h, states = cell(x, states)
            states_after.append(states)
            counted.append((tf.reduce_max(x, 1) > tf.reduce_min(x, 1)) | (x.shape[1] == 1))
            outputs.append(h)
        whole = tf.stack(outputs, axis=1) if layer.return_sequences else outputs[-1]
        return [tf.cast(whole, layer.compute_dtype)]
    with tf.GradientTape() as tape:
        values, = graph.walk(model, [inputs], apply)
        logits = tf.cast(values[id(graph.functional(model).outputs[0])], tf.float32)
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    by_kind, norms = list(zip(*states_after)), {}
    for names, *values in zip((("state", "gradient"), ("memory", "memory_gradient")), by_kind,
                              tape.gradient(loss, by_kind)):
        for name, vectors in zip(names, values):
            norms[name] = np.float64([
                np.nan if np.mean(count) < 0.5 else 0.0 if v is None else tf.reduce_mean(
                    tf.norm(tf.cast(v, tf.float32)[count], axis=1))
                for v, count in zip(vectors, counted)])
    return norms


def log_norms_over_time(events, model, inputs, labels):
    """Log norms_over_time as a chart whose horizontal axis is the time step."""
    norms = norms_over_time(model, inputs, labels)
    if norms:
        with events.into("over_time"):
            for name, values in norms.items():
                for t in 1 + np.flatnonzero(np.isfinite(values)):
                    tf.summary.scalar(f"over_time/{name}_norm", values[t - 1], step=t)
