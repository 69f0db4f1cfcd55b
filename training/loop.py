"""Train a network: what an experiment's loop calls.

    with Run("cifar_lenet5", config) as run:
        data = load_training_data(config)
        training = Training(build_model, data, config)
        for step, stop in training.blocks(run):
            rates = training.learning_rates(step, stop)
            losses = training.update(step, stop, rates)
            run.log_steps(step, losses, rates, training.speed)
            training.observe(run, stop)
        training.finish(run, training.test())
"""
import bisect
import dataclasses
import functools
import hashlib
import math
import os
import pathlib
import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf
from keras.src.utils import naming

import utils
from sources.images import Images, Reading, is_path
from system.command_line import InputError, Interrupted, in_one_line
from system.files import compare, read_json
from system.progress import Progress
from training import graph, plain
from training.augmentation import augment, moments, prepare
from training.best import Best
from training.checkpoints import save_best
from training.checks import check
from training.needs import (
    CHUNK_BYTES,
    REMEDY,
    check_needs,
    check_weights,
    images_at_a_time,
    needs,
)
from training.optimizers import apply_gradients, create_slots, is_decayed
from training.parallel import loss_and_gradients, make_measure, make_predict, shares
from training.run import stream_seed
from training.summaries import log_inside, log_kernels, log_norms_over_time

# TensorFlow's optimisation of graphs gains nothing here and delays the first step
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

BLOCK = 50  # at most so many steps a graph call
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # Keras's names of precisions


# --------------------------------------------------------------------------------------- data

@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The images a run sees."""
    source: Images
    images: np.ndarray      # uint8 (n, height, width, channels), to train on
    labels: np.ndarray      # int32 (n,)
    observed: dict          # {"train" | "validation": (images, labels)} to evaluate on meanwhile
    mean: float             # of the training pixels / 255, or 0 and 1 without standardization
    std: float

    @property
    def shape(self):
        return self.images.shape[1:]

    @property
    def classes(self):
        return self.source.classes

    @property
    def counts(self):
        """Return how many training images each class has."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def facts(self):
        """Return what config.json says of the data."""
        source = self.source
        return dict(name=source.name, title=source.title, checksum=source.checksum,
                    classes=source.classes, train=len(self.images), counts=self.counts.tolist(),
                    validation=len(self.observed.get("validation", ((), ()))[1]),
                    test=len(source.test_labels), mean=self.mean, std=self.std)

    def describe(self):
        """Print what the data is, and what its reader noted."""
        counts, names = self.counts, self.classes
        few, many = counts.argmin(), counts.argmax()
        said = f"{counts[few]:,}" if counts[few] == counts[many] else (
            f"{counts[few]:,} ({names[few]}) to {counts[many]:,} ({names[many]})")
        print(f"data     {self.source.title}\n"
              f"classes  {len(names):,}, each of {in_one_line(said)} training images")
        for note in self.source.notes:
            print(f"note     {note}")


def choose_device(device):
    """Hide GPUs from TensorFlow unless --device gpu asks for them, and say so. Raises InputError if
    there is none."""
    found = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not found:
        raise InputError("--device gpu: TensorFlow sees no GPU here; leave it out, or see "
                         "https://www.tensorflow.org/install/pip")
    if device == "cpu" and found:
        tf.config.set_visible_devices([], "GPU")
        print("note     a GPU is there and not used; --device gpu trains on it")


def require_all_classes(data, labels, share):
    """Raise InputError if holding out a share leaves a class without an image among `labels`."""
    without = np.setdiff1d(data.train_labels, labels)
    if len(without):
        raise InputError(f"--validation-split {share:g}: class {data.classes[without[0]]!r} would "
                         "have no image left to train on; hold out less, or leave it out")


def load_training_data(config):
    """Return the TrainingData that a Config asks for."""
    choose_device(config.device)
    data = utils.load_images(config.data, config.data_dir, config.AUTO, Reading.of(config))
    share = 0 if data.validation else config.validation_split
    chosen, held_out = utils.split_validation(data.train_labels, share)
    if config.per_class:
        counts = np.bincount(data.train_labels[chosen], minlength=len(data.classes))
        if few := [name for name, n in zip(data.classes, counts) if n < config.per_class]:
            data = data.noting(f"fewer than {config.per_class:,} training images, so all that "
                               f"there are, of {', '.join(few[:9])}{' ...' * (len(few) > 9)}")
        chosen = chosen[utils.some_of_each_class(data.train_labels[chosen], config.per_class,
                                                 stream_seed(config.seed, "subset"))]
    images, labels = data.train_images[chosen], data.train_labels[chosen]
    require_all_classes(data, labels, share)
    if config.permute_labels:
        labels = np.random.default_rng(stream_seed(config.seed, "labels")).permutation(labels)
        data = data.noting("training labels are permuted: there is nothing to learn but them")
    sample = utils.evenly(len(images), 1000)
    observed = {"train": (images[sample], labels[sample])}
    if data.validation:
        observed["validation"] = data.validation
        data = data.noting("validation images are the data set's own: --validation-split holds out "
                           "none")
    elif len(held_out):
        observed["validation"] = data.train_images[held_out], data.train_labels[held_out]
    if "validation" in observed:
        without = np.setdiff1d(data.train_labels, observed["validation"][1])
        if len(without):
            data = data.noting("no validation image of "
                               f"{', '.join(data.classes[c] for c in without[:9])}"
                               f"{' ...' * (len(without) > 9)}")
    if config.horizontal_flip and (is_path(config.data) or not data.mirrors):
        data = data.noting("images are mirrored at random; --no-horizontal-flip if left and right "
                           "differ, as in digits and letters")
    return TrainingData(data, images, labels, observed,
                        *(moments(images) if config.standardize else (0.0, 1.0)))


# -------------------------------------------------------------------------------------- a step

def make_model(build_model, input_shape, classes, config):
    """Return what build_model returns, if it can be trained; else InputError says why not.

    Initial weights are a function of --seed even where a layer has no seed of its own, and layers
    without a name are numbered from 1 each time.
    """
    naming.reset_uids()
    keras.utils.set_random_seed(stream_seed(config.seed, "layers"))
    try:
        model = build_model(input_shape, classes, config)
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise InputError(f"this network does not fit into memory; {REMEDY}") from error
    check(model, input_shape, classes)
    if config.precision == "bfloat16" and not any(
            layer.compute_dtype == "bfloat16" for layer in graph.layers(model)):
        raise InputError("--precision bfloat16: no layer of build_model computes in it; give them "
                         "dtype=POLICIES[config.precision], or train with --precision float32")
    return model


LOSSES = {
    "logits": lambda targets, logits: tf.nn.softmax_cross_entropy_with_logits(targets, logits),
    "unclamped": lambda targets, logits: -tf.reduce_sum(
        targets * tf.math.log(tf.nn.softmax(logits)), axis=1)}


def cross_entropy(targets, logits, kind="logits", class_weights=None):
    """Return each image's cross-entropy, (batch,), of target probabilities and logits (batch,
    classes), times the weight of its class (classes,).

    "unclamped" is log(softmax(logits)) as the original wrote it: a probability that underflows to 0
    makes it NaN.
    """
    losses = LOSSES[kind](targets, tf.cast(logits, tf.float32))
    if class_weights is None:
        return losses
    return losses * tf.gather(class_weights, tf.argmax(targets, axis=1))


def balanced(counts):
    """Return weights (classes,), float32, that let every class count alike: images / (classes *
    images of the class), as in scikit-learn and Keras's examples."""
    return np.float32(counts.sum() / (len(counts) * np.maximum(counts, 1)))


def train_step(model, slots, config, mean, std, images, labels, indices, rate, step, fill=0.0,
               class_weights=None):
    """Update the network once on images[indices] and return the mean loss.

    Everything random is drawn from `step`. fill: what is seen in the holes of --cutout, as network
    input.
    """
    sizes = shares(indices.shape[0], config.parts)
    seeds = {stream: tf.stack([stream_seed(config.seed, stream), step])
             for stream in ("transforms", "elastic", "holes", "dropout")}
    targets = tf.one_hot(tf.gather(labels, indices), model.output.shape[1])
    targets = (1 - config.label_smoothing) * targets + config.label_smoothing / targets.shape[1]
    parts = tf.split(tf.cast(tf.gather(images, indices), tf.float32), sizes)
    parts = augment(parts, seeds, config, mean, std, fill)
    variables = [v.value for v in model.trainable_variables]
    loss, gradients = loss_and_gradients(model, variables, parts, tf.split(targets, sizes),
                                         seeds["dropout"],
                                         functools.partial(cross_entropy, kind=config.loss,
                                                           class_weights=class_weights),
                                         config.device == "cpu")
    idle = [v.path for v, g in zip(model.trainable_variables, gradients, strict=True) if g is None]
    if idle:
        print(f"note     the loss does not depend on {', '.join(idle)}: these stay as they are")
    if config.clipnorm:
        gradients, _ = tf.clip_by_global_norm(gradients, config.clipnorm)
    apply_gradients(config.optimizer, variables, slots, gradients, step, rate,
                    config.momentum, config.nesterov, config.weight_decay,
                    list(map(is_decayed, model.trainable_variables)))
    for variable in model.trainable_variables:
        if variable.constraint is not None:
            variable.value.assign(variable.constraint(variable.value))
    return loss


def make_train_steps(model, slots, config, mean, std, images, labels):
    """Return train_step as one graph of many steps: (indices (steps, batch), rates (steps,), first
    step) -> losses (steps,); its wait() returns once the graph is prepared."""
    data = mean, std, tf.constant(images), tf.constant(labels)
    fill = (moments(images)[0] - mean) / std if config.cutout else 0.0
    counts = np.bincount(labels, minlength=model.output.shape[1])
    class_weights = balanced(counts) if config.class_weight == "balanced" else None

    @tf.function(autograph=False, input_signature=(  # AutoGraph is slow, and needs room in /tmp
        tf.TensorSpec((None, config.batch_size), tf.int32), tf.TensorSpec((None,), tf.float32),
        tf.TensorSpec((), tf.int32)))
    def train_block(indices, rates, first):
        def one(i, losses):
            loss = train_step(model, slots, config, *data, indices[i], rates[i], first + i, fill,
                              class_weights)
            return i + 1, losses.write(i, loss)
        steps = tf.shape(rates)[0]
        _, losses = tf.while_loop(lambda i, _: i < steps, one,
                                  (0, tf.TensorArray(tf.float32, steps)))
        return losses.stack()

    train_block = train_block.get_concrete_function()
    # the first call, here of no steps, prepares the graph (of a recurrent network all but the
    # functions of its parts); the caller need not wait for it
    first_call = ThreadPoolExecutor(1).submit(
        train_block, tf.zeros((0, config.batch_size), tf.int32), tf.zeros(0), tf.constant(0))

    def train_steps(indices, rates, first):
        train_steps.wait()
        return train_block(indices, rates, first)
    train_steps.wait = first_call.result
    return train_steps


def recognised(logits, labels):
    """Return whether each image's class is the most probable one; not where a logit is no number.
    """
    return (np.argmax(logits, axis=1) == labels) & ~np.isnan(logits).any(1)


def evaluate(logits, labels):
    """Return (mean cross-entropy, accuracy 0 .. 1) of logits (n, classes) and labels (n,)."""
    logits = np.float32(logits)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return float(tf.reduce_mean(loss)), float(np.mean(recognised(logits, labels)))


def batch_noise(logits, labels, size, batches=1000):
    """Return the standard deviation of the log loss over random batches of `size` images, all at
    the same weights: how much the choice of images alone lets a training curve fluctuate."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, np.float32(logits)).numpy()
    rng = np.random.default_rng(0)
    means = [losses[rng.integers(len(losses), size=size)].mean() for _ in range(batches)]
    return float(np.log(np.maximum(means, 1e-12)).std())


# -------------------------------------------------------------------------------------- a run

def load_initial_weights(folder, model, config):
    """Return the weights {name: array} of a finished run for a model; InputError if it was of a
    network that differs in more than dropout, or read its images otherwise."""
    def without_dropout(network):
        return {name: node for name, node in network.items() if node.get("kind") != "Dropout"}
    if not (pathlib.Path(folder) / "result.json").exists():
        raise InputError(f"--initial-weights {folder}: no folder of a finished run")
    described = read_json(pathlib.Path(folder) / "config.json")
    trained, options = described.get("network"), described.get("options", {})
    if options.get("standardize", config.standardize) != config.standardize:
        raise InputError(f"--initial-weights {folder} was trained with{'out' * config.standardize} "
                         f"--standardize; give --{'no-' * config.standardize}standardize")
    if trained:
        compare(f"--initial-weights {folder} is of another network: its", without_dropout(trained),
                without_dropout(graph.describe(model)), "train the same network, or begin anew")
    return plain.load(pathlib.Path(folder), model)


def total_steps(config, count):
    """Return how many steps a run on `count` images has."""
    steps = config.epochs * count / config.batch_size
    total = config.steps or math.ceil(steps * (1 - 1e-12))  # rounding adds no step
    if not total:
        raise InputError("nothing to train: give --steps or --epochs above 0")
    return total


class Training:
    """A network in training: its optimizer's state, its graph of many steps, what is due when."""

    def __init__(self, build_model, data, config):
        self.data, self.config, self.seconds, self.speed = data, config, 0.0, 0.0
        self.step, self.best = 0, Best(config, "validation" in data.observed)
        self.of_class = {}  # {class: accuracy on its test images}, once tested
        self.total = total_steps(config, len(data.images))
        check_weights(build_model, data.shape, len(data.classes), config)
        self.model = model = make_model(build_model, data.shape, len(data.classes), config)
        slots = create_slots(config.optimizer, [v.value for v in model.trainable_variables])
        self.needs = needs(model, slots, data.images, config)
        check_needs(*self.needs, config.logdir, config.force)
        self.variables = graph.name_weights(model.weights)
        self.variables |= {f"{slot}//{path}": variable for slot, values in slots.items()
                           for path, variable in zip(
                               graph.name_weights(model.trainable_variables), values)}
        self.train_steps = make_train_steps(model, slots, config, data.mean, data.std, data.images,
                                            data.labels)
        self.predict = make_predict(model, data.mean, data.std, config.parts)
        images, labels = data.observed["train"]
        few = images_at_a_time(model, 1000, 4 * CHUNK_BYTES)
        spaced = utils.evenly(len(images), few)
        self.sample = prepare(images[spaced], data.mean, data.std)
        self.measure = make_measure(model, self.sample)
        probe = utils.evenly(len(spaced), 100)  # of all classes, also if they lie one by one
        self.probe = tf.gather(self.sample, probe), labels[spaced[probe]]
        spaced = np.linspace(0, self.total, min(config.evaluations, self.total) + 1)
        self.evaluations = set(spaced.round().astype(int).tolist())
        spaced = np.geomspace(1, self.total, config.snapshots)
        self.snapshots = {0, *spaced.round().astype(int).tolist()} if config.snapshots else set()

    def begin(self, run):
        """Describe the run and return the step to go on from, 0 or where it was interrupted."""
        data, config, count = self.data, self.config, self.model.count_params()
        initial, facts = {}, data.facts()
        if config.initial_weights:
            initial = load_initial_weights(config.initial_weights, self.model, config)
            facts["initial_weights"] = hashlib.sha256(
                b"".join(array.tobytes() for array in initial.values())).hexdigest()
        run.describe(total_steps=self.total, parameters=count, data=facts,
                     network=graph.describe(self.model), data_path=self.path())
        data.describe()
        memory, disk = self.needs
        print(f"network  {self.model.name}, {count:,} weights; needs about {memory / 1e9:.1f} GB "
              f"of memory, {disk / 1e9:.1f} GB of disk\n"
              f"run      {run.path}: {self.total:,} steps of {config.batch_size} images, "
              f"{config.precision}, {config.threads} thread{'s' * (config.threads > 1)}"
              f"{' and the GPU' * (config.device == 'gpu')}")
        step, state = run.restore()
        if state:
            self.seconds, due = float(state.pop("seconds")), state.pop("due", False)
            self.best.restore(state)
            graph.assign(self.variables, state, f"the checkpoint of {run.path}")
        else:
            if initial:
                graph.assign(self.weights(), initial, config.initial_weights)
            run.log_options(self.model.name)
        if not state or due:
            self.observe(run, step)
        return step

    def path(self):
        """Return where one's own images lie; empty of a data set by name."""
        return os.path.abspath(os.path.expanduser(self.config.data)) if is_path(
            self.config.data) else ""

    def blocks(self, run):
        """Yield (step, stop) of block after block of steps, each up to what is due next; a signal
        ends the run after a block, once everything is saved."""
        step = self.begin(run)
        due = sorted({*self.evaluations, *self.snapshots, self.total})
        run.saves_on_signals = True
        with Progress(total=self.total, initial=step, unit="step") as bar:
            while step < self.total:
                self.step = step
                stop = min(due[bisect.bisect(due, step)], self.end_of_block(step))
                if self.best.is_over(step, self.evaluations):
                    print(f"note     {self.config.early_stopping:,} evaluations brought no better "
                          f"accuracy on validation images: training ends at step {step:,}")
                    break
                yield step, stop
                bar.update(stop - step)
                step = stop
                if run.signal:
                    run.save(step, self.state())
                    run.interrupt(step)
            self.step = step
        run.saves_on_signals = False

    def end_of_block(self, step):
        """Return up to where to train at once: about a second, so that a signal is soon noticed."""
        steps = int(self.speed / self.config.batch_size) or 1  # one, while the speed is not known
        return min(step - step % BLOCK + BLOCK, step + steps, self.total)

    def learning_rates(self, step, stop):
        """Return the learning rates of steps step .. stop - 1, float32."""
        return np.float32([utils.learning_rate(s, self.total, self.config)
                           for s in range(step, stop)])

    def update(self, step, stop, rates):
        """Train for the steps step .. stop - 1 in one graph call; return their losses."""
        size = self.config.batch_size
        indices = utils.batch_indices(stream_seed(self.config.seed, "order"), step, stop, size,
                                      len(self.data.images))
        self.train_steps.wait()  # which is no time of training
        start = time.perf_counter()
        losses = self.train_steps(indices, rates, step).numpy()
        elapsed = time.perf_counter() - start
        self.seconds += elapsed
        self.speed = size * (stop - step) / elapsed
        return losses

    def observe(self, run, step):
        """Do what is due at a step: snapshot, evaluation, checkpoint. A signal ends it at once; a
        checkpoint then says that it is still due."""
        lengths = run.events.lengths()
        try:
            with run.left_at_once():
                self._observe(run, step)
        except Interrupted:
            if step:
                run.save(step, self.state() | {"due": True}, lengths)
                run.interrupt(step)
            raise

    def _observe(self, run, step):
        if step in self.snapshots | self.evaluations:
            self.measure()
        if step in self.snapshots:
            run.snapshot(step, self.snapshot())
        if step in self.evaluations:
            results = self.evaluate()
            run.events.log_evaluation(step, results)
            if "validation" in results:
                self.best.observe(step, results["validation"][1], self.weights())
            log_inside(run.events, step, self.model, *self.probe)
            run.save(step, self.state())
            Progress.write(f"step {step:6,}  " + "  ".join(
                f"{part} {100 * accuracy:.2f} %" for part, (_, accuracy, _) in results.items()))

    def evaluate(self):
        """Return {"train" | "validation": (loss, accuracy, batch_noise)}."""
        size = self.config.batch_size
        return {part: (*evaluate(logits, labels), batch_noise(logits, labels, size))
                for part, (images, labels) in self.data.observed.items()
                for logits in [self.predict(images)]}

    def state(self):
        """Return everything that training needs to go on, {name: array}."""
        return {**{name: v.numpy() for name, v in self.variables.items()}, "seconds": self.seconds,
                **self.best.state()}

    def weights(self):
        """Return {name: variable} of the network's weights."""
        return graph.name_weights(self.model.weights)

    def snapshot(self):
        """Return what figures of training read, {name: array}: graph.weights_of_figures, and of
        each dense activation, how many units are positive on none of the sample of training images
        ("unused_units/<name>")."""
        arrays = {path: v.numpy() for path, v in graph.weights_of_figures(self.model).items()}
        dense = {name: x for name, x in graph.stages(self.model).items() if len(x.shape) == 2}
        if dense:
            values = tf.nest.flatten(keras.Model(self.model.input, list(dense.values()))(
                self.sample, training=False))  # of a list of one Keras makes no list
            arrays |= {f"unused_units/{name}": np.sum(~np.any(np.greater(x, 0), 0))
                       for name, x in zip(dense, values, strict=True)}
        return arrays

    def test(self, flip=False):
        """Return the final result {name: number}: the test images are seen here for the first time,
        and once (with `flip` also averaged with their horizontal flips)."""
        if self.config.weights == "best":
            graph.assign(self.weights(), self.best.weights, "the best evaluation")
        images, labels = self.data.source.test_images, self.data.source.test_labels
        logits = np.float32(self.predict(images))
        right = recognised(logits, labels)
        self.of_class = {self.data.classes[c]: right[labels == c].mean() for c in np.unique(labels)}
        parts = {**self.evaluate(), "test": evaluate(logits, labels)}
        result = {f"{part}_accuracy": values[1] for part, values in parts.items()}
        result |= {f"{part}_loss": values[0] for part, values in parts.items()}
        if flip:
            both = tf.nn.softmax(logits) + tf.nn.softmax(self.predict(images[:, :, ::-1]))
            result["test_accuracy_flipped"] = evaluate(both, labels)[1]
        return result | ({"best_step": self.best.step} if self.best.is_wanted else {})

    def best_and_worst(self):
        """Return in words which class is recognised best, and which worst."""
        if len({*self.of_class.values()}) < 2:
            return "all alike"
        worst, *_, best = sorted(self.of_class, key=self.of_class.get)
        return (f"best {best}, {100 * self.of_class[best]:.1f} %; worst {worst}, "
                f"{100 * self.of_class[worst]:.1f} %")

    def finish(self, run, result):
        """Record the final result, and print it. Raises Diverged if a loss is not finite."""
        if not all(np.isfinite(value) for value in result.values()):
            raise run.diverged("a loss of the final evaluation", self.step)
        seconds, title, best = self.seconds, self.data.source.title, self.best
        is_best = self.config.weights == "best"
        run.events.log_evaluation(best.step if is_best else self.step, {
            "test": (result["test_loss"], result["test_accuracy"])})
        if is_best:  # the last are to be those of the weights that are kept
            log_kernels(run.events, self.step, self.model)
        log_norms_over_time(run.events, self.model, *self.probe)
        speed = self.step * self.config.batch_size / seconds
        result |= {"train_seconds": seconds, "images_per_second": speed}
        result |= {"steps_taken": self.step} if self.config.early_stopping else {}
        plain.save(run.path, self.model, self.data.mean, self.data.std)
        if best.is_wanted and not is_best:
            save_best(run.path, best.weights)
        run.finish(self.step, result)
        if best.is_wanted:
            print(f"weights  {'best, of' if is_best else 'last; best were those of'} step "
                  f"{best.step:,}, {100 * best.accuracy:.2f} % of the validation images")
        also = "" if "test_accuracy_flipped" not in result else (
            f", {100 * result['test_accuracy_flipped']:.1f} % averaged with horizontal flips")
        print(f"test     {100 * result['test_accuracy']:.2f} % of "
              f"{len(self.data.source.test_labels):,} images{also}; {title}\n"
              f"class    {self.best_and_worst()}\n"
              f"time     {seconds:.0f} s for {self.step:,} steps, {speed:,.0f} images/s\n"
              f"curves   tensorboard --logdir {run.config.logdir}\n"
              f"figures  python visualize.py all {run.path}")
