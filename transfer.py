"""Transfer: what each layer of a trained LeNet-5 is worth on images it was not trained for.

    python transfer.py logs/cifar_lenet5/best-seed0 --data mnist --no-flip
    python transfer.py logs/cifar_lenet5/best-classes=0-4-seed0 --classes 5-9

The layers are frozen; a softmax and a linear support vector machine are trained on each one's
features, from few images a class to all (Zeiler & Fergus, arXiv 1311.2901, tables 4-7 and fig. 9).
Beside them the same network trained from scratch on the same images.
"""
import dataclasses
import hashlib
import sys
import time

import machine
import runs
from options import option, parse

RECIPES = {}
HEADS = ("softmax", "svm")


@dataclasses.dataclass(frozen=True)
class Config:
    """Every option of a run."""
    NAME = "{source}-to-{data}"
    source: str = option("", "folder of the run whose layers are used", positional=True,
                         names_run=False)
    # which run
    seed: int = option(0, "seed of the choice of images and of the network from scratch", low=0,
                       names_run=False)
    name: str = option("", "run name; empty: the source, the data and what differs from the "
                       "defaults", names_run=False)
    logs: str = option("logs", "folder of all runs", names_run=False)
    resume: bool = option(False, "go on with an interrupted run", names_run=False)
    overwrite: bool = option(False, "replace an existing run", names_run=False)
    # data
    data: str = option("auto", "auto, elec677, cifar10, mnist, synthetic, or the path of a folder "
                       "or zip of train/<class>/* and test/<class>/*")
    data_dir: str = option(runs.DATA_DIR, "folder of data sets, also set by the environment "
                           "variable DATA_DIR", names_run=False)
    grey: bool = option(False, "make colour images grey")
    classes: str = option("", "numbers of the classes to keep, like 0-4 or 0,2,7; empty: all")
    validation_fraction: float = option(0.1, "share of the training images held out to choose the "
                                        "strength of regularisation", low=0.01, high=0.9)
    per_class: tuple = option((1, 2, 5, 10, 20, 50, 100, 0),
                              "training images of each class; 0: all", low=0)
    # heads
    strengths: tuple = option((0.01, 1.0, 100.0), "weights C of the loss against the squared norm "
                              "of a head, of which the validation images choose", low=1e-9,
                              high=1e9)
    scratch_steps: int = option(1000, "updates of the network from scratch, by the source's other "
                                "options; 0: none", low=0)
    flip: bool = option(True, "the network from scratch sees mirror images if the source did; "
                        "--no-flip for digits, which are not their mirror images")
    # machine
    replicas: int = option(machine.cores(), "shares of a batch computed at a time, one core each",
                           low=1, names_run=False)


if __name__ == "__main__":  # --help and wrong options answer before the slow imports below
    config = parse(Config, RECIPES)
    machine.use_replicas(config.replicas)

with machine.quiet_import():
    import tensorflow as tf

import numpy as np  # noqa: E402
from scipy.optimize import minimize  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.svm import LinearSVC  # noqa: E402
from tqdm import tqdm  # noqa: E402

import analyses  # noqa: E402
import cifar_lenet5  # noqa: E402
import utils  # noqa: E402
from network import load_network  # noqa: E402
from optimizers import create_slots  # noqa: E402
from parallel import make_predict, measure_statistics  # noqa: E402
from preprocessing import moments, prepare  # noqa: E402

# ------------------------------------------------------------------------------ features, heads

def features_of(network, place, images):
    """Flat features (n, d) of uint8 images at a layer, or their "pixels"."""
    features = network.inputs(images)
    if place != "pixels":
        features, = analyses.outputs(network.model, [network.stages[place]], features)
    return features.reshape(len(features), -1)


def scale(train, *others):
    """Features centred on the training images and divided by their root mean squared norm, so that
    a strength of regularisation means the same for every layer. Each is (n, features)."""
    mean = train.mean(0)
    norm = np.sqrt(np.square(train - mean).sum(1).mean()) or 1.0
    return [(x - mean) / norm for x in (train, *others)]


def rotate(train, *others):
    """The same features in as many dimensions as there are training images, if these are fewer.

    What is at right angles to all training images changes no linear head with a squared penalty, so
    nothing is lost, and fitting few images to thousands of features becomes quick.
    """
    if len(train) >= train.shape[1]:
        return [train, *others]
    _, _, basis = np.linalg.svd(train, full_matrices=False)
    return [x @ basis.T for x in (train, *others)]


def fit_svm(strength, features, labels, tolerance=1e-4, most=500):
    """scikit-learn's LinearSVC (one against the rest, squared hinge), fitted by L-BFGS.

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
    """A "softmax" or "svm" of a strength of regularisation, fitted to its solver's tolerance."""
    fit = {"softmax": lambda: LogisticRegression(C=strength, max_iter=2000).fit(features, labels),
           "svm": lambda: fit_svm(strength, features, labels)}[head]
    return fit()


def evaluate_head(head, strengths, train, validation, test):
    """(test accuracy, strength) of a head whose strength the validation images chose.

    train, validation, test: (features (n, d), labels (n,)). The weakest of equals is chosen; test
    images are seen by the chosen head only.
    """
    fitted = {strength: fit_head(head, strength, *train) for strength in sorted(strengths)}
    best = max(fitted, key=lambda strength: fitted[strength].score(*validation))
    return fitted[best].score(*test), best


def fit_heads(train, validation, test, strengths):
    """[(test accuracy, strength)] of each of HEADS on a layer's features.

    train, validation, test: (features (n, d), labels (n,)).
    """
    sets = rotate(*scale(train[0], validation[0], test[0]))
    sets = [(x, y) for x, (_, y) in zip(sets, (train, validation, test))]
    return [evaluate_head(head, strengths, *sets) for head in HEADS]


def scratch_options(source, config):
    """Options of the network from scratch: the source's, but for what this run's Config says."""
    return dataclasses.replace(source, seed=config.seed, steps=config.scratch_steps,
                               flip=source.flip and config.flip, replicas=config.replicas)


def train_from_scratch(build_model, options, images, labels, data, stopped):
    """Test accuracy of a network trained on these images alone, or None if stopped() says stop.

    build_model, options: of the source's script; images: uint8, labels; data: the Images that hold
    the test set.
    Raises Diverged if the loss stops being finite.
    """
    options = dataclasses.replace(options, batch=min(options.batch, len(images)))
    mean, std = moments(images) if options.standardize else (0.0, 1.0)
    model = cifar_lenet5.make_model(build_model, images.shape[1:], len(data.classes), options)
    slots = create_slots(options.optimizer, [v.value for v in model.trainable_variables])
    train_block = cifar_lenet5.make_train_block(
        model, slots, options, mean, std, tf.constant(images), tf.constant(labels))
    order = runs.stream_seed(options.seed, "order")
    for first in range(0, options.steps, cifar_lenet5.BLOCK):
        last = min(first + cifar_lenet5.BLOCK, options.steps)
        rates = np.float32([utils.learning_rate(step, options.steps, options)
                            for step in range(first, last)])
        indices = utils.batch_indices(order, first, last, options.batch, len(images))
        losses = train_block(indices, rates, first).numpy()
        for i in np.flatnonzero(~np.isfinite(losses))[:1]:
            raise runs.Diverged(
                f"from scratch, the loss is not finite at step {first + i:,} (learning rate "
                f"{rates[i]:.3g}) of the source's recipe; --scratch-steps 0 --overwrite leaves "
                "that part out")
        if stopped():
            return None
    sample = np.linspace(0, len(images) - 1, min(1000, len(images))).astype(int)
    measure_statistics(model, prepare(images[sample], mean, std))
    predict = make_predict(model, mean, std, options.replicas)
    return cifar_lenet5.evaluate(predict(data.test_images), data.test_labels)[1]


# -------------------------------------------------------------------------------------- a run

def load(config):
    """(network, data set, training indices, validation indices). Raises InputError."""
    network = load_network(config.source, config.data_dir)
    if not (network.folder / "result.json").exists():
        raise runs.InputError(f"{config.source} is not finished; finish it with --resume first")
    if not network.stages:
        raise runs.InputError(f"{config.source} has no activations whose features to transfer")
    data = utils.restrict(utils.load_images(config.data, config.data_dir), config.classes,
                          config.grey)
    shape, wanted = data.train_images.shape[1:], network.model.input.shape[1:]
    if shape != wanted:
        raise runs.InputError(f"--data {config.data} has images {shape}, the network of "
                              f"{config.source} takes {wanted} (height, width, channels)")
    chosen, held_out = utils.split_validation(data.train_labels, config.validation_fraction)
    if not len(held_out) or len(np.unique(data.train_labels[chosen])) < 2:
        raise runs.InputError(f"{data.title} is too small: at least two classes and one validation "
                              "image are needed")
    return network, data, chosen, held_out


def train(config):
    """Train and evaluate every head; record one run. Raises InputError, Diverged or Interrupted.

    A step is one layer, or "scratch", with one number of images a class; a stopped run goes on
    after the last finished step.
    """
    with runs.Run("transfer", config) as run:
        if run.finished:
            print(f"{run.path} is finished; --overwrite to replace it")
            return
        network, data, chosen, held_out = load(config)
        labels = data.train_labels, data.test_labels
        most = int(np.bincount(labels[0][chosen]).max())
        shots = sorted({min(k, most) or most for k in config.per_class})
        draw = runs.stream_seed(config.seed, "subset")
        subsets = {k: chosen[utils.some_of_each_class(labels[0][chosen], k, draw)] for k in shots}
        places = ["pixels", *network.stages]
        places += ["scratch"] if config.scratch_steps else []
        tasks = [(place, k) for place in places for k in shots]
        run.describe(total_steps=len(tasks), data=dict(
            name=data.name, title=data.title, checksum=data.checksum, classes=data.classes,
            train=len(chosen), validation=len(held_out), test=len(labels[1]),
            source_weights=hashlib.sha256(b"".join(
                w.tobytes() for w in network.model.get_weights())).hexdigest()),
            source=dict(title=network.data.title, options=dataclasses.asdict(network.config)))
        print(f"source   {network.folder}: {network.data.title}\ndata     {data.title}\n"
              f"run      {run.path}: {len(tasks)} steps")

        options = scratch_options(network.config, config)
        step, state = run.restore()
        found = state or {"seconds": np.zeros(())}
        if not state:
            run.log_options()
        place_of_features = None
        with tqdm(total=len(tasks), initial=step, unit="step", disable=None, leave=False) as bar:
            while step < len(tasks) and not run.signal:
                start = time.perf_counter()
                place, k = tasks[step]
                if place == "scratch":
                    accuracy = train_from_scratch(
                        network.build_model, options, data.train_images[subsets[k]],
                        labels[0][subsets[k]], data, lambda: run.signal)
                    if accuracy is None:
                        break
                    results = {"scratch": (accuracy, 0.0)}
                else:
                    if place != place_of_features:
                        place_of_features = place
                        features = [features_of(network, place, images) for images in (
                            data.train_images[subsets[shots[-1]]], data.train_images[held_out],
                            data.test_images)]
                    own = (slice(None) if k == shots[-1] else  # a copy may be of gigabytes
                           np.searchsorted(subsets[shots[-1]], subsets[k]))  # the sets are nested
                    results = {f"{head}/{place}": result for head, result in zip(HEADS, fit_heads(
                        (features[0][own], labels[0][subsets[k]]),
                        (features[1], labels[0][held_out]), (features[2], labels[1]),
                        config.strengths))}
                found["seconds"] = found["seconds"] + time.perf_counter() - start
                for name, (accuracy, strength) in results.items():
                    found[f"{name}/{k}"] = np.array([accuracy, strength])
                    with run.writer(name).as_default():
                        tf.summary.scalar("transfer/test_accuracy", accuracy, step=k)
                        if name != "scratch":
                            tf.summary.scalar("transfer/strength", strength, step=k)
                    tqdm.write(f"{name:20} {k:5,} images a class  test {100 * accuracy:5.1f} %")
                step += 1
                run.save(step, found)
                bar.update()
        if run.signal:
            run.interrupt(step)
        seconds = float(found.pop("seconds"))
        run.finish(step, {f"test_accuracy/{name}": float(accuracy)
                          for name, (accuracy, _) in found.items()} | {"train_seconds": seconds})
        print(f"time     {seconds:.0f} s\ntable    python visualize.py transfer {run.path}")


if __name__ == "__main__":
    sys.exit(runs.main(train, config))
