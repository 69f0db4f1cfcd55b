"""The graph of a network: descriptions, names of weights, stages."""
import functools

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops
from networks import CLASSES, EDITS, OWN_CELL, build, conv, every_edit, head, rows, twice

import cifar_lenet5
from system.command_line import InputError
from training import graph
from training.cells import CELLS


def test_a_description_tells_networks_apart():
    """Equal for equal networks, whatever the precision, seeds and initial weights; else not."""
    def described(**options):
        return graph.describe(build(lambda x: head(conv(x, **options)), seed=len(options)))
    assert described() == described(dtype="mixed_bfloat16", kernel_initializer="zeros")
    for other in ({"strides": 2}, {"activation": "relu"}, {"dilation_rate": 2}):
        assert described() != described(**other)
    table = np.arange(24.0).reshape(6, 4).astype(np.float32)
    for edit, values in ((lambda x, k: head(k * conv(x)), (1, 2)),
                         (lambda x, k: head(keras.activations.leaky_relu(conv(x), k)), (0.1, 0.3)),
                         (lambda x, k: head(ops.clip(x, 0, k)), (1, 6)),
                         (lambda x, k: head(ops.flip(x, axis=k)), (1, 2)),
                         (lambda x, k: head(conv(x) + k * table), (1, 2)),
                         (lambda x, k: head(L.Lambda(lambda v: k * v)(x)), (1, 2)),
                         (lambda x, k: head(conv(x, activation=lambda v: v * k)), (1, 2))):
        same, again, other = (graph.describe(build(lambda x, k=k, edit=edit: edit(x, k)))
                              for k in (values[0], *values))
        assert same == again != other


def test_a_description_sees_the_code_of_ones_own_layers():
    described = []
    for call in (lambda self, x: 2 * x, lambda self, x: 3 * x, lambda self, x: 2 * x):
        kind = type("Mine", (L.Layer,), {"call": call})
        described.append(graph.describe(build(lambda x, kind=kind: head(kind()(x)))))
    assert described[0] == described[2] != described[1]


SLOPE = 0.1


def _helper(x):
    return ops.leaky_relu(x, SLOPE)


def _calls_helper(x):
    return _helper(x) if SLOPE else _calls_helper(x)  # itself, too


class Base(L.Layer):
    def call(self, x):
        return _helper(x)


class Derived(Base):
    pass


class Callable:
    def __init__(self):
        self.own = self

    def __call__(self, x):
        return _calls_helper(x)


@pytest.mark.parametrize("edit", [
    lambda x: head(conv(x, activation=_calls_helper)), lambda x: head(L.Lambda(_calls_helper)(x)),
    lambda x: head(L.Lambda(functools.partial(_calls_helper))(x)),
    lambda x: head(L.Lambda(Callable())(x)),
    lambda x: head(L.Activation(lambda v: _calls_helper(v))(x)), lambda x: head(Derived()(x)),
    lambda x: head(L.TimeDistributed(L.Dense(2, activation=_calls_helper))(rows(x)))])
def test_a_description_sees_what_functions_and_classes_of_ones_own_stand_on(edit, monkeypatch):
    before = graph.describe(build(edit))
    assert before == graph.describe(build(edit))
    for name, other in (("SLOPE", 0.9), ("_helper", lambda x: x)):
        with monkeypatch.context() as patch:
            patch.setitem(globals(), name, other)
            assert graph.describe(build(edit)) != before
    monkeypatch.setattr(Base, "call", lambda self, x: 3 * x)
    assert (graph.describe(build(edit)) != before) == ("derived 0" in before)


def test_a_description_of_keras_layers_holds_no_code():
    """Runs of before go on: neither Keras's functions nor this project's layers are told."""
    for name in ("sequence of rows, ours", "ours, pooled, bias", "every activation on a tensor"):
        described = graph.describe(build(EDITS[name]))
        assert not any("code" in node for node in described.values())


def test_weights_and_slots_have_names_of_their_own():
    class Outer(L.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.inner = L.Dense(2, name="dense")

        def call(self, x):
            return self.inner(x)
    model = build(lambda x: L.Dense(CLASSES, name="dense")(Outer(name="m")(L.Flatten()(x))))
    weights = graph.name_weights(model.weights)
    assert set(weights) == {"m/dense/kernel", "m/dense/bias", "dense/kernel", "dense/bias"}
    assert not set(weights) & {f"m//{name}" for name in weights}


def test_stages_are_activations_whatever_their_names():
    assert list(graph.stages(build(EDITS["conv, relu, pool"]))) == ["re_lu"]
    model = build(lambda x: head(twice(L.ReLU(name="r"), conv(x, activation="relu", name="c"))))
    assert list(graph.stages(model)) == ["c", "r", "r:2"]
    linear = build(lambda x: L.Dense(CLASSES)(L.Flatten()(conv(x, name="only"))))
    assert list(graph.stages(linear)) == ["only"] and graph.first_convolution(linear).filters == 4
    assert graph.first_convolution(build(EDITS["no convolution"])) is None


@pytest.fixture
def own_cell(monkeypatch):
    monkeypatch.setitem(CELLS, "mean", OWN_CELL)


@every_edit
def test_weights_have_names_of_their_own_whatever_the_network(name, own_cell):
    model = build(EDITS[name])
    names = graph.name_weights(model.weights)
    assert len(names) == len(model.weights)
    graph.assign(names, {name: v.numpy() for name, v in names.items()}, "itself")
    for kind in ("U3", "V4", "M8[s]", complex):
        with pytest.raises(InputError, match="itself is damaged: .*, no numbers"):
            graph.assign(names, {n: v.numpy().astype(kind) for n, v in names.items()}, "itself")
    with pytest.raises(InputError, match="itself is of another network: more"):
        graph.assign(names, {name: v.numpy() for name, v in names.items()} | {"more": np.ones(1)},
                     "itself")


def test_figures_read_the_weights_below_the_last_feature_maps():
    """Not those of a gate after them, one position each."""
    x = keras.Input((6, 6, 1))
    y = keras.layers.Conv2D(2, 3, activation="relu", name="maps")(x)
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True)(y)
    gate = keras.layers.Conv2D(2, 1, activation="sigmoid", name="gate")(pooled)
    y = keras.layers.Flatten()(keras.layers.Multiply()([y, gate]))
    model = keras.Model(x, keras.layers.Dense(2)(y))
    assert [*graph.feature_maps(model)] == ["maps"]
    assert [*graph.weights_of_figures(model)] == ["maps/kernel", "maps/bias"]


def test_the_stage_after_a_convolution_is_of_it_alone():
    images = keras.Input((8, 8, 1))
    first = keras.layers.Conv2D(3, 3, padding="same", name="first")
    x = keras.layers.BatchNormalization()(keras.layers.MaxPooling2D()(first(images)))
    plain = keras.layers.ReLU(name="plain")(x)
    again = keras.layers.Conv2D(3, 3, padding="same", activation="relu", name="again")(x)
    joined = keras.layers.ReLU(name="joined")(keras.layers.Add()([x, again]))
    beside = keras.layers.ReLU(name="beside")(images)
    for outputs, name in ((plain, "plain"), (again, None), (joined, None), (
            keras.layers.Concatenate()([keras.layers.Flatten()(y) for y in (beside, plain)]),
            "plain")):
        model = keras.Model(images, keras.layers.Dense(2)(keras.layers.Flatten()(outputs)))
        assert graph.stage_after(model, first) == name
    second = keras.layers.Conv2D(3, 3, activation="relu", name="second")
    assert graph.stage_after(keras.Model(images, second(images)), second) is None  # the output
    model = keras.Model(images, keras.layers.Flatten()(second(images)))
    assert graph.stage_after(model, second) == "second"
    for batch_norm in ("none", "before", "after"):
        model = cifar_lenet5.build_model((8, 8, 1), 2, cifar_lenet5.Config(
            filters=(3, 4), units=5, batch_norm=batch_norm))
        assert [graph.stage_after(model, model.get_layer(f"conv{i}")) for i in (1, 2)] == [
            "relu1", "relu2"]
