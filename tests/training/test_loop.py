"""Losses and accuracies, by hand."""
import numpy as np
import pytest
import tensorflow as tf

from training.loop import cross_entropy, evaluate


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
