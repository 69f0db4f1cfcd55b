"""What maps owe to learning: rank correlations, and networks that forget."""
import dataclasses
import inspect
import shutil

import keras
import numpy as np
import pytest
from conftest import assert_one_line, change_weights, run_script
from scipy.stats import spearmanr
from small_networks import network_of

import cifar_lenet5
from inside import attribution, sanity
from inside.sanity import forgetting, rank_correlations, weighted_layers
from system.files import load_arrays, read_json, write_json
from training import graph
from training.loop import make_model


def test_rank_correlations_are_spearmans():
    """Of maps with many ties too."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 6, 5, 7))
    b[:3] += a[:3]
    a[2], b[2] = np.maximum(a[2], 0), np.round(b[2])
    expected = [spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b)]
    np.testing.assert_allclose(rank_correlations(a, b), expected, atol=1e-12)
    assert rank_correlations(a, np.exp(a)) == pytest.approx(1)
    assert rank_correlations(a, -a) == pytest.approx(-1)


def test_constant_maps_correlate_with_nothing():
    a, flat = np.random.default_rng(0).normal(size=(2, 3, 3)), np.full((2, 3, 3), 0.1)
    for pair in ((a, flat), (flat, a), (flat, flat)):
        assert rank_correlations(*pair).tolist() == [0, 0]


def test_as_many_images_as_deletion_and_insertion():
    """The report says of both that they are measured on 200."""
    assert {inspect.signature(own.draw).parameters["images"].default
            for own in (attribution, sanity)} == {200}


def lenet5(batch_norm):
    config = cifar_lenet5.Config(filters=(2, 3), units=4, kernel_size=3, batch_norm=batch_norm,
                                 seed=5)
    model = make_model(cifar_lenet5.build_model, (8, 8, 1), 3, config)
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(variable + np.abs(rng.normal(0, 0.3, variable.shape)))
    return network_of(model, rng.integers(0, 256, (30, 8, 8, 1)), np.arange(30) % 3,
                      config=config)


def test_a_network_that_keras_cannot_copy_is_forgotten_too():
    """What may be trained may be looked at: copies are built as the network was."""
    def build_model(shape, classes, config):
        images = keras.Input(shape)
        x = keras.layers.Flatten()(keras.layers.Lambda(lambda x: 2 * x)(images))
        return keras.Model(images, keras.layers.Dense(classes, name="logits")(x))
    config = cifar_lenet5.Config()
    network = network_of(build_model((4, 4, 1), 2, config), np.zeros((6, 4, 4, 1)),
                         [0, 1] * 3, config=config)
    (_, own), (name, new) = forgetting(dataclasses.replace(network, build_model=build_model))
    assert own.model is network.model and name == "logits"
    assert np.abs(new.model.get_weights()[0] - own.model.get_weights()[0]).max() > 0.1


@pytest.mark.parametrize("batch_norm", ["none", pytest.param("after", marks=pytest.mark.slow)])
def test_layer_after_layer_is_forgotten(batch_norm):
    """From the logits down, to a network of another seed; the one that was given stays."""
    network = dataclasses.replace(lenet5(batch_norm), build_model=cifar_lenet5.build_model)
    own = network.model.get_weights()
    stages = [*forgetting(network)]
    middle = ["norm2", "conv2", "norm1", "conv1"] if batch_norm == "after" else [
        "bias2", "conv2", "bias1", "conv1"]
    assert [name for name, _ in stages] == ["trained", "logits", "hidden", *middle]
    assert stages[0][1] is network
    fresh = make_model(cifar_lenet5.build_model, (8, 8, 1), 3,
                       dataclasses.replace(network.config, seed=1005))

    def weights(model, name):
        layer = next(x for x in graph.layers(model) if x.name == name)
        return [v.numpy() for v in layer.trainable_variables]  # moments are measured anew
    for k, (_, changed) in enumerate(stages):
        forgotten = [name for name, _ in stages[1:k + 1]]
        for name in [layer.name for layer in weighted_layers(fresh)]:
            expected = weights(fresh if name in forgotten else network.model, name)
            for a, b in zip(weights(changed.model, name), expected, strict=True):
                np.testing.assert_array_equal(a, b)
    for a, b in zip(own, network.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    if batch_norm == "none":
        for a, b in zip(stages[-1][1].model.get_weights(), fresh.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    else:  # of what the forgetful network's own convolution gives
        model = stages[-1][1].model
        images = network.inputs(network.data.train_images)
        x = model.get_layer("pool1")(model.get_layer("conv1")(images)).numpy()
        np.testing.assert_allclose(model.get_layer("norm1").moving_mean, x.mean((0, 1, 2)),
                                   rtol=1e-4)


@pytest.fixture
def two_methods(monkeypatch):
    """The gradient, and one that learning has nothing to do with."""
    monkeypatch.setattr(sanity, "METHODS", {
        "gradient": sanity.METHODS["gradient"], "the image": lambda network, x, classes: x})


def permuted(run, folder, name="permuted-seed0", mean=None, **options):
    """A copy of a run whose config.json says something else, its weights in disorder."""
    other, rng = shutil.copytree(run, folder / name), np.random.default_rng(0)
    change_weights(other, lambda path, x: rng.permutation(x.ravel()).reshape(x.shape))
    config = read_json(run / "config.json")
    config["options"] |= options
    config["data"]["mean"] = mean or config["data"]["mean"]
    write_json(other / "config.json", config)
    return other


@pytest.mark.slow
def test_a_run_is_drawn(small_run, tmp_path, quick_figures, two_methods):
    """Beside a run of permuted labels: what does not depend on weights correlates fully."""
    other = permuted(small_run, tmp_path, permute_labels=True)
    status, out, err = run_script("visualize", "sanity", small_run, "--images", 4, "--permuted",
                                  other, "--out", "f", cwd=tmp_path)
    assert (status, err) == (0, "")
    numbers = load_arrays(tmp_path / "f" / "small-seed0" / "sanity.npz")
    assert numbers["stages"].tolist() == ["trained", "logits", "hidden", "norm2", "conv2", "norm1",
                                          "conv1", "labels permuted"]
    r = numbers["gradient/correlation"]
    assert r.shape == (8, 4) and r[0] == pytest.approx(1)
    assert np.abs(r[1:]).max() < 0.95
    np.testing.assert_allclose(numbers["the image/correlation"], 1)
    rows = [*sanity.table(numbers)]
    assert rows[0] == ("method", *numbers["stages"][1:]) and rows[2][1] == "1.00"


@pytest.mark.slow
def test_a_permuted_run_of_another_kind_is_refused(small_run, tmp_path):
    """It would be drawn as what it is not, or not fit."""
    other = permuted(small_run, tmp_path, "c", permute_labels=True, negative_slope=0.5)
    config = read_json(other / "config.json")
    write_json(other / "config.json", {k: v for k, v in config.items() if k != "network"})
    for folder, said in (
            (other, "of another network"), (tmp_path / "none", "config.json is not there"),
            (permuted(small_run, tmp_path, "a"), "not trained with --permute-labels"),
            (permuted(small_run, tmp_path, "b", 0.5, permute_labels=True), "on other images")):
        assert_one_line(run_script("visualize", "sanity", small_run, "--images", 2, "--permuted",
                                   folder, cwd=tmp_path), folder.name, said)
