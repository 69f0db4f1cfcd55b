"""Project the nine strongest units of every feature map through the deconvnet (fig. 2).

Figure 2 of Zeiler & Fergus, Visualizing and understanding convolutional networks (arXiv
1311.2901).
"""
import matplotlib.pyplot as plt
import numpy as np

import utils
from inside.deconvnet import one_unit, project, receptive_field
from inside.pictures import as_grey, as_signed, largest, meaning_of_colours, mosaic, show
from inside.trained import in_parts, maps_of, read_pictures, tensor_of
from system.command_line import NotDrawn
from system.progress import Progress
from training.needs import CHUNK_BYTES, images_at_a_time


def peaks(activations):
    """Return each image's and map's largest activation and its flat position: (images, maps)."""
    flat = activations.reshape(len(activations), -1, activations.shape[-1])
    return flat.max(1), flat.argmax(1)


def strongest(best, place, width, count=9):
    """Return for every feature map the `count` images that excite it most: (maps, count) of (image,
    row, column, activation), strongest first; an image counts once, at its strongest position.

    best, place: peaks(...) of activations that are `width` wide.
    """
    image = np.argsort(-best, axis=0, kind="stable")[:count].T  # (maps, count)
    place = np.take_along_axis(place.T, image, 1)
    return image, place // width, place % width, np.take_along_axis(best.T, image, 1)


def strongest_of_layer(model, name, images, count=9, inputs=None):
    """Return strongest(...) of a layer's activations for many images, as trained.in_parts."""
    tensor = tensor_of(model, name)
    found = [peaks(x) for x, in in_parts(model, [tensor], images, inputs)]
    return strongest(*map(np.concatenate, zip(*found)), tensor.shape[2], count)


def project_strongest(model, name, images, count=9, inputs=None, maps=slice(None)):
    """Project the strongest units of a layer's feature maps, all or those of an array of numbers,
    through the deconvnet.

    images, inputs: as for trained.in_parts. Returns strongest(...) of all and, each a list over
    chosen maps of lists over units, the image patches under the units' receptive fields and the
    projections there (height, width, channels).
    """
    found = strongest_of_layer(model, name, images, count, inputs)
    image, row, column = (x[maps] for x in found[:3])
    chosen = image.ravel()
    unit = row.ravel(), column.ravel(), np.repeat(np.arange(len(found[0]))[maps], image.shape[1])
    patches, projections = [], []
    size = images_at_a_time(model, 256, CHUNK_BYTES // 4)
    for i in Progress(range(0, len(chosen), size), desc=f"{name}, projections", unit="part"):
        part = slice(i, i + size)
        own = images[chosen[part]] if inputs is None else inputs(images[chosen[part]])
        pixels = project(model, name, own, lambda activations, part=part: one_unit(
            activations, *(u[part] for u in unit)))
        for k, (top, bottom, left, right) in enumerate(zip(
                *receptive_field(model, name, *(u[part] for u in unit[:2])))):
            patches.append(own[k, top:bottom, left:right].copy())  # not a view of all
            projections.append(pixels[k, top:bottom, left:right].copy())
    shape = image.shape[1]
    nested = [[x[k:k + shape] for k in range(0, len(x), shape)] for x in (patches, projections)]
    return found, *nested


OPTIONS = {"maps": "feature maps of each layer at most, evenly chosen; 0: all",
           "pictures": "your own picture files, to show in place of test images"}


def draw(record, maps=64, pictures=()):
    """Draw each layer's feature maps: the nine strongest test images and what in them excites it;
    eight maps large, and all, or many of them."""
    maps_of(record.network)
    own = read_pictures(record.network, pictures) if pictures else None
    drawn, failed = [], []
    for layer in record.network.layers:
        try:
            drawn += draw_layer(record.network, layer, maps, own)
        except NotDrawn as error:
            failed.append(f"strongest_{layer}: {error}")
    if not drawn:
        raise NotDrawn("; ".join(failed))
    for reason in failed:
        print(f"not drawn: {reason}")
    return drawn


def draw_layer(network, layer, most, own=None):
    """Return the two figures of one layer: eight maps, and at most `most` (0: all), evenly chosen;
    of one's `own` pictures, in place of test images, the most excited maps first."""
    count = network.stages[layer].shape[3]
    maps = utils.evenly(count, most or count)
    images = network.data.test_images if own is None else own
    found, patches, projections = project_strongest(
        network.model, layer, images, inputs=network.inputs, maps=maps)
    few, every = utils.evenly(len(maps), 8), np.arange(len(maps))
    on = f"{len(images):,} test images"
    if own is not None:
        every = np.argsort(-found[3][maps, 0], kind="stable")
        few, on = every[:8], f"{len(own)} picture{'s' * (len(own) > 1)}, the most excited map first"
    size = largest(sum(patches, []))
    columns, drawn = (4, 6) if max(size) < 10 else (2, 4), []
    for name, chosen, across in zip(("", "_all"), (few, every), columns):
        figure = draw_maps(network, layer, {maps[i]: (patches[i], projections[i]) for i in chosen},
                           across, on)
        numbers = dict(zip(("image", "row", "column", "activation"),
                           (x[maps[chosen]] for x in found)))
        drawn.append((f"strongest_{layer}{name}", figure, numbers | {
            "maps": maps[chosen],
            "projection": np.stack([filled(projections[i], size) for i in chosen])}))
    return drawn


def filled(pictures, size):
    """Return pictures (height, width, channels) as one array, zeros below and to the right of those
    that the image's border cut to less than `size`."""
    return np.stack([np.pad(p, [(0, most - n) for most, n in zip((*size, p.shape[2]), p.shape)])
                     for p in pictures])


def draw_maps(network, layer, maps, columns, on):
    """Draw maps {number: (patches, projections)}, projections beside patches, `columns` maps in a
    row, or more of them if they have few patches; on: what images, in words."""
    patches = [p for own, _ in maps.values() for p in own]
    size, units = largest(patches), len(patches) // len(maps)
    across = min(3, units)
    columns = min(3 * columns // across, len(maps))
    pairs = [mosaic([mosaic([as_signed(p) for p in projections], across, size=size),
                     mosaic([as_grey(p) for p in patches], across, size=size)], 2, 2)
             for patches, projections in maps.values()]
    gap, (height, width) = max(4, size[0] // 3), pairs[0].shape[:2]
    picture = mosaic(pairs, columns, gap)
    figure, axis = plt.subplots(figsize=(10, 10 * picture.shape[0] / picture.shape[1] + 0.8),
                                layout="constrained")
    count = network.stages[layer].shape[3]
    of = f"{len(maps)} of {count} feature maps" if len(maps) < count else "each feature map"
    what = {1: "strongest unit", 9: "nine strongest units"}.get(units, f"{units} strongest units")
    zero = meaning_of_colours(network.model.input.shape[3])
    show(axis, picture, f"{network.name}, {layer}: the {what} of {of}, on {on}:\n"
         f"projections ({zero}, each on its own scale) and, to their right, the image patches\n"
         f"{network.data.title}", pad=20)
    for k, m in enumerate(maps):
        axis.annotate(f"map {m}", (k % columns * (width + gap) - 0.5,
                                   k // columns * (height + gap) - 0.5), (0, 2),
                      textcoords="offset points", fontsize=9)
    return figure
