"""What needs no files: the drawn stand-ins, and the digits that scikit-learn brings."""
import inspect

import numpy as np
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from sources import synthetic
from sources.images import DATA_SETS
from utils import load_images, may_be_mirrored


def test_patterns_are_deterministic_and_what_they_say():
    data = synthetic.patterns(train=20, test=5)
    images, labels = data.train_images, data.train_labels
    assert images.shape == (200, 28, 28, 1) and data.test_images.shape == (50, 28, 28, 1)
    assert len(data.classes) == 10 and labels.tolist() == sorted(labels)
    assert data.checksum == inspect.unwrap(synthetic.patterns)(train=20, test=5).checksum
    # a linear machine of which frequencies an image has knows the classes of others
    spectra, unseen = (np.log(1 + np.abs(np.fft.rfft2(x[..., 0] / 255.0))).reshape(len(x), -1)
                       for x in (images, data.test_images))
    machine = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(spectra, labels)
    assert machine.score(unseen, data.test_labels) > 0.7
    # Gratings: stripes run at the named angle, so the spectrum's peak lies across them.
    frequency = np.fft.fftfreq(28)
    for label, across in ((0, 90), (1, 45), (2, 0), (3, 135)):
        own = images[labels == label][..., 0].astype(float)
        spectrum = np.abs(np.fft.fft2(own - own.mean((1, 2), keepdims=True))).mean(0)
        row, column = np.unravel_index(spectrum.argmax(), spectrum.shape)
        angle = np.degrees(np.arctan2(frequency[row], frequency[column])) % 180
        assert abs((angle - across + 90) % 180 - 90) < 12, (label, angle)


def test_drawn_digits_are_legible_and_fixed():
    data = synthetic.digits(train=20, test=1)
    images, labels = data.train_images, data.train_labels
    assert data.checksum == inspect.unwrap(synthetic.digits)(train=20, test=1).checksum
    assert data.classes == tuple("0123456789") and images.shape == (200, 28, 28, 1)
    ink = (images > 100).mean((1, 2, 3))
    assert ink.min() > 0.03 and ink.max() < 0.35
    means = np.stack([images[labels == c].mean(0).ravel() for c in range(10)])
    assert np.corrcoef(means)[~np.eye(10, dtype=bool)].max() < 0.97  # no two digits look alike


def test_each_data_set_has_its_stand_in():
    assert DATA_SETS["elec677"].stand_in is synthetic.patterns
    assert DATA_SETS["mnist"].stand_in is synthetic.digits
    data = load_images("synthetic")
    assert data.title == ("SYNTHETIC stand-in, drawn patterns (28x28 grey, 10,000 train, "
                          "1,000 test)")
    assert data.checksum == synthetic.patterns().checksum and data.name == "synthetic"


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
