"""Measure what each layer of a trained network is worth on images it was not trained for.

    python transfer.py logs/cifar_lenet5/best-seed0 --data mnist
    python transfer.py logs/cifar_lenet5/best-classes=0-4-seed0 --classes 5-9

The layers are frozen; a softmax and a linear support vector machine are trained on each one's
features, from few images per class to all (Zeiler & Fergus, arXiv 1311.2901, tables 4-7, fig. 9).
Beside them the same network trained from scratch on the same images.
"""
import dataclasses
import functools
import hashlib
import sys
import time

from system import machine
from system.command_line import Diverged, InputError, import_script, main, option, parse
from training.config import Data, Run, Threads

HEADS = ("softmax", "svm")


@dataclasses.dataclass(frozen=True)
class Config(Threads, Data, Run):
    """Transfer."""
    NAME = "{source}-to-{data}"
    source: str = option("", "folder of the run whose layers are used", positional=True,
                         names_run=False)
    source_data: str = option("", "where the source's images are now, if they moved",
                              names_run=False)
    per_class: tuple = option((1, 2, 5, 10, 20, 50, 100, 0),
                              "training images of each class; 0: all", low=0)
    strengths: tuple = option((0.01, 1.0, 100.0), "weights C of the loss against a head's squared "
                              "norm; validation images choose", low=1e-9, high=1e9)
    scratch_steps: int = option(1000, "steps of the network from scratch; 0: none", low=0)
    horizontal_flip: bool = option(True, "from scratch, flip if the source did and --data are no "
                                   "digits or letters")


if __name__ == "__main__":  # --help and wrong options answer before the slow imports below
    config = parse(Config, {})
    machine.use_threads(config.threads)

import numpy as np
import tensorflow as tf
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

import utils
from inside.trained import Record, outputs
from sources.images import Reading
from system.progress import Progress
from training import loop
from training import run as runs
from training.augmentation import moments

# ------------------------------------------------------------------------------ features, heads

def features_of(network, place, images):
    """Return flat features (n, d) of uint8 images at a layer, or their "pixels"."""
    features = network.inputs(images)
    if place != "pixels":
        features, = outputs(network.model, [network.stages[place]], features)
    return features.reshape(len(features), -1)


def scale(train, *others):
    """Centre features on the training images and divide by their root mean squared norm, so that a
    strength of regularisation means the same for every layer. Each is (n, features)."""
    mean = train.mean(0)
    norm = np.sqrt(np.square(train - mean).sum(1).mean()) or 1.0
    return [(x - mean) / norm for x in (train, *others)]


def rotate(train, *others):
    """Express features in as many dimensions as there are training images, if these are fewer.

    What is at right angles to all training images changes no linear head with a squared penalty, so
    nothing is lost, and fitting few images to thousands of features becomes quick.
    """
    if len(train) >= train.shape[1]:
        return [train, *others]
    _, _, basis = np.linalg.svd(train, full_matrices=False)
    return [x @ basis.T for x in (train, *others)]


def fit_svm(strength, features, labels, tolerance=1e-4, most=500):
    """Fit scikit-learn's LinearSVC (one against the rest, squared hinge) by L-BFGS.

    The same objective, |w|^2 / 2 + C sum of max(0, 1 - t (w x + b))^2 with b in w, for all classes
    at once; divided by C n, its gradient ends below `tolerance`, as LogisticRegression's does, or
    `most` steps are done, as with little regularisation of tens of thousands of images. For these
    LinearSVC's own solver, 16 bytes a feature and class by class, takes hours.
    """
    machine = LinearSVC(C=strength)
    machine.classes_ = np.unique(labels)
    (n, d), classes = features.shape, len(machine.classes_)
    targets = np.where(labels[:, None] == machine.classes_, 1, -1).astype(features.dtype)

    def objective(w):
        w = w.reshape(d + 1, classes)
        rows = w.astype(features.dtype)
        slack = np.maximum(0, 1 - targets * (features @ rows[:-1] + rows[-1]))
        error = -2 / n * targets * slack
        gradient = w / (strength * n) + np.vstack([features.T @ error, error.sum(0)])
        value = np.square(slack, dtype=float).sum() + np.square(w).sum() / (2 * strength)
        return value / n, gradient.ravel()
    found = minimize(objective, np.zeros((d + 1) * classes), jac=True, method="L-BFGS-B",
                     options=dict(gtol=tolerance, ftol=0, maxiter=most, maxfun=2 * most))
    w = found.x.reshape(d + 1, classes).astype(features.dtype)
    machine.coef_, machine.intercept_ = w[:-1].T, w[-1]
    return machine


def fit_head(head, strength, features, labels):
    """Fit a "softmax" or "svm" of a strength of regularisation to its solver's tolerance."""
    return (fit_svm(strength, features, labels) if head == "svm" else
            LogisticRegression(C=strength, max_iter=2000).fit(features, labels))


def evaluate_head(head, strengths, train, validation, test):
    """Return (test accuracy, strength) of a head whose strength the validation images chose.

    train, validation, test: (features (n, d), labels (n,)). Ties go to the weakest; test
    images are seen by the chosen head only.
    """
    fitted = {strength: fit_head(head, strength, *train) for strength in sorted(strengths)}
    best = max(fitted, key=lambda strength: fitted[strength].score(*validation))
    return fitted[best].score(*test), best


def fit_heads(train, validation, test, strengths):
    """Return [(test accuracy, strength)] of each of HEADS on a layer's features.

    train, validation, test: (features (n, d), labels (n,)).
    """
    sets = rotate(*scale(train[0], validation[0], test[0]))
    sets = [(x, y) for x, (_, y) in zip(sets, (train, validation, test))]
    return [evaluate_head(head, strengths, *sets) for head in HEADS]


def scratch_options(source, config):
    """Return options of the network from scratch: the source's, but for what this run's say."""
    return dataclasses.replace(
        source, seed=config.seed, steps=config.scratch_steps, threads=config.threads,
        initial_weights="", early_stopping=0, weights="last",
        horizontal_flip=source.horizontal_flip and config.horizontal_flip)


def train_from_scratch(build_model, options, images, labels, data):
    """Return the test accuracy of a network trained on these images alone.

    build_model, options: of the source's script; images: uint8, labels; data: the Images that hold
    the test set. Raises Diverged if the loss stops being finite.
    """
    options = dataclasses.replace(options, batch_size=min(options.batch_size, len(images)))
    sample = utils.evenly(len(images), 1000)
    training = loop.Training(build_model, loop.TrainingData(
        data, images, labels, {"train": (images[sample], labels[sample])},
        *(moments(images) if options.standardize else (0.0, 1.0))), options)
    step = 0
    while step < training.total:
        stop = training.end_of_block(step)
        rates = training.learning_rates(step, stop)
        losses = training.update(step, stop, rates)
        for i in np.flatnonzero(~np.isfinite(losses))[:1]:
            raise Diverged(
                f"from scratch, the loss is not finite at step {step + i:,} (learning rate "
                f"{rates[i]:.3g}) of the source's recipe; --scratch-steps 0 --overwrite leaves "
                "that part out")
        step = stop
    training.measure()
    return loop.evaluate(training.predict(data.test_images), data.test_labels)[1]


# -------------------------------------------------------------------------------------- a run

@dataclasses.dataclass(frozen=True)
class Sets:
    """What a transfer is made of: the source's network, and the images of the other task."""
    network: object
    data: object            # Images
    held_out: np.ndarray    # indices of validation images
    subsets: dict           # {images per class: indices of training images}, each within the next

    @property
    def places(self):
        return ["pixels", *self.network.stages]

    def said(self, k):
        """Return how many images per class there are of k asked for, as classes may have fewer."""
        counts = np.bincount(self.data.train_labels[self.subsets[k]],
                             minlength=len(self.data.classes))
        return f"{'up to ' * bool(counts.min() < k)}{k:,} images per class"


def load(config):
    """Return the Sets that a Config asks for. Raises InputError."""
    if config.source.endswith(".keras"):
        raise InputError(f"{config.source}: the source of a transfer is the folder of a run")
    if config.permute_labels:
        raise InputError("--permute-labels: labels of a transfer are not shuffled; leave it out")
    network = Record(config.source, import_script, config.data_dir, config.source_data).network
    if not (network.folder / "result.json").exists():
        raise InputError(f"{config.source} is not finished; finish it with --resume first")
    if not network.stages:
        raise InputError(f"{config.source} has no activations whose features to transfer")
    data = utils.load_images(config.data, config.data_dir, how=Reading.of(config))
    shape, wanted = data.train_images.shape[1:], network.model.input.shape[1:]
    if shape != wanted:
        raise InputError(f"--data {config.data} has images {shape}, the network of "
                         f"{config.source} takes {wanted} (height, width, channels)")
    if data.validation:  # it has images of its own to choose by
        n, (images, own) = len(data.train_labels), data.validation
        data = dataclasses.replace(
            data, train_images=np.concatenate([data.train_images, images]),
            train_labels=np.concatenate([data.train_labels, own]), validation=None)
        chosen, held_out = np.arange(n), np.arange(n, n + len(own))
    else:
        chosen, held_out = utils.split_validation(data.train_labels, config.validation_split)
        loop.require_all_classes(data, data.train_labels[chosen], config.validation_split)
    if not config.validation_split and not len(held_out):
        raise InputError("--validation-split 0 leaves no validation images, which choose the "
                         "strengths; give a share above 0")
    if not len(held_out) or len(np.unique(data.train_labels[chosen])) < 2:
        raise InputError(f"{data.title} is too small: at least two classes and one validation "
                         "image are needed")
    labels = data.train_labels[chosen]
    most = int(np.bincount(labels).max())
    largest = max(int(np.prod(x.shape[1:]))
                  for x in (network.model.input, *network.stages.values()))
    count = min(len(chosen), max(k or most for k in config.per_class) * len(data.classes))
    machine.check_memory(
        3 * 4 * largest * (count + len(held_out) + len(data.test_labels)),
        f"{largest:,} features of each image", "a smaller --per-class needs less", config.force)
    draw = runs.stream_seed(config.seed, "subset")
    return Sets(network, data, held_out, {
        k: chosen[utils.some_of_each_class(labels, k, draw)]
        for k in sorted({min(k, most) or most for k in config.per_class})})


def features_at(sets, place, k, read):
    """Return (training, validation, test) features and labels of a layer, with k images per class.

    read: function that returns a layer's features of the largest training subset, of the validation
    and of the test images.
    """
    data, own, largest = sets.data, sets.subsets[k], sets.subsets[max(sets.subsets)]
    train, validation, test = read(place)
    chosen = slice(None) if own is largest else np.searchsorted(largest, own)  # no copy of all
    return ((train[chosen], data.train_labels[own]),
            (validation, data.train_labels[sets.held_out]), (test, data.test_labels))


def train(config):
    """Train and evaluate every head; record one run. Raises InputError, Diverged or Interrupted.

    A step is one layer, or "scratch", with one number of images per class; a stopped run goes on
    after the last finished step.
    """
    with runs.Run("transfer", config) as run:
        if run.finished:
            return
        sets = load(config)
        network, data = sets.network, sets.data
        places = sets.places + ["scratch"] * bool(config.scratch_steps)
        tasks = [(place, k) for place in places for k in sets.subsets]
        describe(run, sets, len(tasks))
        options = scratch_options(network.config, config)

        @functools.lru_cache(1)  # of one layer at a time
        def read(place):
            return [features_of(network, place, images) for images in (
                data.train_images[sets.subsets[max(sets.subsets)]],
                data.train_images[sets.held_out], data.test_images)]
        step, state = run.restore()
        found = state or {"seconds": np.zeros(())}
        if not state:
            run.log_options()
        with Progress(total=len(tasks), initial=step, unit="step") as bar:
            while step < len(tasks):
                start = time.perf_counter()
                place, k = tasks[step]
                if place == "scratch":
                    own = sets.subsets[k]
                    results = {"scratch": (train_from_scratch(
                        network.build_model, options, data.train_images[own],
                        data.train_labels[own], data), 0.0)}
                else:
                    results = {f"{head}/{place}": result for head, result in zip(
                        HEADS, fit_heads(*features_at(sets, place, k, read), config.strengths))}
                found["seconds"] = found["seconds"] + time.perf_counter() - start
                for name, (accuracy, strength) in results.items():
                    found[f"{name}/{k}"] = np.array([accuracy, strength])
                    log(run, name, k, accuracy, strength, sets.said(k))
                step += 1
                run.save(step, found)
                bar.update()
        seconds = float(found.pop("seconds"))
        run.finish(step, {f"test_accuracy/{name}": float(accuracy)
                          for name, (accuracy, _) in found.items()} | {"train_seconds": seconds})
        print(f"time     {seconds:.0f} s\ntable    python visualize.py transfer {run.path}")


def describe(run, sets, steps):
    """Write config.json, and say what the run is of."""
    data, network = sets.data, sets.network
    run.describe(total_steps=steps, data=dict(
        name=data.name, title=data.title, checksum=data.checksum, classes=data.classes,
        train=len(sets.subsets[max(sets.subsets)]), validation=len(sets.held_out),
        test=len(data.test_labels), source_weights=hashlib.sha256(b"".join(
            w.tobytes() for w in network.model.get_weights())).hexdigest()),
        source=dict(title=network.data.title, options=dataclasses.asdict(network.config)))
    print(f"source   {network.folder}: {network.data.title}\ndata     {data.title}\n"
          f"run      {run.path}: {steps} steps")
    for note in data.notes:
        print(f"note     {note}")


def log(run, name, k, accuracy, strength, said):
    """Log and say what a head, or the network from scratch, reached with k images per class, or as
    many as are `said`."""
    with run.events.into(name):
        tf.summary.scalar("transfer/test_accuracy", accuracy, step=k)
        if name != "scratch":
            tf.summary.scalar("transfer/strength", strength, step=k)
    Progress.write(f"{name:20} {said:>22}  test {100 * accuracy:5.1f} %")


if __name__ == "__main__":
    sys.exit(main(train, config))
