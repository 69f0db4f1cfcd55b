"""Project the nine strongest units of every feature map through the deconvnet (fig. 2).

Figure 2 of Zeiler & Fergus, Visualizing and understanding convolutional networks (arXiv
1311.2901).
"""
import matplotlib.pyplot as plt
import numpy as np

from inside.deconvnet import one_unit, project, receptive_field
from inside.pictures import as_grey, as_signed, largest, mosaic, show
from inside.trained import maps_of, output
from system.command_line import NotDrawn


def strongest(activations, count=9):
    """Return for every feature map the `count` images that excite it most: (maps, count) of (image,
    row, column, activation), strongest first; an image counts once, at its strongest position."""
    n, _, width, maps = activations.shape
    flat = activations.reshape(n, -1, maps)
    best = flat.max(1)  # (images, maps)
    image = np.argsort(-best, axis=0, kind="stable")[:count].T  # (maps, count)
    place = np.take_along_axis(flat.argmax(1).T, image, 1)
    return image, place // width, place % width, np.take_along_axis(best.T, image, 1)


def project_strongest(model, name, images, count=9):
    """Project the strongest units of every feature map of a layer through the deconvnet.

    Returns strongest(...) and, each a list over maps of lists over units, the image patches under
    the units' receptive fields and the projections there (height, width, channels).
    """
    activations = output(model, name, images)
    image, row, column, value = strongest(activations, count)
    chosen = image.ravel()
    unit = row.ravel(), column.ravel(), np.repeat(np.arange(len(image)), image.shape[1])
    pixels = np.concatenate([  # in parts, to bound memory
        project(model, name, images[chosen[i:i + 256]],
                lambda activations, i=i: one_unit(activations, *(u[i:i + 256] for u in unit)))
        for i in range(0, len(chosen), 256)])
    patches, projections = [], []
    for i, (r, c) in enumerate(zip(*unit[:2])):
        top, bottom, left, right = receptive_field(model, name, int(r), int(c))
        patches.append(images[chosen[i], top:bottom, left:right])
        projections.append(pixels[i, top:bottom, left:right])
    shape = image.shape[1]
    nested = [[x[k:k + shape] for k in range(0, len(x), shape)] for x in (patches, projections)]
    return (image, row, column, value), *nested


def draw(record):
    """Draw each layer's feature maps: the nine strongest test images and what in them excites it.
    """
    maps_of(record.network)
    drawn, failed = [], []
    for layer in record.network.layers:
        try:
            drawn.append((f"strongest_{layer}", *draw_layer(record.network, layer)))
        except NotDrawn as error:
            failed.append(f"strongest_{layer}: {error}")
    if not drawn:
        raise NotDrawn("; ".join(failed))
    for reason in failed:
        print(f"not drawn: {reason}")
    return drawn


def draw_layer(network, layer):
    """Draw the feature maps of one layer."""
    images = network.inputs(network.data.test_images)
    (image, row, column, value), patches, projections = project_strongest(
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
