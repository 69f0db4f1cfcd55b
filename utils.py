"""Load images, split them, order them in batches, and let the learning rate decay.

    data = load_images("auto", "data")      # uint8 images, integer labels, class names, a title
    train, validation = split_validation(data.train_labels, 0.1)
    rate = exponential(step, learning_rate=1e-4, decay_rate=0.97, decay_steps=250)
"""
import functools
import inspect
import math
import os
import pathlib
import sys

import numpy as np

from sources.download import Unavailable
from sources.images import (
    DATA_SETS,
    FORMS,
    Images,
    Reading,
    count_repeated,
    data_set_names,
    is_path,
    restrict,
)
from sources.tree import is_archive, open_tree
from system.command_line import InputError
from system.files import DATA_DIR


def load_images(data="auto", data_dir=DATA_DIR, auto="elec677", how=None):
    """Load an image data set by name or path.

    data: a name of DATA_SETS, read from data_dir (the environment's DATA_DIR, or data/) and
    downloaded there if need be; "auto", the data set named by `auto`, or its synthetic stand-in
    with a warning if it is unavailable; "synthetic", that stand-in, for which nothing is read or
    downloaded; or a path, whose content decides what it is (data/README.md). how: a Reading, what
    options make of the images. Returns Images. Raises InputError, in one line, for anything
    missing, damaged or malformed.
    """
    how = how or Reading()
    if not data:
        raise InputError(f"--data is empty; give a path or a name ({data_set_names()})")
    found = _find_images(data, pathlib.Path(data_dir), auto, how)
    if not isinstance(found, Images) or found.train_images.shape[3] not in (1, 3):
        raise InputError(f"data set {data}: its function must return Images of 1 or 3 channels, "
                         f"not {getattr(found, 'title', type(found).__name__)}")
    found = restrict(_with_test_set(found, data, how), how)
    here = os.path.abspath(data)
    if not is_path(data) and os.path.exists(here) and os.path.dirname(here) != os.path.abspath(
            data_dir):
        found = found.noting(f"{data} is the data set of that name, not the folder or file {data} "
                             f"here, which is --data ./{data}")
    if len(found.classes) < 2:
        raise InputError(f"--data {data}: only one class, {found.classes[0]!r}; a network learns "
                         "to tell two or more apart")
    if is_path(data) and (found.train_images == found.train_images[0]).all():
        raise InputError(f"--data {data}: all training images are one and the same picture; if "
                         "they are drawn on a transparent ground, try another --background")
    missing = np.setdiff1d(found.train_labels, found.test_labels)
    if len(missing):
        found = found.noting(f"no test image of class {found.classes[missing[0]]}"
                             + f" and {len(missing) - 1:,} others" * (len(missing) > 1))
    repeated = count_repeated(found)
    return found.noting(*[f"{repeated:,} of {len(found.test_labels):,} test images are training "
                          "images too"] * bool(repeated))


def _find_images(data, data_dir, auto, how):
    """Return the Images of a name or path."""
    own = DATA_SETS.get(data, DATA_SETS[auto])
    if not is_path(data):
        _check_coarse(data, own.coarse and data != "synthetic", how)
    if data in DATA_SETS:
        return own.load(data_dir, how)
    if data == "auto":
        try:
            return own.load(data_dir, how)
        except Unavailable as error:
            if own.stand_in is None:
                raise
            stand_in = own.stand_in()
            _warn_of_stand_in(error, auto, stand_in)
            return stand_in
    if data == "synthetic":
        if own.stand_in is None:
            raise InputError(f"--data synthetic: {auto} has no synthetic stand-in")
        return own.stand_in()
    path = pathlib.Path(os.path.abspath(os.path.expanduser(data)))
    if not os.path.exists(path):
        raise InputError(f"--data {data}: no such file or folder (names: {data_set_names()})")
    tree, own = _find_form(path)
    _check_coarse(data, own.coarse, how)
    return own.read(tree, how)


def _check_coarse(data, has_coarse, how):
    """Refuse --coarse for images that have no coarse labels."""
    if how.coarse and not has_coarse:
        raise InputError(f"--coarse: {data} has no coarse labels, as CIFAR-100 has; leave it out")


def _find_form(path):
    """Return (Tree, Form) of a folder, archive or file: the one form that its content has."""
    tree = open_tree(path)
    forms = {name: own for name, own in FORMS.items() if own.matches(tree)}
    if len(forms) > 1:
        raise InputError(f"{path}: holds {' and '.join(forms)}; give the one you mean as --data")
    if forms:
        return tree, next(iter(forms.values()))
    archives = [name for name in tree.files if is_archive(name)]
    if path.is_dir() and len(archives) == 1:
        return _find_form(path / archives[0])
    listed = ", ".join(archives or tree.files[:3]) or "nothing"
    raise InputError(f"{path}: no images in a form that is known (it holds {listed}); give a "
                     "folder of train/<class>/* and test/<class>/*, or see data/README.md")


def may_be_mirrored(data, auto):
    """Return whether the images of a name or path may be mirrored: what comes in MNIST's forms may
    not; of your own pictures it is supposed, and of what will be refused."""
    if data in DATA_SETS or data in ("auto", "synthetic"):
        return DATA_SETS[auto if data in ("auto", "synthetic") else data].mirrors
    path = pathlib.Path(os.path.abspath(os.path.expanduser(data)))
    there = data and os.path.exists(path)
    return _form_mirrors(path, path.stat().st_mtime_ns) if there else True


@functools.lru_cache
def _form_mirrors(path, changed):
    try:
        return _find_form(path)[1].mirrors
    except InputError:
        return True


def _with_test_set(data, given, how):
    """Return Images whose test set is held out of their training images, if they have none."""
    if len(data.test_labels):
        if how.test_split:
            raise InputError(f"--test-split: {data.title} has a test set of its own")
        return data
    if not how.test_split:
        raise InputError(f"--data {given}: no test set; --test-split 0.2 holds out a fifth of its "
                         f"{len(data.train_labels):,} images for it")
    kept, test = split_validation(data.train_labels, how.test_split, seed=677)
    train, labels = data.train_images, data.train_labels
    without = np.setdiff1d(labels, labels[kept])
    if len(without):
        raise InputError(f"--test-split {how.test_split:g}: class {data.classes[without[0]]!r} "
                         "would have no image left to train on; hold out less, or leave it out")
    return Images.titled(data.name, f"{data.description}, test images drawn from all",
                         data.classes, (train[kept], labels[kept], train[test], labels[test]),
                         data.lossy, data.validation, data.mirrors, data.notes)


def _warn_of_stand_in(error, name, stand_in):
    bar = "!" * 78
    print(f"{bar}\n!! NO REAL DATA: {error}\n!! In its place: {stand_in.title}.\n"
          f"!! Its accuracy says nothing about {name}.\n{bar}", file=sys.stderr)


def evenly(count, most):
    """Return at most `most` of the indices 0 .. count - 1, evenly spaced, first and last too."""
    return np.linspace(0, count - 1, min(most, count)).astype(int)


def some_of_each_class(labels, count, seed):
    """Return the indices, ascending, of `count` random examples of each class, or of all it has."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    return np.sort(np.concatenate([shuffled[labels[shuffled] == c][:count]
                                   for c in np.unique(labels)]))


# ------------------------------------------------------------------------------- splits

def split_validation(labels, fraction, seed=2016):
    """Return (training indices, validation indices), the same for every run, stratified by class.

    labels: int (n,); round(fraction * n) images are held out, and one at least of every class that
    has two or more (unless fraction is 0). Both results are in ascending order.
    """
    if not 0 <= fraction < 1:
        raise InputError("--validation-split must be at least 0 and less than 1, "
                         f"not {fraction}")
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    depth = np.empty(len(labels))  # how deep an image lies in its class's shuffled pile, 0 .. 1
    first = []  # of the pile of each class that can spare one
    for c in np.unique(labels):
        pile = shuffled[labels[shuffled] == c]
        depth[pile] = (np.arange(len(pile)) + 0.5) / len(pile)
        first += [pile[0]] * (len(pile) > 1 and fraction > 0)
    mask = np.zeros(len(labels), bool)
    mask[np.argsort(depth, kind="stable")[:round(fraction * len(labels))]] = True
    mask[first] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)


@functools.lru_cache(maxsize=2)
def epoch_order(seed, epoch, count):
    """Return the order in which epoch `epoch` (from 0) visits `count` images."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def batch_indices(seed, first, last, batch, count):
    """Return the training images of steps first .. last - 1, int32 (steps, batch): one random
    permutation of all images after another.

    A function of its arguments alone, so that a resumed run sees what an uninterrupted one sees.
    """
    position = np.arange(first * batch, last * batch)
    epoch, within = position // count, position % count
    return np.concatenate([epoch_order(seed, e, count)[within[epoch == e]]
                           for e in np.unique(epoch)]
                          ).astype(np.int32).reshape(last - first, batch)


# ------------------------------------------- schedules: the learning rate at a step (from 0)

SCHEDULES = {}  # {name on the command line: function}


def schedule(function):
    """Register a schedule. Its arguments are options of a Config, `step`, `total_steps` and
    `warmup_steps`."""
    SCHEDULES[function.__name__.replace("_", "-")] = function
    return function


@schedule
def constant(step, learning_rate):
    """Return `learning_rate` at every step."""
    return learning_rate


@schedule
def exponential(step, learning_rate, decay_rate, decay_steps, staircase=True):
    """Return learning_rate * decay_rate ** (step / decay_steps); with `staircase` the exponent is
    rounded down. A rate that grows beyond all numbers is infinite."""
    exponent = step // decay_steps if staircase else step / decay_steps
    try:
        return learning_rate * decay_rate ** exponent
    except OverflowError:
        return math.inf


@schedule
def inverse_time(step, learning_rate, decay_rate, decay_steps):
    """Return learning_rate / (1 + decay_rate * step / decay_steps)."""
    return learning_rate / (1 + decay_rate * step / decay_steps)


@schedule
def cosine(step, learning_rate, total_steps, warmup_steps=0):
    """Return `learning_rate` up to step `warmup_steps`, then half a cosine down to 0 at step
    `total_steps`."""
    progress = max(0, step - warmup_steps) / max(1, total_steps - warmup_steps)
    return learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def learning_rate(step, total_steps, config):
    """Return the learning rate of `step` (from 0) as a Config's options ask for it.

    Over the first steps, config.warmup of them all, it rises linearly to what the schedule says.
    """
    function, warmup_steps = SCHEDULES[config.schedule], round(config.warmup * total_steps)
    known = dict(step=step, total_steps=total_steps, warmup_steps=warmup_steps)
    rate = function(**{name: known[name] if name in known else getattr(config, name)
                       for name in inspect.signature(function).parameters})
    return rate * (step + 1) / warmup_steps if step < warmup_steps else rate
