"""What a recurrent net believes, holds and remembers, against Keras's layers and by hand."""
import dataclasses
import shutil
import types

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf
from conftest import run_script
from small_networks import L, as_record, network_of

import mnist_rnn
from inside import reading
from inside.reader import Reader, hide_steps, measure, memory, order_of_onset
from inside.trained import Record
from system.command_line import NotDrawn, import_script
from system.files import load_arrays
from training.loop import make_model
from training.plain import plain
from training.recurrent import Recurrent


def net(cell, units=5, layers=1, order="rows", size=(6, 4), seed=3, **options):
    """A Network of our cells that reads noise; with layers of its own between sequence and states.
    """
    images = keras.Input((*size, 1))
    x = L.Permute((2, 1, 3))(images) if order == "columns" else images
    x = L.Reshape((x.shape[1], -1), name="sequence")(x)
    for i in range(1, layers + 1):
        x = Recurrent(cell, units, return_sequences=i < layers, seed=seed + i, name=f"r{i}",
                      **options)(x)
    keras.utils.set_random_seed(seed)
    model = keras.Model(images, L.Dense(3, name="logits")(L.Dropout(0.5)(x)))
    pixels = np.random.default_rng(0).integers(0, 256, (20, *size, 1))
    return network_of(model, pixels, np.arange(20) % 3, mean=0.4, std=0.3,
                      config=types.SimpleNamespace(order=order))


def answers(network, images):
    return tf.nn.softmax(network.model(network.inputs(images), training=False)).numpy()


@pytest.mark.parametrize("cell", ["gru", "gru-reset-before", "lstm", "rnn"])
@pytest.mark.parametrize("order, layers", [
    ("rows", 1), pytest.param("columns", 2, marks=pytest.mark.slow)])
def test_after_the_last_row_it_believes_what_it_answers(cell, order, layers):
    network = net(cell, order=order, layers=layers)
    images, reader = network.data.test_images, Reader(network)
    h, *others = reader.states(images, chunk=7)
    steps = 6 if order == "rows" else 4
    assert h.shape == (20, steps, 5) and len(others) == (cell == "lstm")
    believed = reader.believed(h)
    assert believed.shape == (20, steps, 3)
    np.testing.assert_allclose(believed.sum(2), 1, rtol=1e-5)
    np.testing.assert_allclose(believed[:, -1], answers(network, images), atol=1e-5)
    rows = network.inputs(images)[..., 0]
    np.testing.assert_array_equal(reader.rows(images), rows if order == "rows"
                                  else rows.swapaxes(1, 2))


@pytest.mark.parametrize("cell, kind", [("gru", L.GRU), ("lstm", L.LSTM), ("rnn", L.SimpleRNN)])
def test_states_are_those_of_keras(cell, kind):
    """Its layers with the same weights, on the same rows; of an LSTM the cell state too."""
    network = net(cell)
    layer = kind(5, return_sequences=True, return_state=True)
    rows = network.inputs(network.data.test_images)[..., 0]
    layer.build(rows.shape)
    layer.set_weights(network.model.get_layer("r1").get_weights())
    h, *last = layer(rows)
    states = Reader(network).states(network.data.test_images)
    np.testing.assert_allclose(states[0], h, atol=1e-5)
    for own, expected in zip(states, last, strict=True):
        np.testing.assert_allclose(own[:, -1], expected, atol=1e-5)
    gates = Reader(network).gates(network.data.test_images)
    assert sorted(gates) == {"gru": ["reset", "update"], "rnn": [],
                             "lstm": ["candidate", "forget", "input", "output"]}[cell]
    if cell == "lstm":  # c_t = f * c_(t-1) + i * g
        c = np.concatenate([np.zeros((20, 1, 5)), states[1]], 1)
        np.testing.assert_allclose(c[:, 1:], gates["forget"] * c[:, :-1] + gates["input"]
                                   * gates["candidate"], atol=1e-5)
    if cell == "gru":  # h_t - n_t is z times h_(t-1) - n_t, and n_t within -1 and 1
        h = np.concatenate([np.zeros((20, 1, 5)), states[0]], 1)
        n = (h[:, 1:] - gates["update"] * h[:, :-1]) / (1 - gates["update"])
        assert np.abs(n).max() <= 1 + 1e-4


@pytest.mark.parametrize("cell", ["gru", "gru-reset-before", "lstm", "rnn"])
def test_layers_of_keras_are_read_too(cell):
    """As a run's model.keras has them: the same answers, and the same gates."""
    network = net(cell)
    images, expected = network.data.test_images, Reader(network).gates(network.data.test_images)
    model, pairs = plain(network.model, network.mean, network.std)
    for own, other in pairs:
        other.assign(own)
    reader = Reader(dataclasses.replace(network, model=model, mean=0.0, std=1 / 255))
    assert type(reader.layer).__module__.startswith("keras.")
    believed = reader.believed(reader.states(images)[0])
    np.testing.assert_allclose(believed[:, -1], answers(network, images), atol=1e-5)
    found = reader.gates(images)
    assert [*found] == [*expected] and bool(found) == (cell != "rnn")
    for gate, values in expected.items():
        np.testing.assert_allclose(found[gate], values, atol=1e-5)


def test_gates_of_a_layer_of_keras_without_bias_by_hand():
    """Of the first step, which no state comes before: s(x W)."""
    network = made_by(L.Reshape((1, 4)), L.GRU(3, use_bias=False), size=(1, 4, 1))
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 4, 1), np.uint8)
    W, *_ = network.model.layers[-2].get_weights()
    z, r, _ = np.split(1 / (1 + np.exp(-network.inputs(images)[..., 0] @ W)), 3, axis=2)
    found = Reader(network).gates(images)
    np.testing.assert_allclose(found["update"], z, rtol=1e-5)
    np.testing.assert_allclose(found["reset"], r, rtol=1e-5)


def test_gates_of_other_activations_are_not_guessed(capsys):
    network = made_by(L.Reshape((6, 4)), L.GRU(3, recurrent_activation="relu", name="own"))
    assert Reader(network).gates(network.data.test_images) == {}
    assert capsys.readouterr().out == ("note     made: the gates of own are not shown: its "
                                       "activations are not tanh and sigmoid\n")


def shift_register(rows):
    """States that hold the row just read, and the one before."""
    before = np.concatenate([np.zeros_like(rows[:, :1]), rows[:, :-1]], 1)
    return np.concatenate([rows, before], 2)


def test_memory_of_a_shift_register():
    """Of noise: all of the last two rows, and nothing of others."""
    rng = np.random.default_rng(0)
    rows, there = rng.normal(size=(2, 4000, 7, 3))
    found = memory(shift_register(rows), rows, shift_register(there), there)
    assert found.shape == (7,)
    np.testing.assert_allclose(found[:2], 1, atol=1e-5)
    np.testing.assert_allclose(found[2:], 0, atol=0.01)


def test_memory_of_rows_that_fade():
    """State h = row + noise of its own size: R2 is a half. And a state that is noise: nothing."""
    rng = np.random.default_rng(0)
    rows, there, a, b = rng.normal(size=(4, 4000, 4, 3))
    found = memory(rows + a, rows, there + b, there)
    assert found[0] == pytest.approx(0.5, abs=0.03) and np.abs(found[1:]).max() < 0.02
    assert np.abs(memory(a, rows, b, there)).max() < 0.02


def test_memory_by_hand():
    """One step, one unit, four images: the regression of y on x, measured on others."""
    x, y = np.float32([-1, 1, -1, 1]), np.float32([-2, 2, -1, 1])  # slope 1.5
    there = np.float32([1, -2]), np.float32([2, -2])  # decoded as 1.5 and -3: errors 0.5 and 1
    found = memory(*(v.reshape(-1, 1, 1) for v in (x, y, *there)), ridge=0)
    assert found == pytest.approx(1 - (0.5 ** 2 + 1 ** 2) / (4 + 4))


def test_rows_that_never_change_are_left_out():
    """A border that is black in all images is no memory, and no row as old as the first one."""
    rng = np.random.default_rng(0)
    rows, there = rng.normal(size=(2, 4000, 5, 3))
    rows[:, 0] = there[:, 0] = 0
    found = memory(shift_register(rows), rows, shift_register(there), there)
    np.testing.assert_allclose(found[:2], 1, atol=1e-5)
    assert np.isnan(found[4])
    grey = np.float32(-0.4242)  # as standardized pixels: their mean is not quite they
    rows[:, 0] = there[:, 0] = grey
    rows, there = np.float32(rows), np.float32(there)
    found = memory(shift_register(rows), rows, shift_register(there), there)
    np.testing.assert_allclose(found[:2], 1, atol=1e-5)
    assert np.isnan(found[4])


def test_what_is_remembered_may_lie_in_any_layer_and_state():
    """Of an LSTM of two layers h and c of both, those of the first as Keras has them. With a second
    layer that holds nothing the rows are still remembered."""
    network = net("lstm", layers=2)
    images, reader = network.data.test_images, Reader(network)
    held = reader.held(images)
    assert held.shape == (20, 6, 4 * 5)
    np.testing.assert_array_equal(held[..., 10:15], reader.states(images)[0])
    layer = L.LSTM(5, return_state=True)
    rows = network.inputs(images)[..., 0]
    layer.build(rows.shape)
    layer.set_weights(network.model.get_layer("r1").get_weights())
    _, h, c = layer(rows)
    np.testing.assert_allclose(held[:, -1, :10], np.concatenate([h, c], 1), atol=1e-5)
    upper = network.model.get_layer("r2")
    upper.set_weights([0 * w for w in upper.get_weights()])
    assert np.abs(Reader(network).states(images)).max() == 0
    assert measure(network)["memory"][0] > 0.5


def test_units_in_the_order_in_which_they_turn_on():
    """Unit 0 is half as large as ever at the third step, 1 at the second, 2 at the first; 3 too,
    and it is larger; signs do not matter."""
    one = np.array([[0.1, 0.2, -1, 2], [0.2, -0.6, 0.9, 3], [-0.9, 1, 0.8, 0]])
    assert order_of_onset(one[None]).tolist() == [3, 2, 1, 0]
    assert order_of_onset(np.stack([one, -one])).tolist() == [3, 2, 1, 0]


@pytest.mark.parametrize("order", ["rows", "columns"])
def test_hiding_what_the_network_ignores_costs_nothing(order):
    """A net without memory (U = 0) that looks at nothing but the last step."""
    network = net("rnn", order=order)
    layer = network.model.get_layer("r1")
    kernel, recurrent, bias = layer.get_weights()
    layer.set_weights([kernel, 0 * recurrent, bias])
    images, labels = network.data.test_images, network.data.test_labels
    lost = hide_steps(Reader(network), images, labels)
    assert lost.shape == ((20, 6) if order == "rows" else (20, 4))
    np.testing.assert_allclose(lost[:, :-1], 0, atol=1e-6)
    hidden = network.inputs(images)
    hidden[(slice(None), -1) if order == "rows" else (slice(None), slice(None), -1)] = network.grey
    p = tf.nn.softmax(network.model(hidden)).numpy()[np.arange(20), labels]
    expected = answers(network, images)[np.arange(20), labels] - p
    np.testing.assert_allclose(lost[:, -1], expected, atol=1e-6)
    assert np.abs(expected).max() > 1e-4


SIZE = (6, 4)


@pytest.mark.slow
@pytest.mark.parametrize("layers, what, steps, reads", [
    ((L.Reshape((6, 4)),), "row", 6, lambda t, i, j: i == t),
    ((L.Reshape((6, 4)), L.Permute((2, 1))), "column", 4, lambda t, i, j: j == t),
    ((L.Reshape((6, 4)), L.Permute((2, 1)), L.Reshape((6, 4))), "step", 6,
     lambda t, i, j: (6 * j + i) // 4 == t),
    ((L.Reshape((24, 1)),), "step", 24, lambda t, i, j: 4 * i + j == t),
    ((L.Reshape((3, 8)),), "step", 3, lambda t, i, j: i // 2 == t),
    ((L.Conv2D(8, 3, padding="same", activation="relu"), L.Reshape((6, 32))), "step", 6,
     lambda t, i, j: abs(i - t) <= 1)])
def test_which_pixels_each_step_reads(layers, what, steps, reads):
    """By hand; what is no row and no column is not called one, and is hidden as a whole."""
    keras.utils.set_random_seed(0)
    network = made_by(*layers, L.SimpleRNN(3))
    reader, (i, j) = Reader(network), np.indices(SIZE)
    np.testing.assert_array_equal(reader.pixels, [reads(t, i, j) for t in range(steps)])
    assert reader.what == what
    images = np.random.default_rng(0).integers(0, 256, (5, *SIZE, 1), np.uint8)
    lost = hide_steps(reader, images, np.zeros(5, int))
    hidden = network.inputs(images)
    hidden[:, reads(1, i, j)] = network.grey
    shares = [tf.nn.softmax(network.model(x)).numpy()[:, 0].mean()
              for x in (network.inputs(images), hidden)]
    assert lost.shape == (5, steps)
    assert lost[:, 1].mean() == pytest.approx(shares[0] - shares[1], abs=1e-6)
    plt.close(reading.draw_curves({"a": measure(network)}, network.data))


def test_recurrent_layers_of_different_steps_are_not_drawn():
    with pytest.raises(NotDrawn, match="differ in their steps"):
        Reader(made_by(L.Reshape(SIZE), L.GRU(3, return_sequences=True), L.Reshape((3, 6)),
                       L.GRU(3)))


def test_pixels_without_a_gradient_are_no_guess():
    """Rounded pixels, looked up: a change too small to see is no sign that they are not read."""
    network = made_by(L.Reshape((24,)), L.Embedding(256, 2), L.GRU(3))
    with pytest.raises(NotDrawn, match="no gradient to the pixels"):
        Reader(network).pixels  # noqa: B018


def made_by(*layers, size=(6, 4, 1)):
    x = images = keras.Input(size)
    for layer in layers:
        x = layer(x)
    return network_of(keras.Model(images, L.Dense(2)(x)), np.zeros((2, *size)), [0, 1])


@pytest.mark.parametrize("layers", [
    (L.Reshape((6, 4)), L.Bidirectional(L.GRU(3))),
    (L.Reshape((6, 4)), L.GRU(3, return_sequences=True), L.Bidirectional(
        L.GRU(3, return_sequences=True)), L.GRU(3)),
    (L.Reshape((6, 4)), L.GRU(3, return_sequences=True), L.Flatten()),
    (L.Reshape((6, 4)), L.GRU(3, go_backwards=True)),
    (L.Reshape((6, 4)), L.GRU(3, go_backwards=True, return_sequences=True), L.GRU(3))])
def test_nets_that_do_not_read_like_this_are_not_drawn(layers):
    with pytest.raises(NotDrawn, match="^made: its last recurrent layer does not read"):
        Reader(made_by(*layers))


def test_a_network_without_any_such_layer_is_told_so():
    with pytest.raises(NotDrawn, match="^made: the network has no recurrent layer and no feature"):
        Reader(made_by(L.Flatten()))


def test_steps_that_are_skipped_are_not_read():
    with pytest.raises(NotDrawn, match="a mask of steps to skip"):
        Reader(made_by(L.Reshape((6, 4)), L.Masking(0.0), L.LSTM(3)))


def test_images_are_read_as_they_are():
    """Not turned at random, as a layer of the network does in training."""
    network = made_by(L.RandomTranslation(0.5, 0.5, seed=1), L.Reshape((6, 4)), L.GRU(3))
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 1), np.uint8)
    np.testing.assert_array_equal(Reader(network).rows(images), network.inputs(images)[..., 0])


def test_scales_hold_what_they_show():
    """An LSTM's candidate is between -1 and 1, its gates between 0 and 1; states beyond 1, of a
    ReLU, have a scale of their own."""
    for layer, title, low in ((L.LSTM(3), "candidate", -1), (L.LSTM(3), "forget gate", 0),
                              (L.LSTM(3), "hidden state h", -1),
                              (L.SimpleRNN(3, activation="relu"), "hidden state h", None)):
        network = made_by(L.Reshape((6, 4)), layer)
        images = np.full((1, 6, 4, 1), 255, np.uint8)
        figure, numbers = reading.draw_reading(network, images, ["a"])
        shown, = [axis.images[0] for axis in figure.axes if axis.get_title() == title]
        assert shown.get_clim() == (low, 1) if low is not None else (
            shown.get_clim()[1] >= np.percentile(numbers["state"], 99) > 1)
        plt.close(figure)


def test_sweeps_are_refused_in_one_line():
    config = mnist_rnn.Config(order="sweeps", cell="rnn", units=2)
    network = network_of(mnist_rnn.build_model((8, 8, 1), 3, config), np.zeros((3, 8, 8, 1)),
                         [0, 1, 2])
    with pytest.raises(NotDrawn, match="does not read the image as one sequence") as error:
        reading.draw(as_record(network), count=1)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_run_is_drawn(recurrent_run, quick_figures):
    """Each figure once; its numbers fit what the run's network gives."""
    record = Record(recurrent_run, import_script)
    drawn = {name: (figure, numbers) for name, figure, numbers in reading.draw(record)}
    plt.close("all")
    curves, data = drawn["reading_curves"][1], record.network.data
    right = answers(record.network, data.test_images).argmax(1) == data.test_labels
    assert curves["accuracy"].shape == (8,)
    assert curves["accuracy"][-1] == pytest.approx(right.mean(), abs=0.003)
    assert curves["memory"].shape == curves["memory_untrained"].shape == (8,)
    assert np.nanmax(curves["memory"]) <= 1 and curves["memory"][0] > curves["memory"][6]
    shown = drawn["reading"][1]
    assert shown["images"].shape == (10, 8, 8, 1) and shown["probability"].shape == (10, 8, 10)
    assert shown["state"].shape == shown["cell"].shape == (10, 8, 8)
    np.testing.assert_allclose(shown["output"] * np.tanh(shown["cell"]), shown["state"], atol=1e-5)
    assert sorted(shown["order"].tolist()) == [*range(8)]
    labels = [axis.get_ylabel() for axis in drawn["reading"][0].axes]
    assert labels.count("column, read from the top") == 10
    assert "classes" not in drawn["reading"][0].get_suptitle()
    rows = [*reading.table(curves)]
    assert rows[0] == ("columns", 1, 4, 7) and len({len(row) for row in rows}) == 1
    assert rows[1][-1] == f"{100 * curves['accuracy'][6]:.1f}"


def test_memory_before_training_is_that_of_the_run():
    """Of a model that Keras saved, or a run that began with other weights, it is not known."""
    config = mnist_rnn.Config(units=3, seed=7)
    model = make_model(mnist_rnn.build_model, (4, 4, 1), 2, config)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1))
    network = dataclasses.replace(network_of(model, pixels, np.arange(60) % 2, config=config),
                                  build_model=mnist_rnn.build_model)
    found = measure(network)  # not yet trained
    np.testing.assert_allclose(found["memory_untrained"], found["memory"], atol=1e-6)
    for own in (dataclasses.replace(network, build_model=None), dataclasses.replace(
            network, config=dataclasses.replace(config, initial_weights="runs/a"))):
        numbers = measure(own)
        assert "memory_untrained" not in numbers
        figure = reading.draw_curves({"a": numbers}, network.data)
        assert len(figure.axes[2].lines) == 1 and figure.axes[2].get_legend() is None
        assert len([*reading.table(numbers)]) == 3
        plt.close(figure)


def test_table_of_networks_that_read_otherwise():
    """Rows of one, columns of the other, not as many: steps, each as far as it goes."""
    numbers = {}
    for name, what, steps in (("a", "row", 7), ("b", "column", 4)):
        numbers |= {f"{name}/what": np.array(what), f"{name}/accuracy": np.linspace(0, 1, steps),
                    f"{name}/memory": np.linspace(1, 0, steps)}
    assert [*reading.table(numbers)] == [
        ("steps", 1, 4, 7), ("a: accuracy after so many (%)", "0.0", "50.0", "100.0"),
        ("a: R2 of a step read so many before", "0.83", "0.33", ""),
        ("b: accuracy after so many (%)", "0.0", "100.0", ""),
        ("b: R2 of a step read so many before", "0.67", "", "")]


@pytest.mark.slow
def test_the_title_says_that_classes_are_left_out():
    """Also where gates are those of Keras's layers."""
    network = made_by(L.Reshape((6, 4)), L.LSTM(3))
    (_, figure, numbers), _ = reading.draw(as_record(network), count=1)
    plt.close("all")
    assert "after each row of an image, 1 of 2 classes\n" in figure.get_suptitle()
    assert numbers["images"].shape == (1, 6, 4, 1) and numbers["forget"].shape == (1, 6, 3)


@pytest.mark.slow
def test_runs_are_drawn_together(recurrent_run, tmp_path, quick_figures):
    """Into figures/compared, under the names of runs without what all share."""
    other = shutil.copytree(recurrent_run, tmp_path / "other-seed0")
    status, out, err = run_script("visualize", "reading", recurrent_run, other, cwd=tmp_path)
    assert (status, err) == (0, "") and "wrote figures/compared/reading.png" in out
    numbers = load_arrays(tmp_path / "figures/compared/reading.npz")
    keys, names = ("accuracy", "hidden", "memory", "memory_untrained"), ("other", "r")
    assert {str(numbers.pop(f"{name}/what")) for name in names} == {"column"}
    assert {int(numbers.pop(f"{name}/hidden_images")) for name in names} == {360}
    assert sorted(numbers) == [f"{name}/{key}" for name in names for key in keys]
    for key in keys:
        np.testing.assert_allclose(*(numbers[f"{name}/{key}"] for name in names))


def test_an_answer_that_is_not_of_the_state_alone_is_not_drawn():
    images = keras.Input((6, 4, 1))
    rows = L.Reshape((6, 4))(images)
    both = L.Concatenate()([L.GRU(3)(rows), L.Flatten()(images)])
    model = keras.Model(images, L.Dense(2)(both))
    with pytest.raises(NotDrawn, match="state alone"):
        Reader(network_of(model, np.zeros((2, 6, 4, 1)), [0, 1]))
