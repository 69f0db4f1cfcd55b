"""model.keras: what Keras alone computes of it, that weights come back, and what is refused."""
import dataclasses
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers as L
from networks import CLASSES, EDITS, OWN_CELL, build

import cifar_lenet5
import mnist_rnn
from system.command_line import InputError
from training import cells, plain
from training.augmentation import prepare
from training.graph import name_weights
from training.layers import Bias
from training.loop import make_model

MOMENTS = 0.4, 0.3
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 2), np.uint8)
ALONE = """
import sys, keras, numpy as np
for folder in sys.argv[1:]:
    model = keras.models.load_model(folder + "/model.keras")
    np.save(folder + "/logits.npy", model(np.load(folder + "/images.npy")))
own = {name.partition(".")[0] for name in sys.modules}
assert not own & {"system", "sources", "utils", "training", "inside", "cifar_lenet5", "mnist_rnn"}
"""
LENET5 = {"units=0": dict(units=0), "bfloat16": dict(precision="bfloat16", batch_norm="after")} | {
    f"{norm}, {activation}": dict(batch_norm=norm, activation=activation, dropout=0.2)
    for norm, activation in (("none", "relu"), ("before", "leaky_relu"), ("after", "relu"))}
RNN = {cell: dict(cell=cell, layers=1) for cell in ("rnn", "lstm", "gru-reset-before")} | {
    "gru": dict(layers=2), "columns": dict(order="columns", dropout=0.2, layers=1),
    "sweeps": dict(order="sweeps", layers=1),
    "bfloat16": dict(precision="bfloat16", cell="lstm", layers=1)}
MODELS = {f"{script.__name__} {name}": (script, dataclasses.replace(script.Config(), **{
    "units": 6, **({"filters": (3, 4)} if script is cifar_lenet5 else {}), **options}))
    for script, options_of in ((cifar_lenet5, LENET5), (mnist_rnn, RNN))
    for name, options in options_of.items()}
EDITED = ("batch norm in a nested model", "nested model used twice", "nested sequential", "x + y",
          "2 * images - 1", "arithmetic with a constant", "patches as a batch", "layer used twice",
          "elu, prelu, selu", "two of ours joined", "bidirectional of ours", "ours, pooled, bias")
REFUSED = {"activation of one's own": "conv2d", "activity regularizer of all": "activation",
           "an operation of one's own": "maximum", "a cell of one's own": "recurrent",
           "declared": "declared", "lambda": "lambda", "one that adds a loss": "scaled"}


def trained(model, seed=1):
    """The model with weights far from those that it began with."""
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.5, 1.5, w.shape) if "variance" in w.path else
                       w.numpy() + rng.normal(0, 0.1, w.shape) for w in model.weights])
    return model


def arrays_of(model):
    return {name: v.numpy() for name, v in name_weights(model.weights).items()}


def logits(model, images, mean=0.0, std=1.0):
    return model(prepare(images, mean, std), training=False).numpy()


@pytest.mark.slow
def test_keras_alone_computes_the_same(tmp_path):
    """In another folder, by a process that imports nothing of the project: of raw pixels, every
    option and some edits give the logits that they give here in float32, to 1e-5."""
    expected = {}
    for i, name in enumerate([*MODELS, *EDITED]):
        images, (mean, std) = IMAGES, MOMENTS if i % 2 else (0.0, 1.0)
        folder = tmp_path / str(i)
        folder.mkdir()
        if name in MODELS:
            script, config = MODELS[name]
            model = exact = trained(make_model(script.build_model, IMAGES.shape[1:], 3, config))
            if config.precision != "float32":
                exact = trained(make_model(script.build_model, IMAGES.shape[1:], 3,
                                           dataclasses.replace(config, precision="float32")))
        else:
            model = exact = trained(build(EDITS[name]))
            images = IMAGES[:, :4, :6, :1]
        plain.save(folder, model, mean, std)
        np.save(folder / "images.npy", images.astype("uint8" if i // 2 % 2 else "float32"))
        expected[name] = logits(exact, images, mean, std)
    subprocess.run([sys.executable, "-I", "-c", ALONE, *map(str, range(len(expected)))],
                   cwd=tmp_path, check=True, capture_output=True)
    for i, (name, values) in enumerate(expected.items()):
        np.testing.assert_allclose(np.load(tmp_path / str(i) / "logits.npy"), values,
                                   atol=1e-5 * max(1, np.abs(values).max()), err_msg=name)
        assert np.ptp(values, axis=0).max() > 1e-3, name


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_in_keras_has_its_weights_kept(name, tmp_path, capsys, monkeypatch):
    """One line says which layer; the weights are read back from weights.npz."""
    monkeypatch.setitem(cells.CELLS, "mean", OWN_CELL)
    model = build(EDITS[name])
    with pytest.raises(plain.NotPlain, match=f"layer '{REFUSED[name]}' .* no counterpart in Keras"):
        plain.plain(model)
    plain.save(tmp_path, model, *MOMENTS)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and REFUSED[name] in said
    assert [p.name for p in tmp_path.iterdir()] == ["weights.npz"]
    np.testing.assert_equal(plain.load(tmp_path, build(EDITS[name], seed=5)), arrays_of(model))


def test_a_layer_of_a_name_that_is_needed_does_not_stop_the_end(tmp_path, capsys):
    x = keras.Input((4, 6, 1))
    model = keras.Model(x, L.Dense(3)(L.Flatten(name="standardization")(x)))
    plain.save(tmp_path, model, *MOMENTS)
    assert "standardization" in capsys.readouterr().out
    np.testing.assert_equal(plain.load(tmp_path, model), arrays_of(model))


def conv(filters=3, **options):
    return L.Conv2D(filters, 3, padding="same", use_bias=False, **options)


def shared(x):
    y = conv()(x)
    return Bias("random_normal")(y) + y


def used_twice(x):
    bias = Bias("random_normal")
    return bias(conv()(x)) + bias(conv()(x))


@pytest.mark.parametrize("network, returns", [
    (lambda x: Bias("random_normal")(L.MaxPooling2D(3, padding="same")(conv()(x))), True),
    (lambda x: Bias("random_normal")(L.AveragePooling2D(2, padding="same")(L.MaxPooling2D(
        2, 1)(conv()(x)))), True),
    (lambda x: Bias("random_normal")(L.Dense(3, use_bias=False)(x)), True),
    (lambda x: Bias("random_normal")(Bias("random_normal")(conv()(x))), False),
    (lambda x: Bias("random_normal")(L.ReLU()(conv()(x))), False),
    (lambda x: Bias("random_normal")(conv(activation="relu")(x)), False),
    (lambda x: Bias("random_normal")(L.Conv2D(3, 3)(x)), False),
    (lambda x: Bias("random_normal")(x), False), (shared, False), (used_twice, False)])
def test_a_bias_returns_into_its_convolution(network, returns):
    """Where that is the same; else there is no model.keras."""
    x = keras.Input((5, 6, 1))
    model = keras.Model(x, L.Dense(CLASSES)(L.Flatten()(network(x))))
    if not returns:
        with pytest.raises(plain.NotPlain, match="Bias"):
            plain.plain(model)
        return
    found, pairs = plain.plain(model)
    for own, theirs in pairs:
        theirs.assign(own)
    images = IMAGES[:, :5, :6, :1]
    np.testing.assert_allclose(found(images), logits(model, images), atol=1e-5)
    assert not any(isinstance(layer, Bias) for layer in found.layers) and len(pairs) == 4


@pytest.mark.parametrize("name", ["cifar_lenet5 none, relu", "mnist_rnn gru"])
def test_weights_come_back_bit_by_bit(name, tmp_path):
    script, config = MODELS[name]
    models = [make_model(script.build_model, (8, 6, 2), 3, dataclasses.replace(config, seed=seed))
              for seed in (0, 1)]
    plain.save(tmp_path, trained(models[0]), *MOMENTS)
    found, expected = plain.load(tmp_path, models[1]), arrays_of(models[0])
    assert [*found] == [*expected]
    assert all(found[name].tobytes() == x.tobytes() for name, x in expected.items())
    assert [p.name for p in tmp_path.iterdir()] == ["model.keras"]


@pytest.mark.parametrize("damage", ["truncated", "a weight", "what Keras does not read", "empty"])
def test_a_damaged_file_is_refused(damage, tmp_path):
    model = trained(build(EDITS["conv, relu, pool"]))
    plain.save(tmp_path, model, *MOMENTS)
    file = tmp_path / "model.keras"
    content = file.read_bytes()
    if damage in ("truncated", "empty"):
        file.write_bytes(content[:-40] if damage == "truncated" else b"")
    else:
        at = content.index(model.layers[1].kernel.numpy().tobytes() if damage == "a weight"
                           else b"date_saved")
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1:])
    with pytest.raises(InputError, match="model.keras is damaged") as found:
        plain.load(tmp_path, model)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("other, said", [
    ("no convolution", "no such array"), ("spatial dropout of a sequence", "no such array"),
    ("third convolution without pooling", "no such array"), ("lambda", "'lambda'"),
    ("activation in a layer named hidden", "hidden/kernel")])
def test_another_networks_file_is_refused(other, said, tmp_path):
    """Also if it has all weights that are looked for, and more."""
    plain.save(tmp_path, build(EDITS["conv, relu, pool"]), *MOMENTS)
    with pytest.raises(InputError, match=f"model.keras is of another network: .*{said}"):
        plain.load(tmp_path, build(EDITS[other]))


def test_a_full_disk_leaves_no_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(keras.Model, "save", full)
    with pytest.raises(OSError, match="No space") as found:
        plain.save(tmp_path, build(EDITS["strides"]), *MOMENTS)
    assert found.value.filename == str(tmp_path / "model.keras") and not [*tmp_path.iterdir()]
