"""Hide the same part of images: do their features change alike (table 1)?

Table 1 of Zeiler & Fergus, Visualizing and understanding convolutional networks (arXiv
1311.2901).
"""
import matplotlib.pyplot as plt
import numpy as np

from inside.trained import first_of_each_class, outputs, require, two_at_once
from system.command_line import NotDrawn
from system.markdown import mean_and_deviation
from system.progress import Progress


def sign_distance(differences):
    """Compute Delta (section 4.3): how differently images react to the loss of the same part.

    differences (n, features): features of the image minus those of the image with the part hidden.
    The Hamming distance of their signs, mean over pairs of images and features, 0 .. 1; lower means
    that the part means the same to the network in every image.
    """
    n = len(differences)
    positive, negative = (differences > 0).sum(0), (differences < 0).sum(0)
    alike = positive ** 2 + negative ** 2 + (n - positive - negative) ** 2  # of n * n pairs
    return float((n * n - alike).mean() / (n * (n - 1)))


def correspondence(model, tensors, images, parts, grey=0.0):
    """Return the sign_distance of each layer for each part: (parts, layers).

    parts: list over parts of a list over images of (row slice, column slice), what is hidden.
    """
    original = outputs(model, tensors, images)

    def distances(part):
        hidden = images.copy()
        for image, (rows, columns) in zip(hidden, part):
            image[rows, columns] = grey
        changed = outputs(model, tensors, hidden)
        return [sign_distance((a - b).reshape(len(images), -1)) for a, b in zip(original, changed)]
    return np.array(list(two_at_once(distances, parts)))


OPTIONS = {"count": "test images of each class", "trials": "random positions to compare with"}


def draw(record, count=20, trials=5):
    """Draw how alike the features of a class's images change as the same part is hidden.

    Delta of fixed parts against that of as large parts at random positions (mean of `trials`), by
    layer; mean and standard deviation over groups of images, one per class. A fixed part also
    hides the same weights of the network from every image, whatever it shows; so all of it again
    with groups of images drawn from all classes.
    """
    network = record.network
    height, width = network.data.test_images.shape[1:3]
    h, w = max(1, height // 2), max(1, width // 2)
    fixed = {"top left": (0, 0), "top right": (0, width - w), "bottom left": (height - h, 0),
             "bottom right": (height - h, width - w), "centre": (h // 2, w // 2)}
    stages = require(network.stages, "the network has no activations")
    names, rng = list(stages), np.random.default_rng(0)
    _, classes = first_of_each_class(network.data.test_labels, count)
    if classes.shape[1] < 2:
        raise NotDrawn("correspondence compares images of a class: at least two test images of "
                       "each are needed")
    deltas = {}  # {part: Delta of each group and layer}
    for kind, groups in (("", classes),
                         (", mixed", rng.permutation(classes.ravel()).reshape(classes.shape))):
        for chosen in Progress(groups, "groups of images"):
            images = network.inputs(network.data.test_images[chosen])
            places = [[place] * len(images) for place in fixed.values()] + [
                list(zip(rng.integers(0, height - h + 1, len(images)),
                         rng.integers(0, width - w + 1, len(images)))) for _ in range(trials)]
            parts = [[(slice(r, r + h), slice(c, c + w)) for r, c in place] for place in places]
            found = correspondence(network.model, stages.values(), images, parts, network.grey)
            rows = [*found[:len(fixed)], found[len(fixed):].mean(0)]
            for part, row in zip([*fixed, "random"], rows):
                deltas.setdefault(part + kind, []).append(row)
    figure, axis = plt.subplots(figsize=(9, 4.5), layout="constrained")
    x = np.arange(len(names))
    for i, (part, rows) in enumerate(deltas.items()):
        k, mixed = i % (len(fixed) + 1), i > len(fixed)
        axis.errorbar(x + 0.12 * (k - 2.5) + 0.05 * mixed, np.mean(rows, 0), np.std(rows, 0, ddof=1)
                      if len(rows) > 1 else None, fmt="o", capsize=2, ms=5,
                      color="black" if k == len(fixed) else f"C{k}",
                      mfc="white" if mixed else None, label=None if mixed else part)
    axis.set(xticks=x, xticklabels=names, ylabel="Delta (0: all change alike)",
             title=f"{network.name}: sign distance of feature changes when a {h}x{w} part is "
             f"hidden\nin {classes.shape[1]} test images of one class (filled) or of "
             f"{len(classes)} classes mixed (open);\nmean and standard deviation over "
             f"{len(classes)} groups\n{network.data.title}")
    axis.title.set_fontsize(9)
    axis.legend(fontsize=8, ncols=2)
    return figure, {"layers": names} | {part: np.array(rows) for part, rows in deltas.items()}


def table(numbers):
    """Yield Delta of fixed and of random parts, mean and standard deviation over groups of images:
    "part" and "part, mixed" (groups, layers)."""
    yield "layer", *(f"{parts} parts, images of {whose}" for whose in ("one class", "classes mixed")
                     for parts in ("fixed", "random"))
    cells = []  # (groups, layers) each
    for mixed in (False, True):
        own = {part: deltas for part, deltas in numbers.items() if part != "layers"
               and part.endswith(", mixed") == mixed}
        random = own.pop("random, mixed" if mixed else "random")
        cells += [np.stack([*own.values()]).mean(0), random]
    for i, layer in enumerate(numbers["layers"]):
        yield layer, *(mean_and_deviation(deltas[:, i], 3) for deltas in cells)
