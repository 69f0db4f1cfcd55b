"""The digits that scikit-learn brings."""
import numpy as np
from sklearn.datasets import load_digits

from utils import load_images, may_be_mirrored


def test_digits_are_real_and_those_of_the_test_are_of_other_writers():
    """17 grey levels, 0 .. 16, become 0 .. 255: 8 becomes 127.5, rounded to even."""
    data, theirs = load_images("digits"), load_digits()
    assert data.title == ("scikit-learn's handwritten digits (8x8 grey, 1,437 train, 360 test)")
    every = np.concatenate([data.train_images, data.test_images])[..., 0]
    assert len(every) == 1797 and np.unique(every).tolist() == [
        0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255]
    np.testing.assert_array_equal(np.rint(every / 255 * 16), theirs.images)
    labels = np.concatenate([data.train_labels, data.test_labels])
    np.testing.assert_array_equal(labels, theirs.target)
    assert data.classes == tuple("0123456789") and np.bincount(data.test_labels).min() > 30
    assert not data.mirrors and not may_be_mirrored("digits", "elec677")
