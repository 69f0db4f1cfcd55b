"""Compare eight ways to say which pixels speak for a class, and measure which are right.

Deletion and insertion as in Petsiuk et al., RISE (arXiv 1806.07421).
"""
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import utils
from inside.pictures import as_grey, as_signed, show_grid
from inside.saliency import METHODS, ranking
from inside.trained import maps_of, outputs, read_pictures, recognised_of_each_class
from system.markdown import mean_and_deviation
from system.progress import Progress

OPTIONS = {"count": "classes to show at most", "images": "test images to measure on",
           "pictures": "your own picture files, to show in place of test images"}
STEPS = 8  # of deletion and insertion


def curves(network, inputs, classes, orders):
    """Yield, of each order, the probability of the class as pixels are hidden in it, and as they
    are shown on a grey image: two arrays (images, STEPS + 1).

    orders: arrays (images, pixels) of flat indices of pixels, the most important first.
    """
    n, height, width, channels = inputs.shape
    flat, here = inputs.reshape(n, -1, channels), np.arange(n)
    steps = np.array([round(k * height * width / STEPS) for k in range(1, STEPS)])

    def probability(count, pictures):
        logits, = outputs(network.model, [network.model.output], np.arange(count), pictures)
        return tf.nn.softmax(logits).numpy().reshape(-1, n, logits.shape[1])[:, here, classes]
    whole = probability(n, lambda which: inputs[which])
    grey = probability(n, lambda which: np.full_like(inputs[which], network.grey))
    for order in orders:
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.arange(height * width)[None], 1)
        shape = 2, STEPS - 1, n  # hidden or shown, how many, of which image

        def partly(which, rank=rank, shape=shape):
            shown, step, image = np.unravel_index(which, shape)
            hidden = (rank[image] < steps[step][:, None]) ^ shown.astype(bool)[:, None]
            return np.where(hidden[..., None], np.float32(network.grey), flat[image]).reshape(
                -1, height, width, channels)
        hidden, shown = np.split(probability(np.prod(shape), partly), 2)
        yield np.concatenate([whole, hidden, grey]).T, np.concatenate([grey, shown, whole]).T


def area(curve):
    """Return the area below curves (images, STEPS + 1), by the trapezoidal rule: (images,)."""
    return (curve[:, 1:] + curve[:, :-1]).mean(1) / 2


def measure(network, count):
    """Return {"<method>/deletion" | "<method>/insertion": (images, STEPS + 1)} of every method, and
    of a random order, for the predicted class of `count` test images."""
    data = network.data
    chosen = utils.evenly(len(data.test_labels), count)
    inputs = network.inputs(data.test_images[chosen])
    logits, = outputs(network.model, [network.model.output], inputs)
    classes, numbers = logits.argmax(1), {}
    values = {name: ranking(name, METHODS[name](network, inputs, classes)) for name in Progress(
        METHODS, "methods")}
    values["random order"] = np.random.default_rng(0).random(inputs.shape[:3])
    ties = -values["random order"].reshape(len(inputs), -1)  # equal pixels come in random order
    orders = (np.lexsort((ties, -value.reshape(len(value), -1))) for value in values.values())
    for name, both in zip(values, curves(network, inputs, classes, orders)):
        numbers[f"{name}/deletion"], numbers[f"{name}/insertion"] = both
    return numbers


def draw(record, count=10, images=200, pictures=()):
    """Draw every method's map of some images, and what hiding or showing by it does to many."""
    network, data = record.network, record.network.data
    maps_of(network)
    if pictures:
        shown = read_pictures(network, pictures)
        inputs = network.inputs(shown)
        classes = outputs(network.model, [network.model.output], inputs)[0].argmax(1)
    else:
        chosen = recognised_of_each_class(network, count)
        inputs, classes = network.inputs(data.test_images[chosen]), data.test_labels[chosen]
    maps = {name: method(network, inputs, classes) for name, method in METHODS.items()}
    numbers = measure(network, images)
    rows = 1.35 * len(inputs) * inputs.shape[1] / inputs.shape[2] + 0.3
    figure = plt.figure(figsize=(13, rows + 4.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[rows, 4])
    tiles = []
    for i, image in enumerate(inputs):
        tiles += [as_grey(image), *(
            as_signed(x, np.percentile(np.abs(x), 99) or None)
            for x in (found[i].sum(-1, keepdims=True) for found in maps.values()))]
    show_grid(top.subplots(), tiles, 1 + len(maps), ["image", *maps],
              [data.classes[c] for c in classes], gap=1 + inputs.shape[1] // 12)
    draw_curves(bottom.subplots(1, 2), numbers)
    figure.suptitle(f"{record.name}: which pixels speak for the class (red) or against it (blue); "
                    "each map is full colour at the 99th percentile of its absolute values"
                    f"{network.of_all(classes) if not pictures else ''}\n{data.title}", fontsize=10)
    return figure, numbers | {f"{name}/map": found for name, found in maps.items()}


def draw_curves(axes, numbers):
    """Draw deletion and insertion, mean over images."""
    for axis, kind, title in zip(axes, ("deletion", "insertion"), (
            "most important pixels hidden: lower is better",
            "most important pixels shown on grey: higher is better")):
        for i, name in enumerate(methods_of(numbers)):
            curve = numbers[f"{name}/{kind}"]
            style = dict(color="black", ls="--") if name == "random order" else dict(
                color=plt.cm.tab10(i))
            axis.plot(np.linspace(0, 100, curve.shape[1]), curve.mean(0), **style, label=name)
        axis.set(xlabel=f"pixels {'hidden' if kind == 'deletion' else 'shown'} (%)", ylim=(0, 1.02),
                 ylabel="probability of the class", title=f"{title}, {len(curve):,} test images")
    axis.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))


def methods_of(numbers):
    """Return the names of the methods whose curves are there."""
    return [key.removesuffix("/deletion") for key in numbers if key.endswith("/deletion")]


def table(numbers):
    """Yield the areas below deletion and insertion curves, mean ± deviation over images, and what
    they differ by from random order in the same images, ± standard error of the mean:
    "method/deletion" (images, steps)."""
    yield ("method", "deletion (lower is better)", "less that of random order",
           "insertion (higher is better)", "less that of random order")
    for name in methods_of(numbers):
        row = [name]
        for kind in ("deletion", "insertion"):
            own, random = (area(numbers[f"{of}/{kind}"]) for of in (name, "random order"))
            error = f" ± {(own - random).std(ddof=1) / len(own) ** 0.5:.3f}" * (len(own) > 1)
            row += [mean_and_deviation(own, 3), f"{(own - random).mean():+.3f}{error}"
                    * (name != "random order")]
        yield row
