"""Figures of what is inside a trained network, from a run's checkpoint and its data.

Each draw_... takes a Network and returns (figure, numbers): the numbers are what the figure shows.
"""
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from scipy.spatial.distance import pdist

import analyses
import graph
import runs
from drawing import as_grey, as_signed, largest, mosaic, show
from network import set_weights


def first_of_each_class(labels, count):
    """Indices of the first `count` images of each class, or of as many as every class has:
    (classes, count)."""
    count = min(count, np.unique(labels, return_counts=True)[1].min())
    return np.stack([np.flatnonzero(labels == c)[:count] for c in np.unique(labels)])


def recognised_of_each_class(network, count):
    """Index of the first test image of each class that the network recognises, or of the first
    where it recognises none; of at most `count` classes."""
    labels, images = network.data.test_labels, network.inputs(network.data.test_images)
    logits, = analyses.outputs(network.model, [network.model.output], images)
    right = logits.argmax(1) == labels
    return np.array([np.flatnonzero(labels == c)[right[labels == c].argmax()]
                     for c in np.unique(labels)[:count]])


def require(what, otherwise):
    """`what`, or NotDrawn if it is empty."""
    if not what:
        raise runs.NotDrawn(otherwise)
    return what


def maps_of(network):
    """The Keras tensors of a network's feature maps; NotDrawn if it has none."""
    return [network.stages[name] for name in require(
        network.layers, "the network has no feature maps, made by a convolution")]


# ------------------------------------------------------------------------------------ figures

def draw_activations(network):
    """Per class ten test images beside the mean maps of both layers over them (original report)."""
    chosen = first_of_each_class(network.data.test_labels, 10)
    images = network.inputs(network.data.test_images[chosen.ravel()])
    maps = [y.reshape(*chosen.shape, *y.shape[1:]).mean(1)
            for y in analyses.outputs(network.model, maps_of(network), images)]
    limits = [max(np.percentile(mean, 99.5), 1e-12) for mean in maps]  # borders stand out
    figure, axes = plt.subplots(len(chosen), 1 + len(maps), figsize=(13, 1.7 * len(chosen)),
                                layout="constrained", squeeze=False,
                                width_ratios=[1.2] + [1] * (len(maps) - 1) + [1.8])
    for c, row in enumerate(axes):
        own = images.reshape(*chosen.shape, *images.shape[1:])[c]
        show(row[0], mosaic([as_grey(image) for image in own], 5), network.data.classes[c])
        for axis, mean, limit in zip(row[1:], maps, limits):
            tiles = [plt.cm.viridis(m / limit)[..., :3]
                     for m in np.moveaxis(mean[c].clip(0, limit), -1, 0)]
            show(axis, mosaic(tiles, max(1, len(tiles) // 4)))
    for axis, layer, limit in zip(axes[0, 1:], network.layers, limits):
        axis.set_title(f"{layer}: 0 (dark) to {limit:.2f} and more (yellow), all classes alike",
                       fontsize=9)
    figure.suptitle(f"{network.name}: {chosen.shape[1]} test images a class, and the mean of each "
                    f"feature map over them\n{network.data.title}")
    return figure, {layer: mean for layer, mean in zip(network.layers, maps)}


def draw_statistics(network):
    """Statistics of the convolutional layers' activations on all test images, by class and map."""
    labels, classes = network.data.test_labels, network.data.classes
    maps_of(network)
    images = network.inputs(network.data.test_images)
    figure, axes = plt.subplots(2, len(network.layers), figsize=(13, 7), layout="constrained",
                                squeeze=False)
    numbers = {"classes": np.array(classes)}
    for k, layer in enumerate(network.layers):
        activations = analyses.output(network.model, layer, images)
        statistics = analyses.activation_statistics(activations, labels, len(classes))
        pairs = analyses.near_duplicates(activations)
        dead = np.flatnonzero(statistics["max"][-1] <= 0)
        numbers |= {f"{layer}/{name}": values for name, values in statistics.items()}
        numbers |= {f"{layer}/dead": dead, f"{layer}/near_duplicates": np.array(pairs)}
        order = np.argsort(statistics["mean"][-1])
        heat = show(axes[0, k], 100 * statistics["active"], aspect="auto", vmin=0, vmax=100,
                    title=f"{layer}: {activations.shape[-1]} maps, {len(dead)} dead, {len(pairs)} "
                    "pairs of near-duplicates (r > 0.95)")
        axes[0, k].set(yticks=range(len(classes) + 1), yticklabels=[*classes, "all"],
                       xticks=range(0, len(order), 8), xlabel="feature map")
        figure.colorbar(heat, ax=axes[0, k], label="places active (%)")
        x = np.arange(len(order))
        axes[1, k].errorbar(x, statistics["mean"][-1][order], statistics["std"][-1][order], fmt="o",
                            ms=3, lw=0.7, label="mean and standard deviation")
        axes[1, k].plot(x, statistics["max"][-1][order], ".", label="maximum")
        axes[1, k].set(xlabel="feature map, by mean", yscale="symlog",
                       ylabel="activation (logarithmic above 1, linear below)",
                       title=f"{layer}: distributions on {len(images):,} test images")
        axes[1, k].set_ylim(top=4 * axes[1, k].get_ylim()[1])
        axes[1, k].legend(loc="upper center", ncols=2)
    figure.suptitle(f"{network.name}: activations on all test images, {network.data.title}")
    return figure, numbers


def draw_deconv(network, layer):
    """Each feature map's nine strongest test images: what excited it and the part it answers to."""
    images = network.inputs(network.data.test_images)
    (image, row, column, value), patches, projections = analyses.project_strongest(
        network.model, layer, images)
    size = largest([p for own in patches for p in own])
    tiles = []
    for own, seen in zip(patches, projections):
        tiles.append(mosaic([as_signed(p) for p in seen], 3, size=size))
        tiles.append(mosaic([as_grey(p) for p in own], 3, size=size))
    columns, gap, (height, width) = 12 if max(size) < 10 else 8, 8, largest(tiles)
    picture = mosaic(tiles, columns, gap)
    figure, axis = plt.subplots(figsize=(14, 14 * picture.shape[0] / picture.shape[1] + 0.6),
                                layout="constrained")
    show(axis, picture, f"{network.name}, {layer}: of each feature map the nine strongest units on "
         f"{len(images):,} test images: projections (blue - 0 + red, each on its own scale) and, "
         f"to their right, the image patches\n{network.data.title}", pad=16)
    for m in range(len(patches)):
        axis.text(2 * m % columns * (width + gap), 2 * m // columns * (height + gap) - 1.5,
                  f"map {m}", fontsize=7, va="bottom")
    return figure, dict(image=image, row=row, column=column, activation=value)


def draw_occlusion(network, side=8, count=10):
    """One recognised test image a class: what happens as a grey square hides each part of it
    [fig. 7]."""
    maps_of(network)
    layer, classes = network.layers[-1], network.data.classes
    chosen = recognised_of_each_class(network, count)
    labels, images = (network.data.test_labels[chosen],
                      network.inputs(network.data.test_images[chosen]))
    grey = float(network.inputs(
        np.full((1, 1, 1, 1), network.data.train_images.mean()))[0, 0, 0, 0])
    result = analyses.occlusion(network.model, layer, images, labels, side, grey=grey)
    activations, logits = analyses.outputs(network.model, [network.stages[layer],
                                                           network.model.output], images)
    whole = tf.nn.softmax(logits).numpy()[np.arange(len(chosen)), labels]
    place = [np.unravel_index(a[..., m].argmax(), a.shape[:2])
             for a, m in zip(activations, result["map"])]
    rows, columns = np.transpose(place)
    pixels = analyses.project(network.model, layer, images, analyses.one_unit(
        activations, rows, columns, result["map"]))
    figure, axes = plt.subplots(len(chosen), 5, figsize=(12, 2.1 * len(chosen)),
                                layout="constrained", squeeze=False)
    for i, row in enumerate(axes):
        show(row[0], as_grey(images[i]), f"{classes[labels[i]]}")
        show(row[1], as_signed(pixels[i]), f"projection of map {result['map'][i]}")
        for axis, key, title in ((row[2], "activation", "total activation of that map"),
                                 (row[3], "probability", f"probability of {classes[labels[i]]}, "
                                  f"unhidden {whole[i]:.2f}")):
            limits = dict(vmin=0, vmax=1) if key == "probability" else {}
            figure.colorbar(show(axis, result[key][i], title, **limits), ax=axis, shrink=0.8)
        seen = np.unique(result["predicted"][i])
        heat = show(row[4], result["predicted"][i], "most probable class", cmap="tab10", vmin=-0.5,
                    vmax=9.5)
        bar = figure.colorbar(heat, ax=row[4], shrink=0.8, ticks=seen)
        bar.ax.set_yticklabels([classes[c] for c in seen], fontsize=7)
    figure.suptitle(f"{network.name}: a {side}x{side} grey square centred at each pixel, layer "
                    f"{layer}\n{network.data.title}")
    return figure, result | {"labels": labels, "untouched": whole, "classes": np.array(classes)}


def draw_evolution(network, count=6):
    """The strongest unit of chosen feature maps through training, as snapshots saw it [fig. 4]."""
    maps_of(network)
    layer = network.layers[-1]
    files = sorted((network.folder / "snapshots").glob("step-*.npz"))
    if not files:
        raise runs.InputError(f"{network.folder} has no snapshots; train with --snapshots 8")
    sample = network.data.train_images[::max(1, len(network.data.train_images) // 10_000)]
    images, steps = network.inputs(sample), [int(file.stem[5:]) for file in files]
    final = runs.load_arrays(runs.checkpoints(network.folder)[-1])
    activations = analyses.output(network.model, layer, images)
    maps = np.argsort(-activations.max((0, 1, 2)))[:count]
    figure, axes = plt.subplots(count, len(files), figsize=(1.5 * len(files), 1.75 * count),
                                layout="constrained", squeeze=False)
    numbers = {"maps": maps, "steps": np.array(steps), "image": np.empty((count, len(files)), int)}
    centre = [int(n) // 2 for n in activations.shape[1:3]]
    top, bottom, left, right = analyses.receptive_field(network.model, layer, *centre)
    size = bottom - top, right - left
    for k, file in enumerate(files):
        set_weights(network.model, runs.load_arrays(file))
        activations = analyses.output(network.model, layer, images)
        image, row, column, value = (a[maps, 0] for a in analyses.strongest(activations, 1))
        numbers["image"][:, k] = image
        seed = analyses.one_unit(activations[image], row, column, maps)
        pixels = analyses.project(network.model, layer, images[image], seed)
        for i, axis in enumerate(axes[:, k]):
            top, bottom, left, right = analyses.receptive_field(
                network.model, layer, int(row[i]), int(column[i]))
            jump = k and image[i] != numbers["image"][i, k - 1]
            show(axis, mosaic([as_signed(pixels[i, top:bottom, left:right])], 1, size=size),
                 (f"step {steps[k]:,}\n" if i == 0 else "") + f"{value[i]:.1f}{' *' * bool(jump)}")
            if k == 0:
                axis.set_ylabel(f"map {maps[i]}", fontsize=9)
    set_weights(network.model, final)
    figure.suptitle(f"{network.name}, {layer}: projection of each map's strongest activation "
                    f"(number) on {len(images):,} training images; * where another image takes over"
                    f"\n{network.data.title}", fontsize=10)
    return figure, numbers


def draw_invariance(network):
    """Five recognised images of five classes shifted, scaled and rotated: distance of features, and
    the probability of the true class [fig. 5]."""
    classes, data = network.data.classes, network.data
    chosen = recognised_of_each_class(network, 5)
    images, labels = network.inputs(data.test_images[chosen]), data.test_labels[chosen]
    stages = require(network.stages, "the network has no activations")
    names = [list(stages)[0], list(stages)[-1]]
    tensors = [stages[name] for name in names]
    others = network.inputs(data.test_images[first_of_each_class(data.test_labels, 10).ravel()])
    usual = [pdist(y.reshape(len(y), -1)).mean()
             for y in analyses.outputs(network.model, tensors, others)]
    changes = (("shift", "shifted down (pixels)", np.arange(-10, 11)),
               ("scale", "scaled by", np.geomspace(0.5, 2, 21)),
               ("rotation", "rotated by (degrees)", np.arange(-180, 181, 10)))
    figure = plt.figure(figsize=(12, 10), layout="constrained")
    head, body = figure.subfigures(2, 1, height_ratios=[1.5, 8.5])
    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    for axis, image, label, colour in zip(head.subplots(1, len(images), squeeze=False)[0], images,
                                          labels, colours):
        show(axis, as_grey(image), classes[label])
        axis.title.set(color=colour, weight="bold")
    axes, numbers = body.subplots(3, 3), {f"{names[k]}/usual": usual[k] for k in range(2)}
    for row, (kind, label, amounts) in zip(axes, changes):
        distances, probability = analyses.invariance(network.model, tensors, images, labels,
                                                     kind, amounts)
        numbers |= {f"{kind}/amounts": amounts, f"{kind}/distances": distances,
                    f"{kind}/probability": probability}
        for axis, values, reference in zip(row, (*distances, probability), (*usual, None)):
            axis.plot(amounts, values)
            top = 1.05 * max(values.max(), reference) if reference else 1.02
            axis.set(xlabel=label, ylim=(0, top),
                     ylabel="Euclidean distance" if reference else "probability")
            if reference:
                axis.axhline(reference, color="black", ls="--", lw=1)
        if kind == "scale":
            for axis in row:
                axis.set_xscale("log", base=2)
    for axis, title in zip(axes[0], (f"features of the first layer ({names[0]})",
                                     f"features of the last hidden layer ({names[1]})",
                                     "the true class")):
        axis.set_title(title)
    figure.suptitle(f"{network.name}: features of five test images, transformed, against those of "
                    "the images as they are\n(dashed: of two test images, on average); "
                    f"{data.title}")
    return figure, numbers


def unused_over_time(network, tensors, images):
    """Steps of the snapshots and of the end, and how many units of each of a network's dense
    activations are positive on none of the images then: (steps, layers)."""
    files = [*sorted((network.folder / "snapshots").glob("step-*.npz")),
             runs.checkpoints(network.folder)[-1]]
    unused = np.zeros((len(files), len(tensors)), int)
    for i, file in enumerate(files):
        set_weights(network.model, runs.load_arrays(file))
        for k, tensor in enumerate(tensors):
            values, = analyses.outputs(network.model, [tensor], images)
            unused[i, k] = (values.max(0) <= 0).sum()
    return [int(file.stem[5:]) for file in files], unused


def draw_diagnosis(network):
    """First-layer filters, each on its own and on one scale, with norms, dead ones and twins
    [fig. 6]."""
    first = require(graph.first_convolution(network.model), "the network has no convolution")
    layer = require([name for name in network.layers if network.stages[name].shape[-1]
                     == first.filters], "no activation follows the first convolution")[0]
    kernel = first.kernel.numpy()
    images = network.inputs(network.data.test_images)
    activations = analyses.output(network.model, layer, images)
    norms = np.sqrt((kernel ** 2).sum((0, 1, 2)))
    dead = np.flatnonzero(activations.max((0, 1, 2)) <= 0)
    pairs = analyses.near_duplicates(activations)
    order, limit = np.argsort(-norms), np.abs(kernel).max()
    dense = [x for x in network.stages.values() if len(x.shape) == 2]
    steps, unused = unused_over_time(network, dense, images)
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    own = [as_signed(kernel[..., i]) for i in order]
    common = [plt.cm.RdBu_r(kernel[..., i].mean(2) / (2 * limit) + 0.5)[..., :3] for i in order]
    show(axes[0], mosaic(own, 8), "each on its own scale, by norm")
    show(axes[1], mosaic(common, 8), f"all on one scale: -{limit:.2f} (blue) to {limit:.2f} (red)")
    axes[2].bar(range(len(order)), norms[order])
    axes[2].set(xlabel="filter, by norm", ylabel="Euclidean norm of the kernel",
                title=f"{len(dead)} dead, {len(pairs)} near-duplicate pairs; the largest norm is "
                f"{norms.max() / np.median(norms):.1f} medians" + "".join(
                    f"\ndense layer: of {x.shape[1]:,} units {now[-1]:,} are positive on "
                    f"no test\nimage, at most {now.max():,}, at step {steps[now.argmax()]:,}"
                    for x, now in zip(dense, unused.T)))
    axes[2].title.set_fontsize(9)
    figure.suptitle(f"{network.name}: first-layer filters, {network.data.title}")
    return figure, dict(kernel=kernel, norms=norms, dead=dead, near_duplicates=np.array(pairs),
                        steps=np.array(steps), dense_unused=unused,
                        dense_units=np.array([x.shape[1] for x in dense], int))


def draw_correspondence(network, count=20, trials=5):
    """Does hiding the same part change the features of all images of a class alike? [table 1]

    Delta of fixed parts against that of as large parts at random places (mean of `trials`), by
    layer; mean and standard deviation over groups of images, one a class. A fixed part also
    hides the same weights of the network from every image, whatever it shows; so all of it again
    with groups of images drawn from all classes.
    """
    height, width = network.data.test_images.shape[1:3]
    h, w = height // 2, width // 2
    fixed = {"top left": (0, 0), "top right": (0, width - w), "bottom left": (height - h, 0),
             "bottom right": (height - h, width - w), "centre": (h // 2, w // 2)}
    grey = float(network.inputs(
        np.full((1, 1, 1, 1), network.data.train_images.mean()))[0, 0, 0, 0])
    stages = require(network.stages, "the network has no activations")
    names, rng = list(stages), np.random.default_rng(0)
    classes = first_of_each_class(network.data.test_labels, count)
    if classes.shape[1] < 2:
        raise runs.InputError("correspondence compares images of a class: at least two test images "
                              "of each are needed")
    deltas = {}  # {part: Delta of each group and layer}
    for kind, groups in (("", classes),
                         (", mixed", rng.permutation(classes.ravel()).reshape(classes.shape))):
        for chosen in groups:
            images = network.inputs(network.data.test_images[chosen])
            places = [[place] * len(images) for place in fixed.values()] + [
                list(zip(rng.integers(0, height - h + 1, len(images)),
                         rng.integers(0, width - w + 1, len(images)))) for _ in range(trials)]
            parts = [[(slice(r, r + h), slice(c, c + w)) for r, c in place] for place in places]
            table = analyses.correspondence(network.model, stages.values(), images, parts,
                                            grey)
            rows = [*table[:len(fixed)], table[len(fixed):].mean(0)]
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
    axis.set(xticks=x, xticklabels=names, ylabel="Delta (lower: more alike)",
             title=f"{network.name}: sign distance of feature changes when a {h}x{w} part is "
             f"hidden in {classes.shape[1]} test images\nof one class (filled) or of all classes "
             f"(open), mean and std over {len(classes)} groups; {network.data.title}")
    axis.title.set_fontsize(9)
    axis.legend(fontsize=8, ncols=2)
    return figure, {"layers": names} | {part: np.array(rows) for part, rows in deltas.items()}
