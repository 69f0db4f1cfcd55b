"""Hide each part of an image behind a grey square: what does the network see (fig. 7)?

Figure 7 of Zeiler & Fergus, Visualizing and understanding convolutional networks (arXiv
1311.2901).
"""
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from matplotlib.colors import ListedColormap

from inside.deconvnet import one_unit, project
from inside.pictures import as_grey, as_signed, meaning_of_colours, show
from inside.trained import (
    in_parts,
    maps_of,
    outputs,
    read_pictures,
    recognised_of_each_class,
    tensor_of,
)
from system.command_line import NotDrawn


def occlude(images, side, stride, grey):
    """Hide every position of every image behind a grey square.

    The square's centre visits every `stride`-th pixel from the first to at least the last, so that
    every pixel is covered; clipped at the border. Returns (centres of rows, of columns, function of
    flat indices into (images, rows, columns) that makes those occluded images).
    """
    sizes = images.shape[1:3]
    rows, columns = (np.unique(np.r_[np.arange(0, n, stride), n - 1]) for n in sizes)

    def hide(which):
        n, i, j = np.unravel_index(which, (len(images), len(rows), len(columns)))
        far = [np.arange(size) - centre[:, None] + (side - 1) // 2
               for size, centre in zip(sizes, (rows[i], columns[j]))]
        down, across = ((0 <= x) & (x < side) for x in far)
        return np.where((down[:, :, None] & across[:, None])[..., None], np.float32(grey),
                        images[n])
    return rows, columns, hide


def probabilities_of_occluded(model, images, side, stride, grey):
    """Return (rows, columns, softmax (images, rows, columns, classes)) of images, network input,
    each behind a grey square centred there."""
    rows, columns, hide = occlude(images, side, stride, grey)
    shape = len(images), len(rows), len(columns)
    logits, = outputs(model, [model.output], np.arange(np.prod(shape)), hide)
    return rows, columns, tf.nn.softmax(logits).numpy().reshape(*shape, -1)


def occlusion(model, name, images, labels, side=8, stride=1, grey=0.0, chunk=250):
    """Compute how the network's view of images changes as a grey square hides each part of them.

    images: network input; labels (n,); grey in the model's input range. Of layer `name` the feature
    map that was strongest without occlusion is followed. From the same forward passes, each
    (images, rows, columns): "activation", that map's total; "probability" of the true class;
    "predicted", the most probable class. Also "map" (images,), and "rows", "columns", the centres.
    At most `chunk` images at a time: no influence on the result.
    """
    tensors, labels = [tensor_of(model, name), model.output], np.asarray(labels)
    followed = outputs(model, tensors[:1], images)[0].max((1, 2)).argmax(1)
    rows, columns, hide = occlude(images, side, stride, grey)
    shape, found, done = (len(images), len(rows), len(columns)), [], 0
    for activations, logits in in_parts(model, tensors, np.arange(np.prod(shape)), hide, chunk):
        here = np.arange(len(logits))
        n = np.unravel_index(done + here, shape)[0]
        p = tf.nn.softmax(logits).numpy()
        found.append((activations.sum((1, 2))[here, followed[n]], p[here, labels[n]], p.argmax(1)))
        done += len(logits)
    return {key: np.concatenate(x).reshape(shape) for key, x in zip(
        ("activation", "probability", "predicted"), zip(*found))} | {
        "map": followed, "rows": rows, "columns": columns}


OPTIONS = {"side": "side of the grey square, pixels; 0: 8, or a quarter of the image where it is "
                   "below 16 or above 32",
           "count": "classes to show at most",
           "pictures": "your own picture files, to show in place of test images"}


def draw(record, side=0, count=4, pictures=()):
    """Draw what happens to one recognised test image per class as a grey square hides each part."""
    network = record.network
    maps_of(network)
    layer, classes = network.layers[-1], network.data.classes
    if pictures:
        images = network.inputs(read_pictures(network, pictures))
        labels = outputs(network.model, [network.model.output], images)[0].argmax(1)
    else:
        chosen = recognised_of_each_class(network, count)
        labels, images = (network.data.test_labels[chosen],
                          network.inputs(network.data.test_images[chosen]))
    short = min(images.shape[1:3])
    side, stride = side or (8 if 16 <= short <= 32 else max(1, short // 4)), -(-short // 32)
    result = occlusion(network.model, layer, images, labels, side, stride, network.grey)
    activations, logits = outputs(
        network.model, [network.stages[layer], network.model.output], images)
    whole = tf.nn.softmax(logits).numpy()[np.arange(len(images)), labels]
    place = [np.unravel_index(a[..., m].argmax(), a.shape[:2])
             for a, m in zip(activations, result["map"])]
    rows, columns = np.transpose(place)
    try:
        pixels, why = project(network.model, layer, images, one_unit(
            activations, rows, columns, result["map"])), ""
    except NotDrawn as error:
        pixels, why = np.zeros_like(images), f"no projection: {error}"
    figure, axes = plt.subplots(len(images), 5, figsize=(11, 2.1 * len(images)),
                                layout="constrained", squeeze=False)
    named = np.unique(result["predicted"])  # one colour per class, the same in every row
    colour_of = dict(zip(named, plt.cm.tab20(np.arange(len(named))) if len(named) <= 20 else
                         plt.cm.turbo(np.linspace(0, 1, len(named)))))
    for i, row in enumerate(axes):
        show(row[0], as_grey(images[i]), f"{classes[labels[i]]}")
        show(row[1], as_signed(pixels[i]),
             textwrap.fill(why if i == 0 else why[:13], 30) or f"projection of map "
             f"{result['map'][i]}\n({meaning_of_colours(images.shape[3])})")
        for axis, key, title in ((row[2], "activation", "total activation\nof that map"),
                                 (row[3], "probability", f"probability of {classes[labels[i]]},\n"
                                  f"unhidden {whole[i]:.2f}")):
            limits = dict(vmin=0, vmax=1) if key == "probability" else {}
            figure.colorbar(show(axis, result[key][i], title, **limits), ax=axis, shrink=0.8)
        seen = np.unique(result["predicted"][i])
        colours = ListedColormap([colour_of[c] for c in seen])
        heat = show(row[4], np.searchsorted(seen, result["predicted"][i]), "most probable\nclass",
                    cmap=colours, vmin=-0.5, vmax=len(seen) - 0.5)
        bar = figure.colorbar(heat, ax=row[4], shrink=0.8, ticks=range(len(seen)))
        bar.ax.set_yticklabels([classes[c] for c in seen], fontsize=9)
    every = "each pixel" if stride == 1 else f"every {stride} pixels"
    of = "" if pictures else network.of_all(np.unique(labels))
    figure.suptitle(f"{network.name}: a {side}x{side} grey square centred at {every}, layer "
                    f"{layer}{of}\n{network.data.title}")
    return figure, result | {"labels": labels, "untouched": whole, "classes": np.array(classes)}


def table(numbers):
    """Yield at how many positions of the square another class is the most probable: "predicted"
    (images, rows, columns)."""
    places = numbers["predicted"][0].size
    yield ("class of the image", "its probability, nothing hidden",
           f"another class the most probable, of {places:,} positions of the square")
    for label, whole, predicted in zip(numbers["labels"], numbers["untouched"],
                                       numbers["predicted"]):
        yield numbers["classes"][label], f"{whole:.2f}", (predicted != label).sum()
