"""Read images by a network's last recurrent layer, step by step: states, gates, memory.

Memory is measured as in reservoirs: how well a linear map of the state gives back what was read
some steps before (Jaeger, Short term memory in echo state networks, GMD report 152, 2001).
"""
import functools

import keras
import numpy as np
import tensorflow as tf

import utils
from inside.trained import outputs
from system.command_line import NotDrawn
from training import graph
from training.cells import CELLS
from training.recurrent import Recurrent, Sweeps
from training.summaries import step_by_step

NO_READER = "its last recurrent layer does not read the image as one sequence and give its last " \
            "state"


class Reader:
    """The last recurrent layer of a network, step by step, and what the network makes of its state.
    """

    def __init__(self, network, model=None):
        model = model or network.model
        found = [node for node in graph.nodes(model) if isinstance(node.operation, (
            Recurrent, keras.layers.RNN))]
        both_ways = [node for node in graph.nodes(model) if isinstance(
            node.operation, (Sweeps, keras.layers.Bidirectional))]
        if not found and not both_ways:
            raise NotDrawn(f"{network.folder}: the network has no recurrent layer" +
                           " and no feature maps" * (not network.layers))
        if not found or both_ways or len(found[-1].outputs[0].shape) != 2 or any(
                node.operation.go_backwards for node in found):
            raise NotDrawn(f"{network.folder}: {NO_READER}")
        if any(keras.src.backend.get_keras_mask(node.input_tensors[0]) is not None
               for node in found):
            raise NotDrawn(f"{network.folder}: a recurrent layer is given a mask of steps to skip")
        self.network, self.node, self.layer = network, found[-1], found[-1].operation
        try:
            self.above = keras.Model(self.node.outputs[0], model.output)
        except ValueError as error:  # Keras: not connected
            raise NotDrawn(f"{network.folder}: its answer is not of its last recurrent layer's "
                           "state alone") from error
        self.read = keras.Model(model.input, found[0].input_tensors[0])
        if len({node.input_tensors[0].shape[1] for node in found}) > 1:
            raise NotDrawn(f"{network.folder}: its recurrent layers differ in their steps")
        self.below = [keras.Model(model.input, node.input_tensors[0]) for node in found]
        self.cells = [step_by_step(node, tf.zeros(node.input_tensors[0].shape[1:])[None])
                      for node in found]
        if None in self.cells:
            raise NotDrawn(f"{network.folder}: a recurrent layer is of no cell that Keras has too, "
                           "so it cannot be followed step by step")

    def states(self, images, chunk=1000, layer=-1):
        """Return a recurrent layer's states after each step of uint8 images: [(images, steps,
        units)], of an LSTM h and c."""
        parts, below, cell = [], self.below[layer], self.cells[layer]
        for i in range(0, len(images), chunk):
            sequence = tf.cast(below(self.network.inputs(
                images[i:i + chunk]), training=False), tf.float32)
            state, steps = [tf.zeros((len(sequence), n)) for n in
                            keras.tree.flatten(cell.state_size)], []
            for x in tf.unstack(sequence, axis=1):
                _, state = cell(x, state)
                steps.append(state)
            parts.append([tf.stack(own, 1).numpy() for own in zip(*steps)])
        return [np.concatenate(own) for own in zip(*parts)]

    def held(self, images):
        """Return all that is carried from one step to the next, the states of all recurrent layers:
        (images, steps, units of all)."""
        return np.concatenate([state for layer in range(len(self.cells))
                               for state in self.states(images, layer=layer)], 2)

    def believed(self, h):
        """Return the probabilities of the classes from states (images, steps, units) as if each
        were the last: (images, steps, classes)."""
        logits = self.above.predict(h.reshape(-1, h.shape[-1]), batch_size=4096, verbose=0)
        return tf.nn.softmax(logits).numpy().reshape(*h.shape[:2], -1)

    def gates(self, images):
        """Return {gate: (images, steps, units)}, or {} of a cell that has none, or others."""
        cell = cell_of(self.layer)
        if cell is None:
            print(f"note     {self.network.folder}: the gates of {self.layer.name} are not shown: "
                  "its activations are not tanh and sigmoid")
        if cell is None or not cell.gate_values:
            return {}
        W, U, b = [*self.layer.get_weights(),  # a layer of Keras may be without bias
                   np.zeros(cell.gates * self.layer.units, np.float32)][:3]
        sequence = tf.cast(self.below[-1](self.network.inputs(images), training=False),
                           tf.float32)
        h = self.states(images)[0]
        before = np.concatenate([np.zeros_like(h[:, :1]), h[:, :-1]], 1)
        return {name: x.numpy() for name, x in cell.gate_values(sequence, before, W, U, b).items()}

    def rows(self, images):
        """Return what is read at each step, as network input: (images, steps, features)."""
        return self.read(self.network.inputs(images), training=False).numpy()

    @functools.cached_property
    def pixels(self):
        """Return which pixels each step reads: bool (steps, height, width).

        Those that change what is read, of random images: a pixel may count in some of them only.
        """
        steps, shape = self.read.output.shape[1], self.read.input.shape[1:]
        rng, found = np.random.default_rng(0), np.zeros((steps, *shape[:2]), bool)
        for _ in range(8):
            images = tf.constant(np.repeat(rng.normal(size=(1, *shape)), steps, 0), tf.float32)
            with tf.GradientTape() as tape:
                tape.watch(images)
                read = tf.transpose(self.read(images, training=False), [2, 0, 1])
                own = tf.linalg.diag_part(read)  # of the image of step t what is read at t
                score = tf.reduce_sum(own * rng.normal(size=own.shape))
            change = tape.gradient(score, images)
            if change is None:
                raise NotDrawn(f"{self.network.folder}: what a step reads has no gradient to the "
                               "pixels, so which they are cannot be told")
            found |= (change.numpy() != 0).any(3)
        return found

    @functools.cached_property
    def what(self):
        """Return what a step reads: "row" or "column", from the first to the last, or "step"."""
        for word, index in zip(("row", "column"), np.indices(self.pixels.shape[1:])):
            if np.array_equal(self.pixels, [index == step for step in range(index.max() + 1)]):
                return word
        return "step"


def cell_of(layer):
    """Return which of CELLS a layer computes, ours or Keras's; None if with other activations."""
    if isinstance(layer, Recurrent):
        return CELLS[layer.cell]
    if isinstance(layer, keras.layers.SimpleRNN):
        return CELLS["rnn"]
    if (layer.activation, layer.recurrent_activation) != (keras.activations.tanh,
                                                          keras.activations.sigmoid):
        return None
    if isinstance(layer, keras.layers.LSTM):
        return CELLS["lstm"]
    return CELLS["gru" if layer.reset_after else "gru-reset-before"]


def order_of_onset(states):
    """Return units in the order in which they turn on: the first step at which the mean of
    |state| (images, steps, units) is half of its largest."""
    size = np.abs(states).mean(0)
    return np.lexsort((-size.max(0), (size >= size.max(0) / 2).argmax(0)))


def memory(states, rows, states_there, rows_there, ridge=1e-3):
    """Return how well each row is decoded from later states: R2 (steps after it,).

    Linear regression with a small ridge from the state after step s to what was read at step t <=
    s; states (images, steps, units) and rows (images, steps, features) to fit, the others to
    measure. R2 is 1 - squared error / squared deviation, summed over images and features of a row,
    and the mean over all rows with a given s - t. Rows that are the same in all images are left
    out.
    """
    steps = rows.shape[1]
    found = [[] for _ in range(steps)]
    every = np.square(rows_there - rows.mean(0), dtype=float).sum((0, 2))
    varies = every > 1e-3 * every.max()
    for s in range(steps):
        x, x_there = ((h[:, s] - states[:, s].mean(0)).astype(float)
                      for h in (states, states_there))
        mean = rows[:, :s + 1].mean(0)
        y = (rows[:, :s + 1] - mean).reshape(len(rows), -1)
        scale = np.trace(x.T @ x) / x.shape[1] + 1e-12
        weights = np.linalg.solve(x.T @ x + ridge * scale * np.eye(x.shape[1]), x.T @ y)
        there = rows_there[:, :s + 1] - mean
        error = np.square(there - (x_there @ weights).reshape(there.shape)).sum((0, 2))
        spread = np.square(there).sum((0, 2))
        for t in np.flatnonzero(varies[:s + 1]):
            found[s - t].append(1 - error[t] / spread[t])
    return np.array([np.mean(own) if own else np.nan for own in found])


def hide_steps(reader, images, labels):
    """Return how much probability of their `labels` images lose as what each step reads is grey:
    (images, steps)."""
    whole, network, lost = _true(reader, images, labels), reader.network, []
    for own in reader.pixels:
        hidden = network.inputs(images)
        hidden[:, own] = network.grey
        logits, = outputs(network.model, [network.model.output], hidden)
        p = tf.nn.softmax(logits).numpy()[np.arange(len(labels)), labels]
        lost.append(whole - p)
    return np.stack(lost, 1)


def _true(reader, images, labels):
    logits, = outputs(reader.network.model, [reader.network.model.output], images,
                      reader.network.inputs)
    return tf.nn.softmax(logits).numpy()[np.arange(len(labels)), labels]


def measure(network, most=2000):
    """Return the numbers of the curves: accuracy after each step on all test images, loss of
    probability as what a step reads is hidden on 500 (fewer if there are more than 28 steps),
    memory on `most` images, trained and, of a run that began anew, before training; and "what" a
    step reads."""
    reader, data = Reader(network), network.data
    right, size = [], max(1, 28_000 // len(reader.pixels))
    for i in range(0, len(data.test_labels), size):
        h, *_ = reader.states(data.test_images[i:i + size])
        right.append(reader.believed(h).argmax(2) == data.test_labels[i:i + size, None])
    few = utils.evenly(len(data.test_labels), min(500, max(20, 14_000 // len(reader.pixels))))
    some, there = (images[utils.evenly(len(images), most)]
                   for images in (data.train_images, data.test_images))
    numbers = {"accuracy": np.concatenate(right).mean(0), "what": reader.what,
               "hidden": hide_steps(reader, data.test_images[few], data.test_labels[few]).mean(0),
               "hidden_images": len(few)}
    rows, readers = (reader.rows(some), reader.rows(there)), {"memory": reader}
    if network.build_model and not network.config.initial_weights:
        readers["memory_untrained"] = Reader(network, network.made_anew())
    for name, own in readers.items():
        numbers[name] = memory(own.held(some), rows[0], own.held(there), rows[1])
    return numbers
