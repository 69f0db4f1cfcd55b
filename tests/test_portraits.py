"""Figures from a checkpoint: which images they show. The figures themselves: test_scripts.py."""
import keras
import numpy as np

import utils
from network import Network
from portraits import first_of_each_class, recognised_of_each_class


def test_first_images_by_hand():
    labels = np.array([1, 0, 1, 1, 0])
    assert first_of_each_class(labels, 2).tolist() == [[1, 4], [0, 2]]
    assert first_of_each_class(labels, 3).tolist() == [[1, 4], [0, 2]]  # there are two of each


def test_recognised_images_by_hand():
    """A network whose logits are the three pixels: it recognises the brightest one's number."""
    pixels = keras.Input((1, 3, 1))
    model = keras.Model(pixels, keras.layers.Flatten(name="logits")(pixels))
    images = np.uint8([[9, 0, 0],   # a 0, recognised
                       [9, 0, 0],   # a 1, taken for a 0
                       [0, 9, 0],   # a 1, recognised
                       [9, 0, 1],   # a 2, taken for a 0
                       [0, 9, 1],   # a 2, taken for a 1
                       [0, 9, 0]])[:, None, :, None]
    labels = np.int32([0, 1, 1, 2, 2, 1])
    data = utils.Images("x", "x", ("a", "b", "c"), images, labels, images, labels)
    network = Network("x", None, None, None, model, data, 0.0, 1.0)
    assert recognised_of_each_class(network, 3).tolist() == [0, 2, 3]
    assert recognised_of_each_class(network, 2).tolist() == [0, 2]
