"""Score a network on its test images: counts, intervals, calibration.

Intervals of Wilson (1927); expected calibration error and reliability diagram as in Guo et al., On
calibration of modern neural networks (arXiv 1706.04599).
"""
import numpy as np
import tensorflow as tf

BINS = 15  # of confidence, of equal width, as Guo et al.


def wilson(right, count, z=1.959964):
    """Return the interval (low, high) of a share `right` of `count` that holds 95 % of the time."""
    share, spread = right / count, z * z / count
    middle = share + spread / 2
    half = z * np.sqrt(share * (1 - share) / count + spread / (4 * count))
    return (np.maximum(middle - half, 0) / (1 + spread),  # 0 but for rounding where none is right
            (middle + half) / (1 + spread))


def confusion(labels, predicted, classes):
    """Return how many images of each true class (row) are taken for each class: (classes,) * 2."""
    return np.bincount(labels * classes + predicted, minlength=classes ** 2).reshape(classes, -1)


def reliability(confidence, right, bins=BINS):
    """Return (images, mean confidence, accuracy) of each bin of confidence, and the expected
    calibration error: the mean of |accuracy - confidence| over images, by bins."""
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    said, true = (np.bincount(bin_of, x, bins) / np.maximum(count, 1) for x in (confidence, right))
    return count, said, true, float((count * np.abs(true - said)).sum() / count.sum())


def probabilities(network):
    """Return the network's probabilities of the classes for all test images: (images, classes)."""
    return tf.nn.softmax(network.test_logits).numpy()


def measure(network):
    """Return the numbers of the figure: of one network on its test images."""
    p, labels = probabilities(network), network.data.test_labels
    predicted, confidence = p.argmax(1), p.max(1)
    wrong = np.flatnonzero(predicted != labels)
    count, said, true, error = reliability(confidence, predicted == labels)
    return dict(classes=np.array(network.data.classes),
                confusion=confusion(labels, predicted, len(network.data.classes)),
                wrong=wrong[np.argsort(-confidence[wrong], kind="stable")][:16],
                predicted=predicted, confidence=confidence, bin_images=count, bin_confidence=said,
                bin_accuracy=true, calibration_error=error)
