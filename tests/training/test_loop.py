"""Losses and accuracies, by hand."""
import numpy as np
import pytest
import tensorflow as tf

import mnist_rnn
from training.loop import cross_entropy, evaluate, load_training_data


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
