"""Networks small enough to know the answer."""
import pathlib
import types

import keras
import numpy as np

from inside.trained import Network, outputs, tensor_of
from sources.images import Images

L = keras.layers


def linear(kernel, size=(7, 9), head=None):
    """One convolution with `kernel` (k, k, 1, maps), ReLU and a dense layer of the maps' totals."""
    x = keras.Input((*size, 1))
    y = L.Conv2D(kernel.shape[3], kernel.shape[0], padding="same", use_bias=False,
                 activation="relu", name="conv")(x)
    z = L.Dense(2, use_bias=False, name="logits")(L.Flatten(name="flatten")(y))
    model = keras.Model(x, z)
    model.get_layer("conv").set_weights([kernel.astype(np.float32)])
    if head is not None:
        model.get_layer("logits").set_weights([head.astype(np.float32)])
    return model


def network_of(model, images, labels, classes=None, train=None, mean=0.0, std=1.0, config=None):
    """A Network that was trained on `train` (images, labels), and is tested on the others."""
    images, labels = np.uint8(images), np.int32(labels)
    classes = classes or [f"class {c}" for c in range(model.output.shape[1])]
    train = train or (images, labels)
    data = Images.titled("made", "made by hand", classes, (*train, images, labels))
    return Network(pathlib.Path("made"), config, None, model, data, mean, std)


def as_record(network, name="made"):
    """What draw() takes, of a Network."""
    return types.SimpleNamespace(name=name, folder=pathlib.Path(name), network=network)


def output(model, name, images):
    """What the node `name` gives for images."""
    return outputs(model, [tensor_of(model, name)], images)[0]


def one_hot(classes):
    """A network whose logits are the pixels of a row of so many."""
    pixels = keras.Input((1, classes, 1))
    return keras.Model(pixels, L.Flatten(name="logits")(pixels))
