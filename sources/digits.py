"""Read the 1,797 handwritten digits that come with scikit-learn: real images without a network."""
import numpy as np

from sources.images import Images, data_set


@data_set("digits", mirrors=False)
def digits(data_dir, how):
    """Return the digits, 8x8 grey: 1,437 for training and, by other writers, the last 360 for the
    test.

    From Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (UCI repository, 1998); its
    17 grey levels are scaled to 0 .. 255.
    """
    from sklearn.datasets import load_digits
    found = load_digits()
    pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = found.target.astype(np.int32)
    return Images.titled("digits", "scikit-learn's handwritten digits", "0123456789",
                         (pixels[:1437], labels[:1437], pixels[1437:], labels[1437:]),
                         mirrors=False)
