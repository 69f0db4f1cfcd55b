"""Transfer: heads by hand, and the script through its command line."""
import contextlib
import dataclasses
import io
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_one_line, run, run_script, tags_not_in_readme, write_images
from sklearn.svm import LinearSVC

import cifar_lenet5
import transfer
import utils
from sources.images import Images
from system.command_line import Diverged, InputError
from system.files import read_json
from training.events import read_events
from training.run import Run
from transfer import (
    Config,
    evaluate_head,
    fit_head,
    fit_svm,
    rotate,
    scale,
    scratch_options,
    train_from_scratch,
)

TARGET = ("--data", "synthetic", "--classes", "5-9", "--per-class", 2, 10, "--scratch-steps", 3,
          "--strengths", 0.01, 1)


def test_scale_by_hand():
    train, other = scale(np.array([[1.0, 0.0], [5.0, 0.0]]), np.array([[3.0, 4.0]]))
    np.testing.assert_allclose(train, [[-1, 0], [1, 0]])  # centred, root mean squared norm 2
    np.testing.assert_allclose(other, [[0, 2]])


@pytest.mark.parametrize("head", ["softmax", "svm"])
def test_rotation_loses_nothing(head):
    """A head fitted in as many dimensions as images predicts as one fitted to all features."""
    rng = np.random.default_rng(0)
    x, y, test = rng.normal(size=(30, 200)), np.arange(30) % 3, rng.normal(size=(40, 200))
    small, small_test = rotate(x, test)
    assert small.shape == (30, 30) and small_test.shape == (40, 30)
    np.testing.assert_allclose(small @ small.T, x @ x.T, atol=1e-9)
    np.testing.assert_allclose(
        fit_head(head, 1.0, small, y).decision_function(small_test),
        fit_head(head, 1.0, x, y).decision_function(test), atol=2e-3)
    assert rotate(x[:, :5], test[:, :5])[0].shape == (30, 5)


@pytest.mark.parametrize("strength", [
    0.01, 1.0, pytest.param(100.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("n, d", [(300, 20), (40, 2001)])
def test_the_support_vector_machine_is_scikit_learns(strength, n, d):
    """The same weights, intercepts and minimum as LIBLINEAR finds; labels need not begin at 0."""
    rng = np.random.default_rng(0)
    labels = rng.choice([2, 5, 7], n)
    x, = scale(rng.normal(size=(n, d)) + 0.5 * np.eye(8)[labels] @ rng.normal(size=(8, d)))
    ours = fit_svm(strength, x, labels, tolerance=1e-7, most=20_000)
    theirs = LinearSVC(C=strength, dual=d > n, tol=1e-8, max_iter=1_000_000).fit(x, labels)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=2e-3 * np.abs(theirs.coef_).max())
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=2e-3)
    assert ours.score(x, labels) == theirs.score(x, labels)
    usual = fit_svm(strength, np.float32(x), labels)  # the usual tolerance, and single precision
    assert abs(usual.score(x, labels) - theirs.score(x, labels)) < 0.02


@pytest.mark.parametrize("head", ["softmax", "svm"])
def test_strength_is_chosen_on_validation_alone(head):
    """Two classes that one mislabelled, far image pulls the wrong way unless regularised."""
    x = np.array([[-1.0], [-1.1], [1.0], [1.1], [-40.0]])
    train = x, np.array([0, 0, 1, 1, 1])
    good = np.array([[-1.0], [1.0]]), np.array([0, 1])
    for strengths in ((1e-6, 1.0), (1.0, 1e-6)):
        fitted = {s: fit_head(head, s, *train).score(*good) for s in strengths}
        accuracy, chosen = evaluate_head(head, strengths, train, good, (good[0], 1 - good[1]))
        assert fitted[chosen] == max(fitted.values())
        assert accuracy == 1 - fitted[chosen]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_it():
    options = cifar_lenet5.Config(filters=(4,), units=4, steps=60, optimizer="sgd",
                                  learning_rate=1e4,
                                  schedule="constant", loss="unclamped")
    data = utils.load_images("synthetic")
    with pytest.raises(Diverged, match="step .* rate 1e.04.*--scratch-steps 0"):
        train_from_scratch(cifar_lenet5.build_model, options, data.train_images[::100],
                           data.train_labels[::100], data)


def test_the_network_from_scratch_has_the_sources_options():
    source = cifar_lenet5.Config(learning_rate=0.5, horizontal_flip=True, seed=7, epochs=9.0)
    config = Config(seed=3, scratch_steps=40, threads=1)
    assert scratch_options(source, config) == dataclasses.replace(
        source, seed=3, steps=40, threads=1)
    assert not scratch_options(source, dataclasses.replace(
        config, horizontal_flip=False)).horizontal_flip
    assert not scratch_options(dataclasses.replace(
        source, horizontal_flip=False), config).horizontal_flip


@pytest.mark.slow
def test_many_networks_from_scratch_warn_of_nothing(caplog):
    """TensorFlow warns of the sixth function of one kind that is traced for a single call."""
    arrays = np.zeros((4, 4, 4, 1), np.uint8), np.int32([0, 1, 0, 1])
    options = cifar_lenet5.Config(filters=(2,), units=0, steps=1, batch_size=4, threads=1,
                                  batch_norm="after")
    with caplog.at_level("WARNING"):
        tf.get_logger().addHandler(caplog.handler)
        try:
            for _ in range(6):
                train_from_scratch(cifar_lenet5.build_model, options, *arrays,
                                   Images("x", "x", "ab", *arrays, *arrays))
        finally:
            tf.get_logger().removeHandler(caplog.handler)
    assert not caplog.records


def test_what_it_cannot_heed_is_refused(monkeypatch, tmp_path):
    """Shuffled labels, and no images by which to choose; a small class is said to have fewer."""
    (tmp_path / "result.json").touch()
    images, labels = np.zeros((8, 2, 2, 1), np.uint8), np.int32([0, 0, 0, 0, 0, 0, 1, 1])
    data = Images("x", "X", "ab", images, labels, images, labels)
    monkeypatch.setattr(utils, "load_images", lambda *_, **__: data)
    tensor = SimpleNamespace(shape=(None, 2, 2, 1))
    network = SimpleNamespace(folder=tmp_path, stages={"relu": tensor},
                              model=SimpleNamespace(input=tensor))
    monkeypatch.setattr(transfer, "Record", lambda *_: SimpleNamespace(network=network))
    for config, said in ((Config(permute_labels=True), "--permute-labels: "),
                         (Config(source="m.keras"), "^m.keras: .* the folder of a run"),
                         (Config(validation_split=0.9), "class 'b' would have no image left"),
                         (Config(validation_split=0.0), "--validation-split 0 leaves")):
        with pytest.raises(InputError, match=said):
            transfer.load(config)
    sets = transfer.load(Config(validation_split=0.25, per_class=(1, 4)))  # leaves 4 and 1
    assert [sets.said(k) for k in sets.subsets] == [
        "1 images per class", "up to 4 images per class"]
    run = SimpleNamespace(describe=lambda **_: None, path=tmp_path)
    network.model.get_weights, network.data, network.config = list, data, Config()
    with contextlib.redirect_stdout(io.StringIO()) as out:
        transfer.describe(run, dataclasses.replace(sets, data=data.noting("seen before")), 3)
    assert "note     seen before" in out.getvalue()


@pytest.fixture(scope="module")
def finished(small_run, tmp_path_factory):
    """(logs folder, the transfer run's folder, the words that made it, what it printed)."""
    logs = tmp_path_factory.mktemp("transfer")
    words = ("transfer.py", small_run, *TARGET)
    status, out, err = run_script(*words, "--logdir", logs, "--name", "x")
    assert status == 0 and err == "", err
    return logs, logs / "transfer" / "x-seed0", words, out


@pytest.mark.slow
def test_run_leaves_what_it_promises(finished):
    logs, folder, _, out = finished
    result, events = read_json(folder / "result.json"), read_events(folder)
    names = [f"{head}/{place}" for head in ("softmax", "svm")
             for place in ("pixels", "relu1", "relu2", "relu_hidden")] + ["scratch"]
    assert set(result) == {f"test_accuracy/{name}/{k}" for name in names for k in (2, 10)} | {
        "train_seconds"}
    for name in names:
        steps, _, values = events[name, "transfer/test_accuracy"]
        assert steps.tolist() == [2, 10]
        np.testing.assert_allclose(np.float64(values), [
            result[f"test_accuracy/{name}/{k}"] for k in steps], rtol=1e-6)
    assert result["test_accuracy/softmax/relu2/10"] > 0.4  # of five classes
    config = read_json(folder / "config.json")
    assert config["data"]["title"].startswith("SYNTHETIC") and "SYNTHETIC" in out
    assert config["source"]["options"]["classes"] == "0-3"
    status, out, err = run_script("visualize.py", "transfer", folder, "--out", logs / "figures")
    assert status == 0 and err == "" and "| images per class | pixels | relu1 |" in out
    assert (logs / "figures" / "transfer.png").exists()
    assert tags_not_in_readme(events) == []


def values_of(folder):
    return {key: (steps.tolist(), np.array(values).tolist())
            for key, (steps, _, values) in read_events(folder).items()
            if "seconds" not in key[1] and key[1] not in ("config", "_hparams_/session_start_info")}


@pytest.mark.slow
def test_stopped_run_goes_on(finished, tmp_path, monkeypatch):
    """Stopped by Ctrl-C and resumed: the events of a run without a stop."""
    _, folder, words, _ = finished
    words = (*words, "--logdir", tmp_path, "--name", "x")

    def save(run, step, state):
        save_step(run, step, state)
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
    save_step = Run.save
    monkeypatch.setattr(Run, "save", save)
    status, _, err = run_script(*words)
    assert status == 130 and err.count("\n") == 1 and "saved before is kept" in err, err
    monkeypatch.undo()
    assert_one_line(run_script(*words), "interrupted", "--resume")
    status, _, err = run_script(*words, "--resume")
    assert status == 0, err
    assert values_of(tmp_path / "transfer" / "x-seed0") == values_of(folder)
    status, out, _ = run_script(*words, "--resume")
    assert status == 0 and "finished" in out


@pytest.mark.slow
def test_bad_input_is_one_line(finished, tmp_path, poison):
    logs, folder, words, _ = finished
    source = words[1]
    assert run("transfer.py", "--help", PYTHONPATH=poison)[0] == 0
    for bad, said in (((), "source"), ((source, "--per-class", -1), "at least 0"),
                      ((source, "--bogus"), "--bogus")):
        assert_one_line(run_script("transfer.py", *bad), said)
    for bad, said in (((folder, "--name", "y"), "of transfer.py, which keeps no network"),
                      ((tmp_path / "none", "--name", "y"), "none"),
                      ((source, "--data", "synthetic", "--classes", "9"), "--classes")):
        assert_one_line(run_script("transfer.py", *bad, "--logdir", tmp_path), said)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.slow
def test_images_must_fit_the_network(finished, tmp_path):
    assert_one_line(run_script("transfer.py", finished[2][1], "--logdir", tmp_path / "l", "--data",
                               write_images(tmp_path / "d", side=20)), "(20, 20, 1)", "(28, 28, 1)")
    assert not (tmp_path / "l").exists()
