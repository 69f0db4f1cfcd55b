"""What a run records of its network, whatever it is."""
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from networks import CLASSES, EDITS, OWN_CELL, SHAPE, build, every_edit, rows

from training.cells import CELLS
from training.events import Events, read_events
from training.recurrent import Recurrent
from training.summaries import log_inside, norms_over_time, tile_filters


@pytest.fixture(autouse=True)
def own_cell(monkeypatch):
    monkeypatch.setitem(CELLS, "mean", OWN_CELL)


@pytest.mark.parametrize("after", [lambda h: h, lambda h: L.LayerNormalization()(
    L.Dense(6, activation="relu")(h)), lambda h: L.Concatenate()([h, L.Dense(2)(h)])])
def test_norms_over_time_take_the_true_path(after):
    """d loss / d h_T is that of the layers from the last state to the logits, whatever they are."""
    keras.utils.set_random_seed(1)
    x = keras.Input(SHAPE)
    h = Recurrent("gru", 5)(rows(x))
    model = keras.Model(x, L.Dense(CLASSES)(after(h)))
    images = tf.constant(np.random.default_rng(0).normal(size=(6, *SHAPE)), tf.float32)
    labels = np.arange(6) % CLASSES
    states, rest = keras.Model(x, h)(images), keras.Model(h, model.output)
    with tf.GradientTape() as tape:
        tape.watch(states)
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, rest(states)))
    norms = norms_over_time(model, images, labels)
    np.testing.assert_allclose(norms["gradient"][-1], tf.reduce_mean(tf.norm(
        tape.gradient(loss, states), axis=1)), rtol=1e-5)
    np.testing.assert_allclose(norms["state"][-1], tf.reduce_mean(tf.norm(states, axis=1)), 1e-5)


def test_blank_rows_do_not_count():
    """Nor a row at which most images are blank."""
    keras.utils.set_random_seed(1)
    model = build(lambda x: L.Dense(CLASSES)(L.GRU(4)(rows(x))))
    images = np.random.default_rng(0).normal(size=(4, *SHAPE))
    images[0, 1], images[1:, 2] = 0.3, 0.3  # one of four at the second row, three at the third
    labels = np.arange(4) % CLASSES
    norms = norms_over_time(model, tf.constant(images, tf.float32), labels)["state"]
    others = norms_over_time(model, tf.constant(images[1:], tf.float32), labels[1:])["state"]
    assert np.isnan(norms).tolist() == [False, False, True, *[False] * (SHAPE[0] - 3)]
    assert norms[1] == pytest.approx(others[1])


@pytest.mark.parametrize("layer, kinds", [
    (lambda: L.LSTM(4), {"state", "gradient", "memory", "memory_gradient"}),
    (lambda: L.GRU(4), {"state", "gradient"}), (lambda: L.Bidirectional(L.GRU(4)), set()),
    (lambda: Recurrent("mean", 4), set()), (lambda: L.Flatten(), set()),
    (lambda: L.RNN(L.StackedRNNCells([L.LSTMCell(3), L.LSTMCell(4)])), set()),
    (lambda: lambda x: L.LSTM(4, return_state=True)(x)[0], set()),
    (lambda: lambda x: L.GRU(4)(sequences=x), {"state", "gradient"})])
def test_norms_over_time_of_any_network(layer, kinds):
    model = build(lambda x: L.Dense(CLASSES)(layer()(rows(x))))
    assert set(norms_over_time(model, tf.ones((2, *SHAPE)), np.array([0, 1]))) == kinds


@every_edit
def test_what_is_inside_is_recorded_whatever_the_network(name, tmp_path):
    """A histogram of every weight, all of it; what else is recorded has tests of its own."""
    model, events = build(EDITS[name]), Events(tmp_path)
    log_inside(events, 0, model, tf.ones((3, *SHAPE)), np.array([0, 1, 2]))
    events.close()
    recorded = read_events(tmp_path)
    for path, weights in {v.path: v.numpy() for v in model.trainable_variables}.items():
        _, _, (buckets,) = recorded["train", f"histograms/weights/{path}"]
        assert buckets[:, 2].sum() == weights.size
        assert (buckets[0, 0], buckets[-1, 1]) == (weights.min(), weights.max())


def test_tiles():
    kernel = np.arange(2 * 2 * 1 * 3, dtype=np.float32).reshape(2, 2, 1, 3)
    picture = tile_filters(kernel, columns=2)
    assert picture.shape == (7, 7, 1)  # 2 rows and columns of 2 pixels, gaps of 1 around each
    np.testing.assert_allclose(picture[1:3, 1:3, 0], [[0, 1 / 3], [2 / 3, 1]], rtol=1e-6)
    assert picture[4:6, 4:6].min() == 1 and tile_filters(np.zeros((2, 2, 1, 1)), 1)[1, 1, 0] == 0


def test_a_histogram_of_the_only_activation_is_of_all_images(tmp_path):
    """Of a list of one tensor Keras returns no list, of which the first image would be the one."""
    model = build(lambda x: L.Dense(CLASSES)(L.Flatten()(L.Conv2D(3, 3, activation="relu")(x))))
    images = tf.constant(np.random.default_rng(0).normal(size=(6, *SHAPE)), tf.float32)
    with_events = Events(tmp_path)
    log_inside(with_events, 1, model, images, np.arange(6) % CLASSES)
    with_events.close()
    found = {tag: value[2][0] for (_, tag), value in read_events(tmp_path).items()
             if tag.startswith("histograms/activations")}
    height, width = SHAPE[0] - 2, SHAPE[1] - 2
    assert [np.sum(x[:, 2]) for x in found.values()] == [6 * height * width * 3]
