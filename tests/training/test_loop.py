"""Losses and accuracies, by hand."""
import functools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import run_script

import mnist_rnn
from cifar_lenet5 import Config, build_model
from system.command_line import Diverged, InputError
from training import loop
from training.loop import (
    Training,
    balanced,
    batch_noise,
    cross_entropy,
    evaluate,
    load_training_data,
    make_model,
    make_train_steps,
    total_steps,
)
from training.optimizers import create_slots
from training.run import Run


def test_cross_entropy_by_hand_and_where_the_original_breaks():
    logits = tf.constant([[0.0, np.log(3.0)], [0.0, 1000.0]])
    targets = tf.constant([[1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(cross_entropy(targets, logits), [np.log(4), 1000], rtol=1e-6)
    unclamped = cross_entropy(targets, logits, "unclamped").numpy()
    assert unclamped[0] == pytest.approx(np.log(4)) and not np.isfinite(unclamped[1])


def test_logits_loss_survives_what_the_unclamped_cannot():
    """At the same confident and wrong logits one loss has a gradient, the other has none."""
    logits = tf.Variable([[0.0, 200.0]])
    for kind, finite in (("logits", True), ("unclamped", False)):
        with tf.GradientTape() as tape:
            loss = cross_entropy(tf.constant([[1.0, 0.0]]), logits, kind)
        assert np.isfinite(tape.gradient(loss, logits)).all() == finite


def test_evaluate_by_hand():
    loss, accuracy = evaluate(np.float32([[0, np.log(3)], [0, 0], [5, 0]]), np.array([1, 0, 1]))
    assert accuracy == pytest.approx(2 / 3)
    assert loss == pytest.approx((np.log(4 / 3) + np.log(2) + np.log(1 + np.exp(5))) / 3, rel=1e-5)


def test_an_image_without_numbers_is_not_recognised():
    """NaN has the place of the largest for NumPy: each of a blank image's logits, the first class.
    """
    logits = np.float32([[np.nan, np.nan], [1, np.nan], [2, 1]])
    loss, accuracy = evaluate(logits, np.array([0, 0, 0]))
    assert np.isnan(loss) and accuracy == pytest.approx(1 / 3)


def test_a_result_that_is_no_number_is_none(tmp_path):
    training = types.SimpleNamespace(step=9)
    run = Run("s", Config(logdir=str(tmp_path), name="a"))
    with pytest.raises(Diverged, match="final evaluation is not finite at step 9"):
        Training.finish(training, run, {"test_accuracy": 1.0, "test_loss": np.nan})
    assert not (run.path / "result.json").exists()



def test_batch_noise_by_hand():
    """Losses of log 2 and log(1 + e^3): one image a batch has either, many have their mean."""
    logits, labels = np.float32([[0, 0], [0, 3]]), np.array([0, 0])
    low, high = np.log(2), np.log(1 + np.exp(3))
    assert batch_noise(logits, labels, 1) == pytest.approx(np.log(high / low) / 2, rel=0.01)
    relative = (high - low) / (high + low)
    assert batch_noise(logits, labels, 400) == pytest.approx(relative / 20, rel=0.1)
    assert np.isfinite(batch_noise(np.float32([[200, 0]]), np.array([0]), 4))  # a loss of 0
    half = tf.cast(np.linspace([-2, 0], [2, 1], 99), tf.bfloat16).numpy()  # losses are not rounded
    labels = np.zeros(99, int)
    assert batch_noise(half, labels, 8) == batch_noise(np.float32(half), labels, 8)


def test_steps_by_hand():
    """0.07 * 10,000 / 50 is 14, computed 14.000000000000002."""
    for epochs, count, steps in ((0.07, 10_000, 14), (1, 101, 3), (1, 100, 2), (1e-9, 100, 1)):
        assert total_steps(Config(epochs=float(epochs), batch_size=50, steps=0), count) == steps
    assert total_steps(Config(epochs=1.0, steps=7), 100) == 7
    with pytest.raises(InputError, match="nothing to train"):
        total_steps(Config(epochs=0.0, steps=0), 100)


def test_bfloat16_is_refused_where_no_layer_computes_in_it():
    def build(shape, classes, config, dtype="float32"):
        x = keras.Input(shape)
        return keras.Model(x, keras.layers.Dense(classes, dtype=dtype)(keras.layers.Flatten()(x)))
    config = Config(precision="bfloat16")
    with pytest.raises(InputError, match="bfloat16.*dtype=POLICIES"):
        make_model(build, (4, 4, 1), 2, config)
    make_model(functools.partial(build, dtype="mixed_bfloat16"), (4, 4, 1), 2, config)
    make_model(build, (4, 4, 1), 2, Config(precision="float32"))


# ---------------------------------------------------------------------------------- class weights

def test_balanced_weights_by_hand():
    """12 images of 3 classes: 12 / (3 * 6), 12 / (3 * 2), 12 / (3 * 4); all images weigh 12."""
    weights = balanced(np.array([6, 2, 4]))
    np.testing.assert_allclose(weights, [2 / 3, 2, 1], rtol=1e-6)
    assert weights.dtype == np.float32 and weights @ [6, 2, 4] == pytest.approx(12)
    assert np.isfinite(balanced(np.array([3, 0]))).all()


@pytest.mark.parametrize("kind", ["logits", "unclamped"])
def test_weighted_cross_entropy_by_hand(kind):
    logits = tf.constant([[0.0, np.log(3.0)]] * 2)
    targets = tf.constant([[0.9, 0.1], [0.1, 0.9]])  # smoothed; the class is the largest
    plain = np.array([0.9 * np.log(4) + 0.1 * np.log(4 / 3), 0.1 * np.log(4) + 0.9 * np.log(4 / 3)])
    np.testing.assert_allclose(cross_entropy(targets, logits, kind), plain, rtol=1e-6)
    weighted = cross_entropy(targets, logits, kind, tf.constant([2.0, 0.5]))
    np.testing.assert_allclose(weighted, plain * [2, 0.5], rtol=1e-6)


@pytest.mark.parametrize("class_weight, weights", [
    pytest.param("none", [1, 1], marks=pytest.mark.slow), ("balanced", [5 / 8, 5 / 2])])
def test_the_loss_of_a_step_is_weighted_by_the_training_images(class_weight, weights):
    """Four images of one class, one of the other: 5 / (2 * 4) and 5 / (2 * 1)."""
    config = Config(filters=(2,), units=0, batch_size=3, dropout=0.0, threads=2,
                    class_weight=class_weight)
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), np.uint8)
    labels = np.int32([0, 0, 1, 0, 0])
    model = make_model(build_model, (4, 4, 1), 2, config)
    logits = model(images[[2, 0, 1]] / np.float32(255)).numpy()
    slots = create_slots(config.optimizer, [v.value for v in model.trainable_variables])
    steps = make_train_steps(model, slots, config, 0.0, 1.0, images, labels)
    loss, = steps(np.int32([[2, 0, 1]]), np.float32([0.1]), 0).numpy()
    plain = np.log(np.exp(logits).sum(1)) - logits[range(3), [1, 0, 0]]
    assert loss == pytest.approx(plain @ np.take(weights, [1, 0, 0]) / 3, rel=1e-4)


def test_permuted_labels(capsys):
    """The same images and as many of each label, in an order that is a function of the seed; said
    where the run describes its data. Labels to validate and test by stay."""
    def load(**options):
        return load_training_data(mnist_rnn.Config(data="digits", **options))
    plain, one, again, other = (load(**options) for options in (
        {}, *[{"permute_labels": True, "seed": seed} for seed in (0, 0, 1)]))
    np.testing.assert_array_equal(one.images, plain.images)
    np.testing.assert_array_equal(one.labels, again.labels)
    assert one.labels.dtype == plain.labels.dtype
    assert np.bincount(one.labels).tolist() == plain.counts.tolist() == one.counts.tolist()
    for a, b in ((one, plain), (one, other)):  # a tenth agree by chance
        assert 0.05 < np.mean(a.labels == b.labels) < 0.15
    np.testing.assert_array_equal(one.observed["validation"][1], plain.observed["validation"][1])
    np.testing.assert_array_equal(one.source.test_labels, plain.source.test_labels)
    seen = {image.tobytes(): label for image, label in zip(one.images, one.labels)}
    images, labels = one.observed["train"]  # accuracy in training is by what it learns
    assert [seen[image.tobytes()] for image in images] == labels.tolist()
    one.describe()
    assert "note     training labels are permuted" in capsys.readouterr().out
    plain.describe()
    assert "permuted" not in capsys.readouterr().out


# ------------------------------------------------------- the path of a GPU, run on the processor

LENET5 = ("cifar_lenet5", "--data", "digits", "--recipe", "original-bn", "--filters", 2, 3,
          "--units", 8)
GRU = "mnist_rnn", "--data", "digits", "--units", 4, "--layers", 1


@pytest.mark.slow
@pytest.mark.parametrize("words", [LENET5, GRU], ids=["lenet5", "gru"])
def test_losses_are_those_of_the_processor(words, tmp_path, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, kind: None)
    losses = {}
    for device in ("cpu", "gpu"):
        status, out, err = run_script(*words, "--batch-size", 15, "--steps", 8, "--evaluations", 1,
                                      "--snapshots", 0, "--device", device, "--logdir", device,
                                      "--name", "run", cwd=tmp_path)
        assert status == 0, err
        assert ("a GPU is there and not used" in out) == (device == "cpu")
        file, = (tmp_path / device).rglob("losses.csv")
        losses[device] = np.loadtxt(file, delimiter=",", skiprows=1)[:, 2]
    np.testing.assert_allclose(losses["gpu"], losses["cpu"], rtol=1e-5)
    assert len(set(losses["gpu"])) == 8


def test_the_batch_is_whole_on_a_gpu(monkeypatch):
    seen = []
    monkeypatch.setattr(loop, "shares", lambda batch, parts: seen.append(parts) or [batch])
    for device in ("cpu", "gpu"):
        config = Config(filters=(1,), units=0, batch_size=2, threads=3, device=device)
        model = loop.make_model(build_model, (4, 4, 1), 2, config)
        slots = loop.create_slots(config.optimizer, [v.value for v in model.trainable_variables])
        loop.make_train_steps(model, slots, config, 0.0, 1.0, np.zeros((2, 4, 4, 1), np.uint8),
                              np.int32([0, 1]))
    assert seen == [3, 1]


def test_without_a_gpu_it_is_refused(tmp_path):
    status, _, err = run_script(*LENET5, "--device", "gpu", cwd=tmp_path)
    assert status == 2 and "TensorFlow sees no GPU" in err and err.count("\n") == 1
    assert not list(tmp_path.rglob("config.json"))
