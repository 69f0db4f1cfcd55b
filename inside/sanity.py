"""Randomise a network layer after layer: do its attribution maps change?

The cascading randomization test of Adebayo et al., Sanity checks for saliency maps (arXiv
1810.03292), and their test with a network trained on permuted labels.
"""
import dataclasses

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import rankdata

import utils
from inside.pictures import as_signed, show
from inside.saliency import METHODS, importance
from inside.trained import maps_of, outputs
from system.command_line import InputError, NotDrawn
from system.progress import Progress
from training import graph
from training.parallel import measure_statistics

SLOW = True  # left out of `all`
OPTIONS = {"images": "test images to measure on",
           "permuted": "folder of a run like this one, but with --permute-labels"}


def rank_correlations(maps, others):
    """Return Spearman's rank correlation of each image's pixels in two sets of maps (n, height,
    width): (n,). A map that is the same everywhere correlates with nothing, 0."""
    a, b = (rankdata(x.reshape(len(x), -1), axis=1) for x in (maps, others))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    size = np.sqrt(np.square(a).sum(1) * np.square(b).sum(1))
    return np.divide((a * b).sum(1), size, out=np.zeros(len(a)), where=size > 0)


def weighted_layers(model):
    """Return the layers of a model that have weights, from the logits down."""
    return [layer for layer in graph.layers(model)[::-1] if layer.weights]


def forgetting(network):
    """Yield (name, Network): as it is, then with the weights of layer after layer new, from the
    logits down; batch norm measures its moments anew."""
    data = network.data
    fresh, model = network.made_anew(seed=network.config.seed + 1000), network.made_anew()
    model.set_weights(network.model.get_weights())
    sample = network.inputs(data.train_images[::max(1, len(data.train_images) // 500)])
    yield "trained", network
    for layer, new in zip(weighted_layers(model), weighted_layers(fresh), strict=True):
        layer.set_weights(new.get_weights())
        measure_statistics(model, sample)
        copy = network.made_anew()  # traced functions are kept for each model
        copy.set_weights(model.get_weights())
        yield layer.name, dataclasses.replace(network, model=copy)


def draw(record, images=200, permuted=""):
    """Draw how maps of a test image change as the network forgets, and how much the absolute values
    of all still correlate with the trained network's."""
    network = record.network
    maps_of(network)
    if network.build_model is None:
        raise NotDrawn("only of a run is it known how its weights began")
    data = network.data
    chosen = utils.evenly(len(data.test_labels), images)
    inputs = network.inputs(data.test_images[chosen])
    classes = outputs(network.model, [network.model.output], inputs)[0].argmax(1)
    others = []
    if permuted:
        other = type(record)(permuted, record.find_experiment, record.data_dir, record.data).network
        if not other.config.permute_labels:
            raise InputError(f"{permuted} was not trained with --permute-labels")
        if (other.data.checksum, other.mean, other.std) != (data.checksum, network.mean,
                                                            network.std):
            raise InputError(f"{permuted} was trained on other images than {record.folder}")
        if graph.describe(other.model) != graph.describe(network.model):
            raise InputError(f"{permuted} is of another network than {record.folder}")
        others.append(("labels permuted", other))
    stages = [*forgetting(network), *others]
    names, first, found, shown = [name for name, _ in stages], {}, {}, {}
    bar = Progress(total=len(stages) * len(METHODS), desc="sanity check", unit="map")
    for _, own in stages:
        for method, function in METHODS.items():
            maps = function(own, inputs, classes)
            shown.setdefault(method, []).append(as_signed(maps[0].sum(-1, keepdims=True)))
            counts = importance(maps)
            found.setdefault(method, []).append(rank_correlations(
                first.setdefault(method, counts), counts))
            bar.update()
    bar.close()
    numbers = {"stages": np.array(names)} | {
        f"{method}/correlation": np.stack(own) for method, own in found.items()}
    figure = plt.figure(figsize=(1.35 * len(stages), 1.35 * len(METHODS) + 5),
                        layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.35 * len(METHODS), 4.5])
    axes = top.subplots(len(METHODS), len(stages), squeeze=False)
    for i, (row, (method, pictures)) in enumerate(zip(axes, shown.items())):
        for axis, name, picture in zip(row, names, pictures):
            show(axis, picture, name if i == 0 else "")
        row[0].set_ylabel(method, fontsize=8)
    axis = bottom.subplots()
    for i, method in enumerate(METHODS):
        r = numbers[f"{method}/correlation"]
        axis.errorbar(np.arange(len(names)) + 0.04 * (i - 3.5), r.mean(1), r.std(1, ddof=1),
                      marker="os^vD<>P"[i], ms=5, capsize=2, lw=1, label=method,
                      color=plt.cm.tab10(i))
    axis.set(xticks=range(len(names)), ylim=(-0.4, 1.05), ylabel="rank correlation of absolute\n"
             "values with the trained network's",
             title=f"mean and standard deviation over {len(inputs)} test images")
    axis.set_xticklabels(names)
    axis.legend(fontsize=9, ncols=2)
    figure.suptitle(f"{record.name}: maps of one test image as layers forget what they learnt, one "
                    "more from left to right, from the logits down\n(red for the class, blue "
                    f"against it, each on its own scale); {data.title}", fontsize=10)
    return figure, numbers


def table(numbers):
    """Yield the mean rank correlations, "method/correlation" (stages, images), with the trained
    network's maps."""
    yield "method", *numbers["stages"][1:]
    for method in METHODS:
        yield method, *(f"{r.mean():.2f}" for r in numbers[f"{method}/correlation"][1:])
