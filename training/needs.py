"""Say what memory and disk a training will need, before it begins."""
import pathlib
import shutil

import numpy as np

from system import machine
from system.command_line import InputError
from training import graph

REMEDY = "a smaller --image-size, or fewer --units or --filters, needs less"
CHUNK_BYTES = 1 << 28  # of activations that are computed at a time


def bytes_per_image(model):
    """Return how many bytes of float32 all that a model computes of one image takes."""
    return 4 * sum(int(np.prod([n for n in x.shape[1:] if n]))
                   for node in graph.nodes(model) for x in node.outputs)


def images_at_a_time(model, most, limit=CHUNK_BYTES):
    """Return how many images, at most `most`, a model computes within `limit` bytes, or a quarter
    of what its weights take, which are read once for all of them."""
    limit = max(limit, model.count_params())
    return max(1, min(most, limit // max(1, bytes_per_image(model))))


def needs(model, slots, images, config):
    """Return estimates (bytes of memory, bytes on disk) of a training.

    slots: {name: variables} of the optimizer; images: uint8, to train on. Memory: weights, slots,
    gradients and what an update makes on the way; activations of a batch, forwards and backwards;
    the images once more; TensorFlow itself. Disk: two checkpoints and a third being written,
    snapshots, histograms.
    """
    weights = 4 * model.count_params()
    state = weights * (1 + len(slots) + bool(config.early_stopping or config.weights == "best"))
    memory = (2 * state + 3 * weights + images.nbytes
              + 3 * bytes_per_image(model) * config.batch_size + 500_000_000)
    snapshots = 4 * sum(v.shape.num_elements() for v in graph.weights_of_figures(model).values())
    disk = 3 * state + (config.snapshots + 1) * snapshots + 5_000_000
    return memory, disk


LARGE = 20_000  # values of an image from which a network is looked at before it is built


def check_weights(build_model, input_shape, classes, config):
    """Raise InputError if the weights of a network for large images do not fit into memory.

    It is built once without their values.
    """
    if np.prod(input_shape) < LARGE or config.force:
        return
    with graph.without_values():
        count = build_model(input_shape, classes, config).count_params()
    machine.check_memory(9 * 4 * count, f"training a network of {count:,} weights", REMEDY,
                         config.force)


def check_needs(memory, disk, folder, force):
    """Raise InputError if memory or disk will not suffice, unless `force`d."""
    machine.check_memory(memory, "training this network", REMEDY, force)
    folder = pathlib.Path(folder).resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if disk > free and not force:
        raise InputError(f"training this network would take {disk / 1e9:,.1f} GB on the disk of "
                         f"{folder}, {free / 1e9:,.1f} GB are free; {REMEDY}, or --force tries it")
