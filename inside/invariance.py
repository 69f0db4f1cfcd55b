"""Shift, scale and rotate images: how far do their features move (fig. 5)?

Figure 5 of Zeiler & Fergus, Visualizing and understanding convolutional networks (arXiv
1311.2901).
"""
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from scipy.spatial.distance import pdist

from inside.pictures import as_grey, show
from inside.statistics import layers_of
from inside.trained import first_of_each_class, outputs, recognised_of_each_class, require
from system.command_line import NotDrawn
from system.progress import Progress


def transform(images, kind, amount):
    """Return images shifted down by `amount` pixels, scaled by it, or rotated by so many degrees.

    kind: "shift", "scale" or "rotation"; about the centre; the border's pixels go on outside.
    """
    if kind not in ("shift", "scale", "rotation"):
        raise ValueError(f"no transformation {kind!r}: shift, scale or rotation")
    height, width = images.shape[1:3]
    x, y = (width - 1) / 2, (height - 1) / 2
    angle = np.radians(amount) if kind == "rotation" else 0.0
    zoom = 1 / amount if kind == "scale" else 1.0
    shift = amount if kind == "shift" else 0.0
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    row = [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y - shift, 0, 0]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.constant(images, tf.float32), transforms=tf.constant([row], tf.float32),
        output_shape=[height, width], fill_value=0.0, interpolation="BILINEAR",
        fill_mode="NEAREST").numpy()


def invariance(model, tensors, images, labels, kind, amounts):
    """Measure how features follow a transformation of the image.

    tensors: of layers. Returns (distances, probabilities): Euclidean distance of the feature
    vectors of original and transformed image, (layers, amounts, images), and probability of the
    true class, (amounts, images).
    """
    tensors = [*tensors, model.output]
    original = outputs(model, tensors, images)
    distances, probabilities = [], []
    for amount in amounts:
        moved = outputs(model, tensors, transform(images, kind, amount))
        distances.append([np.linalg.norm((a - b).reshape(len(images), -1), axis=1)
                          for a, b in zip(original[:-1], moved)])
        p = tf.nn.softmax(moved[-1]).numpy()
        probabilities.append(p[np.arange(len(images)), labels])
    return np.stack(distances, 1), np.stack(probabilities)


def draw(record):
    """Draw how far features of five recognised images move as these are shifted, scaled, rotated.
    """
    network = record.network
    classes, data = network.data.classes, network.data
    chosen = recognised_of_each_class(network, 5)
    images, labels = network.inputs(data.test_images[chosen]), data.test_labels[chosen]
    stages = require(network.stages, "the network has no activations")
    names = [*dict.fromkeys((list(stages)[0], list(stages)[-1]))]  # of one activation that alone
    tensors = [stages[name] for name in names]
    others = network.inputs(data.test_images[first_of_each_class(data.test_labels, 10)[1].ravel()])
    if len(others) < 2:
        raise NotDrawn("invariance compares with the distance of two test images; there is one")
    usual = [pdist(y.reshape(len(y), -1)).mean()
             for y in outputs(network.model, tensors, others)]
    changes = (("shift", "shifted down (pixels)", np.arange(-10, 11)),
               ("scale", "scaled by", np.geomspace(0.5, 2, 21)),
               ("rotation", "rotated by (degrees)", np.arange(-180, 181, 10)))
    figure = plt.figure(figsize=(10, 9), layout="constrained")
    head, body = figure.subfigures(2, 1, height_ratios=[1.5, 8.5])
    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    for axis, image, label, colour in zip(head.subplots(1, len(images), squeeze=False)[0], images,
                                          labels, colours):
        show(axis, as_grey(image), classes[label])
        axis.title.set(color=colour, weight="bold")
    axes = body.subplots(3, 1 + len(names))
    numbers = {f"{name}/usual": own for name, own in zip(names, usual)}
    for row, (kind, label, amounts) in zip(axes, Progress(changes, "transformations")):
        distances, probability = invariance(network.model, tensors, images, labels, kind, amounts)
        numbers |= {f"{kind}/amounts": amounts, f"{kind}/distances": distances,
                    f"{kind}/probability": probability}
        for axis, values, reference in zip(row, (*distances, probability), (*usual, None)):
            is_distance = reference is not None
            values = values / (max(reference, 1e-9) if is_distance else 1)
            axis.plot(amounts, values)
            axis.set(xlabel=label, ylim=(0, 1.05 * max(values.max(), 1) if is_distance else 1.02),
                     ylabel="distance / that of\ntwo images" if is_distance else "probability")
            if is_distance:
                axis.axhline(1, color="black", ls="--", lw=1)
        if kind == "scale":
            for axis in row:
                axis.set_xscale("log", base=2)
    of = ["first layer", "last hidden layer"] if len(names) == 2 else ["hidden layer"]
    for axis, title in zip(axes[0], (*(f"features of the {layer} ({name})" for layer, name in zip(
            of, names)), "the true class")):
        axis.set_title(title, fontsize=10)
    figure.suptitle(f"{network.name}: features of {len(images)} test images, transformed, "
                    "against those of the images as they are\n(Euclidean distance; dashed: that of "
                    f"two test images, on average)\n{data.title}", fontsize=11)
    return figure, numbers


def table(numbers):
    """Yield distances of features, in units of that of two images; mean over images and directions.

    "kind/amounts" (amounts,), "kind/distances" (layers, amounts, images), "kind/probability"
    (amounts, images), "layer/usual".
    """
    names = layers_of(numbers, "usual")
    yield ("image", *(f"{name}: distance / that of two images" for name in names),
           "probability of the true class")
    for kind, amounts, words in (
            ("shift", (1, 2, 3, 4, 10), "shifted up and down, {} px"),
            ("scale", (2 ** 0.1, 2 ** 0.5, 2.0), "larger and smaller, {:.3g} times"),
            ("rotation", (10, 20, 90, 180), "rotated both ways, by {} degrees")):
        at = numbers[f"{kind}/amounts"]
        size = np.exp(np.abs(np.log(at))) if kind == "scale" else np.abs(at)
        for amount in amounts:
            here = np.flatnonzero(np.isclose(size, amount))
            if not len(here):
                raise LookupError(f"{kind} by {amount} is not there")
            yield (words.format(amount),
                   *(f"{d[here].mean() / numbers[f'{name}/usual']:.2f}"
                     for name, d in zip(names, numbers[f"{kind}/distances"], strict=True)),
                   f"{numbers[f'{kind}/probability'][here].mean():.2f}")
