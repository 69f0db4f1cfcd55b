"""The recurrent experiment: its networks, what it shows of them, and what they learn."""
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_one_line, run_script

from mnist_rnn import RECIPES, Config, build_model
from system.command_line import InputError, parse
from system.files import read_json
from training.augmentation import prepare
from training.cells import CELLS, all_states, gate_activations
from training.parallel import loss_and_gradients
from training.recurrent import Recurrent
from training.summaries import norms_over_time

SMALL = dataclasses.replace(Config(), units=6)


def digits(count=5):
    """Network inputs and labels."""
    rng = np.random.default_rng(0)
    return (prepare(rng.integers(0, 256, (count, 7, 9, 1), np.uint8), 0.5, 0.25),
            rng.integers(0, 10, count))


@pytest.mark.parametrize("cell, gates, biases", [("rnn", 1, 1), ("lstm", 4, 1), ("gru", 3, 2),
                                                 ("gru-reset-before", 3, 1)])
def test_number_of_weights(cell, gates, biases):
    model = build_model((28, 28, 1), 10, dataclasses.replace(Config(), cell=cell))
    layer = gates * 128 * (28 + 128 + biases)
    assert model.count_params() == layer + 128 * 10 + 10
    model = build_model((28, 28, 1), 10, dataclasses.replace(Config(), cell=cell, layers=2))
    assert model.count_params() == layer + gates * 128 * (128 + 128 + biases) + 128 * 10 + 10


def test_columns_are_the_rows_of_the_transpose():
    x, _ = digits()
    rows = build_model((9, 7, 1), 10, SMALL)
    columns = build_model((7, 9, 1), 10, dataclasses.replace(SMALL, order="columns"))
    np.testing.assert_allclose(columns(x), rows(tf.transpose(x, [0, 2, 1, 3])),
                               rtol=1e-5, atol=1e-6)


def test_sweeps_halve_the_sides_of_maps():
    """Two layers with 6 units on 8x12 pixels: 2x3 places of 12 states each; odd sides refused."""
    config = dataclasses.replace(SMALL, order="sweeps", layers=2)
    model = build_model((8, 12, 1), 10, config)
    assert [layer.output.shape[1:] for layer in model.layers[1:4]] == [
        (4, 6, 12), (2, 3, 12), (72,)]
    cells = [3 * 6 * (features + 6 + 2) for features in (4, 12, 48, 12)]
    assert model.count_params() == 2 * sum(cells) + 72 * 10 + 10
    with pytest.raises(InputError, match="layer 2: patches of 2x2 do not divide maps of 5x7$"):
        build_model((10, 14, 1), 10, config)


def test_a_forget_bias_is_of_cells_that_forget(tmp_path):
    """Of another cell it would stand in a run's name and do nothing."""
    assert build_model((8, 6, 1), 3, Config(cell="lstm", units=4, forget_bias=0.0))
    for cell in ("rnn", "gru", "gru-reset-before"):
        with pytest.raises(InputError, match=f"^--forget-bias: the cell {cell} has no forget gate"):
            build_model((8, 6, 1), 3, Config(cell=cell, units=4, forget_bias=0.0))
        with pytest.raises(ValueError, match="no forget gate"):
            Recurrent(cell, 4, forget_bias=0.0)
    for cell, bias, said in (("gru", "0", "no forget gate"), ("lstm", "nan", "up to 100")):
        assert_one_line(run_script("mnist_rnn", "--data", "digits", "--cell", cell, "--forget-bias",
                                   bias, cwd=tmp_path), "--forget-bias", said)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cell", CELLS)
def test_norms_over_time(cell):
    """States are the layer's own; the last gradient is that of softmax; the first is the numerical
    one."""
    model = build_model((7, 9, 1), 10, dataclasses.replace(SMALL, cell=cell))
    x, labels = digits()
    norms = norms_over_time(model, x, labels)
    state, gradient = norms.pop("state"), norms.pop("gradient")
    layer, head = model.get_layer(f"{cell}1"), model.get_layer("logits")
    weights = [tf.constant(w) for w in layer.get_weights()]
    h = np.stack(all_states(cell)(tf.reshape(x, (5, 7, 9)), *weights))  # (steps, batch, units)
    np.testing.assert_allclose(state, np.linalg.norm(h, axis=2).mean(1), rtol=1e-5)
    error = tf.nn.softmax(model(x)).numpy() - np.eye(10)[labels]
    last = np.linalg.norm(error @ head.kernel.numpy().T, axis=1).mean()
    assert gradient[-1] == pytest.approx(last, rel=1e-5) and len(gradient) == 7
    if cell == "rnn":  # the gradient at step t is that of t + 1 through U' after 1 - h^2
        d = error @ head.kernel.numpy().T
        for t in range(6, 0, -1):
            d = (d * (1 - h[t] ** 2)) @ weights[1].numpy().T
            assert gradient[t - 1] == pytest.approx(np.linalg.norm(d, axis=1).mean(), rel=1e-4)
    if cell == "lstm":  # the last memory is felt by way of the last state alone, o tanh(c)
        gates = gate_activations(cell, tf.reshape(x, (5, 7, 9)), *weights)
        i, f, g, o = (gates[k].numpy() for k in ("input", "forget", "candidate", "output"))
        c = [0]
        for t in range(7):
            c.append(f[:, t] * c[-1] + i[:, t] * g[:, t])
        np.testing.assert_allclose(norms.pop("memory"), np.linalg.norm(c[1:], axis=2).mean(1), 1e-4)
        last = error @ head.kernel.numpy().T * o[:, 6] * (1 - np.tanh(c[7]) ** 2)
        assert norms.pop("memory_gradient")[6] == pytest.approx(
            np.linalg.norm(last, axis=1).mean(), rel=1e-4)
    assert not norms


@pytest.mark.slow
@pytest.mark.parametrize("options", [
    dict(cell="lstm", order="columns"), dict(cell="rnn", dropout=0.5), dict(order="sweeps")])
def test_gradients_of_parts_add_up(options):
    """Whatever the parts: the gradients of the batch as a whole. A part calls no other graph."""
    model = build_model((4, 6, 1), 10, dataclasses.replace(SMALL, **options))
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(7, 4, 6, 1)), tf.float32)
    targets = tf.one_hot(rng.integers(0, 10, 7), 10)

    @tf.function(autograph=False)
    def of_parts(sizes):
        return loss_and_gradients(model, [v.value for v in model.trainable_variables],
                                  tf.split(x, sizes), tf.split(targets, sizes),
                                  tf.constant([1, 2]),
                                  tf.nn.softmax_cross_entropy_with_logits)
    # before anything runs: a part that called another graph would hang
    graph = of_parts.get_concrete_function([3, 3, 1]).graph.as_graph_def()
    alone = [f for f in graph.library.function if f.attr["_noinline"].b]
    assert len(alone) == 2  # for parts of 3 and of 1
    assert not any("PartitionedCall" in node.op for f in alone for node in f.node_def)
    loss, gradients = of_parts([3, 3, 1])
    if "dropout" in options:
        whole, expected = of_parts([7])
    else:
        with tf.GradientTape() as tape:
            whole = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, model(x)))
        expected = tape.gradient(whole, model.trainable_variables)
    np.testing.assert_allclose(loss, whole, rtol=1e-5)
    for a, b in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_gates_rebuild_the_states():
    x, _ = digits()
    sequence = tf.reshape(x, (5, 7, 9))
    layer = build_model((7, 9, 1), 10, dataclasses.replace(SMALL, cell="lstm")).layers[2]
    weights = [tf.constant(w) for w in layer.get_weights()]
    gates = {name: values.numpy()
             for name, values in gate_activations("lstm", sequence, *weights).items()}
    c, h = 0, np.stack(all_states("lstm")(sequence, *weights))
    for t in range(7):
        c = gates["forget"][:, t] * c + gates["input"][:, t] * gates["candidate"][:, t]
        np.testing.assert_allclose(h[t], gates["output"][:, t] * np.tanh(c), rtol=1e-4, atol=1e-6)
    for cell in ("gru", "gru-reset-before", "rnn"):
        layer = build_model((7, 9, 1), 10, dataclasses.replace(SMALL, cell=cell)).layers[2]
        values = gate_activations(cell, sequence, *map(tf.constant, layer.get_weights()))
        assert all(v.shape == (5, 7, 6) for v in values.values())


def test_recipes_per_cell():
    def options(*words):
        return parse(Config, RECIPES, words)
    assert options("--recipe", "original").steps == 1562
    config = options("--recipe", "original", "--cell", "rnn", "--seed", "3")
    assert (config.steps, config.learning_rate, config.decay_steps) == (2343, 1e-3, 10_000)
    assert not config.staircase and config.name == "rnn-128-original"
    assert options("--cell", "rnn", "--steps", "10").steps == 10
    assert options("--cell", "rnn").steps == 9375
    assert options("--name", "rnn").steps == 3125  # a name is not a cell
    assert (options("--epochs", "2").steps, options("--steps", "9").epochs) == (0, 0)
    config = options("--cell", "lstm", "--units", "256", "--shift", "2")
    assert config.name == "lstm-256-best-shift=2"


@pytest.mark.slow
@pytest.mark.parametrize("cell, order, steps", [
    ("rnn", "rows", 100), ("lstm", "columns", 60), ("gru", "sweeps", 30)])
def test_every_kind_learns_from_real_digits(cell, order, steps, tmp_path):
    """Those that scikit-learn brings: at least five times chance after so many updates."""
    status, out, err = run_script(
        "mnist_rnn", "--data", "digits", "--cell", cell, "--units", 24, "--order", order,
        "--layers", 1, "--steps", steps, "--batch-size", 32, "--learning-rate", 1e-2,
        "--evaluations", 1, "--shift", 0, "--threads", 1, cwd=tmp_path)
    assert (status, err) == (0, "") and "handwritten digits" in out, out + err
    config, result = (read_json(next(tmp_path.rglob(f"{name}.json")))
                      for name in ("config", "result"))
    assert config["data"]["train"] == 1317 and config["data"]["validation"] == 120
    assert config["options"]["horizontal_flip"] is False and result["test_accuracy"] > 0.5
