"""LeNet-5 on CIFAR-10.

    python cifar_lenet5.py                       the best recipe on the course's 10,000 grey images
    python cifar_lenet5.py --recipe original-bn  as in the original report, with batch norm
    python cifar_lenet5.py --data cifar10        all of CIFAR-10, in colour
"""
import dataclasses
import functools
import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import machine
import runs
from options import option, parse

RECIPES = {
    "best": dict(
        epochs=60.0, batch=128, optimizer="adamw", rate=2e-3, schedule="cosine", warmup=0.05,
        weight_decay=0.05, batch_norm="after", activation="leaky", standardize=True, flip=True,
        shift=3, label_smoothing=0.1,
        precision="bfloat16" if machine.has_bfloat16() else "float32"),
    "original": dict(steps=5000),
    "original-bn": dict(steps=2000, rate=1e-3, batch_norm="before", activation="leaky"),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Every option of a run. The defaults are the original's; `best` is in RECIPES."""
    NAME = "{recipe}"
    # which run
    recipe: str = option("best", "named set of defaults", tuple(RECIPES), names_run=False)
    seed: int = option(0, "seed of initialisation, order, augmentation and dropout", low=0,
                       names_run=False)
    name: str = option("", "run name; empty: the recipe and what differs from it", names_run=False)
    logs: str = option("logs", "folder of all runs", names_run=False)
    resume: bool = option(False, "go on from the last checkpoint of an interrupted run",
                          names_run=False)
    overwrite: bool = option(False, "replace an existing run", names_run=False)
    # data
    data: str = option("auto", "auto, elec677, cifar10, mnist, synthetic, or the path of a folder "
                       "or zip of train/<class>/* and test/<class>/*")
    data_dir: str = option(runs.DATA_DIR, "folder of data sets, also set by the environment "
                           "variable DATA_DIR", names_run=False)
    grey: bool = option(False, "make colour images grey")
    classes: str = option("", "numbers of the classes to keep, like 0-4 or 0,2,7; empty: all")
    per_class: int = option(0, "training images of each class, drawn at random; 0: all", low=0)
    validation_fraction: float = option(0.1, "share of the training images held out for choices; 0 "
                                        "trains on all", low=0, high=0.9)
    # network
    kernel_size: int = option(5, "side of the convolution kernels, pixels", low=1)
    filters: tuple = option((32, 64), "feature maps of each convolutional layer", low=1)
    units: int = option(1024, "units of the hidden dense layer; 0: no such layer", low=0)
    dropout: float = option(0.5, "share of hidden units dropped in training", low=0, high=0.95)
    activation: str = option("relu", "rectifier", ("relu", "leaky"))
    alpha: float = option(0.1, "slope of the leaky rectifier below zero", low=0, high=1)
    batch_norm: str = option("none", "normalise each convolutional layer's output over the batch, "
                             "before or after pooling it", ("none", "before", "after"))
    # training
    epochs: float = option(0.0, "passes over the training images, instead of --steps", low=0,
                           clears="steps")
    steps: int = option(0, "parameter updates", low=0, clears="epochs")
    batch: int = option(64, "images an update", low=1)
    optimizer: str = option("adam", "method", ("adam", "adamw", "sgd", "rmsprop"))
    rate: float = option(1e-4, "learning rate, before decay", low=0)
    schedule: str = option("exponential", "decay of the rate",
                           ("constant", "exponential", "inverse-time", "cosine"))
    decay_factor: float = option(0.97, "exponential, inverse-time: factor", low=0)
    staircase: bool = option(True, "exponential: decay in steps, not continuously")
    decay_every: int = option(250, "exponential, inverse-time: steps per factor", low=1)
    warmup: float = option(0.0, "share of the steps in which the rate rises from 0", low=0, high=1)
    momentum: float = option(0.9, "sgd, rmsprop: momentum", low=0, high=1)
    nesterov: bool = option(True, "sgd: Nesterov's momentum")
    weight_decay: float = option(0.0, "adamw: decoupled decay of kernels; else their L2 term",
                                 low=0)
    clip: float = option(0.0, "largest norm of the gradient, all weights together; 0: any", low=0)
    loss: str = option("logits", "cross-entropy from logits, or the original's log(softmax), which "
                       "can be NaN", ("logits", "unclamped"))
    label_smoothing: float = option(0.0, "share of the target spread over all classes", low=0,
                                    high=1)
    # input
    standardize: bool = option(False, "subtract the training pixels' mean, divide by their std")
    flip: bool = option(False, "mirror at random, left to right")
    shift: int = option(0, "shift at random by up to this many pixels", low=0)
    rotate: float = option(0.0, "rotate at random by up to this many degrees", low=0, high=180)
    zoom: float = option(0.0, "scale at random by up to this share", low=0, high=0.9)
    elastic: float = option(0.0, "distort smoothly at random, by this standard deviation in pixels",
                            low=0)
    cutout: int = option(0, "side of a random square set to the training pixels' mean, "
                         "pixels", low=0)
    # machine and records
    precision: str = option("float32", "of convolutions and products; weights stay float32",
                            ("float32", "bfloat16"))
    replicas: int = option(machine.cores(), "shares of a batch computed at a time, one core each",
                           low=1, names_run=False)
    evaluations: int = option(20, "evaluations over the run, each with a checkpoint", low=1,
                              names_run=False)
    snapshots: int = option(8, "weights kept at this many logarithmically spaced steps", low=0,
                            names_run=False)


if __name__ == "__main__":  # --help and wrong options answer before the slow imports below
    config = parse(Config, RECIPES)
    machine.use_replicas(config.replicas)

with machine.quiet_import():
    import keras
    import tensorflow as tf
    from keras.src.utils import naming

import numpy as np  # noqa: E402
from tqdm import tqdm  # noqa: E402

import graph  # noqa: E402
import utils  # noqa: E402
from checks import check  # noqa: E402
from layers import BatchNormalization, Bias  # noqa: E402
from optimizers import apply_gradients, create_slots, is_decayed  # noqa: E402
from parallel import loss_and_gradients, make_predict, measure_statistics, shares  # noqa: E402
from preprocessing import augment, moments, prepare  # noqa: E402
from summaries import log_inside, log_norms_over_time  # noqa: E402

# TensorFlow's optimisation of graphs gains nothing here and delays the first step
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
tf.config.set_visible_devices([], "GPU")  # parts of a batch are for the cores of a processor

BLOCK = 50  # at most so many steps a graph call: a signal is noticed within a second or two


# ------------------------------------------------------------------------------------ network

def build_model(input_shape, classes, config):
    """LeNet-5: [conv -> max-pool -> bias or batch norm -> rectifier] twice, dense, dropout, dense.

    input_shape: (height, width, channels); output: logits (batch, classes), float32.
    Adding a bias, the rectifier and batch norm without a scale are increasing, so pooling before
    them gives what pooling after them gives, at a quarter of the work. With --batch-norm before,
    the moments are of the maps before pooling. Batch norm has no scale, which the next layer's
    weights make redundant; its shift stands for the convolution's bias, 0.1 at first like all
    biases (design of the original).
    """
    kinds, policy = keras.layers, {"float32": "float32", "bfloat16": "mixed_bfloat16"}[
        config.precision]
    seeds = np.random.default_rng(runs.stream_seed(config.seed, "initialisation"))
    bias = keras.initializers.Constant(0.1)

    def kernel():  # Xavier / Glorot, uniform
        return keras.initializers.GlorotUniform(seed=int(seeds.integers(2 ** 31)))

    def shift(maps, pooled, i):
        norm = BatchNormalization(scale=False, beta_initializer=bias, dtype=policy, name=f"norm{i}")
        return {"none": lambda: Bias(bias, dtype=policy, name=f"bias{i}")(pooled),
                "before": lambda: norm(pooled, of=maps),
                "after": lambda: norm(pooled)}[config.batch_norm]()

    def rectifier(name):
        slope = {"relu": 0.0, "leaky": config.alpha}[config.activation]
        return kinds.ReLU(negative_slope=slope, dtype=policy, name=name)

    x = images = keras.Input(input_shape, name="images")
    for i, filters in enumerate(config.filters, 1):
        maps = kinds.Conv2D(filters, config.kernel_size, padding="same", use_bias=False,
                            kernel_initializer=kernel(), dtype=policy, name=f"conv{i}")(x)
        pooled = kinds.MaxPooling2D(2, padding="same", dtype=policy, name=f"pool{i}")(maps)
        x = rectifier(f"relu{i}")(shift(maps, pooled, i))
    x = kinds.Flatten(dtype=policy, name="flatten")(x)
    if config.units:
        x = kinds.Dense(config.units, kernel_initializer=kernel(), bias_initializer=bias,
                        dtype=policy, name="hidden")(x)
        x = rectifier("relu_hidden")(x)
    x = kinds.Dropout(config.dropout, dtype=policy, name="dropout")(x)
    logits = kinds.Dense(classes, kernel_initializer=kernel(), bias_initializer=bias,
                         dtype="float32", name="logits")(x)
    model = keras.Model(images, logits, name="lenet5")
    if (input_shape, classes, config.kernel_size, config.filters, config.units,
            config.batch_norm) == ((28, 28, 1), 10, 5, (32, 64), 1024, "none"):
        assert model.count_params() == 3_274_634
    return model


# ----------------------------------------------------------------------------------- training

def make_model(build_model, input_shape, classes, config):
    """What build_model returns, if it can be trained; else InputError says why not.

    Initial weights are a function of --seed even where a layer has no seed of its own, and layers
    without a name are numbered from 1 each time.
    """
    naming.reset_uids()
    keras.utils.set_random_seed(runs.stream_seed(config.seed, "layers"))
    model = build_model(input_shape, classes, config)
    check(model, input_shape, classes)
    return model


LOSSES = {
    "logits": lambda targets, logits: tf.nn.softmax_cross_entropy_with_logits(targets, logits),
    "unclamped": lambda targets, logits: -tf.reduce_sum(
        targets * tf.math.log(tf.nn.softmax(logits)), axis=1)}


def cross_entropy(targets, logits, kind="logits"):
    """Cross-entropy of each image, (batch,), from target probabilities and logits (batch, classes).

    "unclamped" is log(softmax(logits)) as the original wrote it: a probability that underflows to 0
    makes it NaN.
    """
    return LOSSES[kind](targets, tf.cast(logits, tf.float32))


@tf.autograph.experimental.do_not_convert  # looking for what to convert is slow
def train_step(model, slots, config, mean, std, images, labels, indices, rate, step, fill=0.0):
    """One update on images[indices]; returns its mean loss. Everything random is drawn from `step`.

    fill: what is seen in the holes of --cutout, as network input.
    """
    sizes = shares(indices.shape[0], config.replicas)
    seeds = {stream: tf.stack([runs.stream_seed(config.seed, stream), step])
             for stream in ("transforms", "elastic", "holes", "dropout")}
    targets = tf.one_hot(tf.gather(labels, indices), model.output.shape[1])
    targets = (1 - config.label_smoothing) * targets + config.label_smoothing / targets.shape[1]
    parts = tf.split(tf.cast(tf.gather(images, indices), tf.float32), sizes)
    parts = augment(parts, seeds, config, mean, std, fill)
    variables = [v.value for v in model.trainable_variables]
    loss, gradients = loss_and_gradients(model, variables, parts, tf.split(targets, sizes),
                                         seeds["dropout"],
                                         functools.partial(cross_entropy, kind=config.loss))
    idle = [v.path for v, g in zip(model.trainable_variables, gradients, strict=True) if g is None]
    if idle:
        print(f"note     the loss does not depend on {', '.join(idle)}: these stay as they are")
    if config.clip:
        gradients, _ = tf.clip_by_global_norm(gradients, config.clip)
    apply_gradients(config.optimizer, variables, slots, gradients, step, rate,
                    config.momentum, config.nesterov, config.weight_decay,
                    list(map(is_decayed, model.trainable_variables)))
    for variable in model.trainable_variables:
        if variable.constraint is not None:
            variable.value.assign(variable.constraint(variable.value))
    return loss


def make_train_block(model, slots, config, *data):
    """train_step as one graph of many steps; `data` is its mean, std, images and labels.

    Returned function: (indices (steps, batch), rates (steps,), first step) -> losses (steps,).
    """
    mean, std, images, _ = data
    fill = (moments(images.numpy())[0] - mean) / std if config.cutout else 0.0

    @tf.function(input_signature=(tf.TensorSpec((None, config.batch), tf.int32),
                                  tf.TensorSpec((None,), tf.float32), tf.TensorSpec((), tf.int32)))
    def train_block(indices, rates, first):
        losses = tf.TensorArray(tf.float32, tf.shape(rates)[0])
        for i in tf.range(tf.shape(rates)[0]):
            loss = train_step(model, slots, config, *data, indices[i], rates[i], first + i, fill)
            losses = losses.write(i, loss)
        return losses.stack()

    train_block = train_block.get_concrete_function()
    # the first call, here of no steps, prepares the graph (of a recurrent net all but its parts'
    # functions); the caller need not wait for it
    first_call = ThreadPoolExecutor(1).submit(
        train_block, tf.zeros((0, config.batch), tf.int32), tf.zeros(0), tf.constant(0))

    def train_steps(indices, rates, first):
        first_call.result()
        return train_block(indices, rates, first)
    return train_steps


def evaluate(logits, labels):
    """(mean cross-entropy, accuracy 0 .. 1) of logits (n, classes) against labels (n,)."""
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return float(tf.reduce_mean(loss)), float(np.mean(np.argmax(logits, axis=1) == labels))


# -------------------------------------------------------------------------------------- a run

def load(config, load_data=utils.load_images):
    """The images a run sees: (data set, training images, their labels, observed, mean, std).

    observed: {"train" | "validation": (images, labels)} to evaluate on while training; mean and std
    of the training pixels, 0 and 1 without standardization.
    """
    data = utils.restrict(load_data(config.data, config.data_dir), config.classes, config.grey)
    chosen, held_out = utils.split_validation(data.train_labels, config.validation_fraction)
    if config.per_class:
        chosen = chosen[utils.some_of_each_class(data.train_labels[chosen], config.per_class,
                                                 runs.stream_seed(config.seed, "subset"))]
    images, labels = data.train_images[chosen], data.train_labels[chosen]
    sample = np.linspace(0, len(images) - 1, min(1000, len(images))).astype(int)
    observed = {"train": (images[sample], labels[sample])}
    if len(held_out):
        observed["validation"] = data.train_images[held_out], data.train_labels[held_out]
        without = np.setdiff1d(data.train_labels, data.train_labels[held_out])
        if len(without):
            print("note     no validation image of "
                  f"{', '.join(data.classes[c] for c in without)}: one image alone is for training")
    return data, images, labels, observed, *(moments(images) if config.standardize else (0.0, 1.0))


def train(config):
    """Train, evaluate and record one run. Raises runs.InputError, Diverged or Interrupted."""
    with runs.Run("cifar_lenet5", config) as run:
        if run.finished:
            print(f"{run.path} is finished; --overwrite to replace it")
            return
        data, images, labels, observed, mean, std = load(config)
        total = config.steps or math.ceil(config.epochs * len(images) / config.batch)
        if not total:
            raise runs.InputError("nothing to train: give --steps or --epochs above 0")
        model = make_model(build_model, images.shape[1:], len(data.classes), config)
        run.describe(total_steps=total, parameters=model.count_params(), data=dict(
            name=data.name, title=data.title, checksum=data.checksum, classes=data.classes,
            train=len(images), validation=len(data.train_labels) - len(images),
            test=len(data.test_labels), mean=mean, std=std),
            network=graph.describe(model))
        print(f"data     {data.title}\nnetwork  {model.count_params():,} weights\n"
              f"run      {run.path}: {total:,} steps of {config.batch} images, {config.precision}, "
              f"{config.replicas} replica{'s' * (config.replicas > 1)}")

        slots = create_slots(config.optimizer, [v.value for v in model.trainable_variables])
        variables = graph.name_weights(model.weights)
        variables |= {f"{name}//{path}": slot for name, values in slots.items()
                      for path, slot in zip(graph.name_weights(model.trainable_variables), values)}
        predict = make_predict(model, mean, std, config.replicas)
        train_block = make_train_block(model, slots, config, mean, std, tf.constant(images),
                                       tf.constant(labels))
        order = runs.stream_seed(config.seed, "order")
        evaluations = set(
            np.linspace(0, total, config.evaluations + 1).round().astype(int).tolist())
        snapshots = {0, *np.geomspace(1, total, config.snapshots).round().astype(int).tolist()}
        probe = prepare(observed["train"][0][:100], mean, std), observed["train"][1][:100]
        step, state = run.restore()
        seconds = float(state.pop("seconds")) if state else 0.0
        if state:
            graph.assign(variables, state, f"the checkpoint of {run.path}")

        def save():
            state = {name: v.numpy() for name, v in variables.items()}
            if not all(np.isfinite(value).all() for value in state.values()):
                raise run.diverged("a weight", step, rates[-1])
            run.save(step, {**state, "seconds": seconds})

        def record():
            """Whatever is due at this step: snapshot, evaluation, checkpoint."""
            if step in snapshots | evaluations:
                measure_statistics(model, prepare(observed["train"][0], mean, std))
            if config.snapshots and step in snapshots:
                run.snapshot(step, {name: v.numpy() for name, v in
                                    graph.name_weights(model.weights).items()})
            if step in evaluations:
                results = {part: evaluate(predict(x), y) for part, (x, y) in observed.items()}
                run.log_evaluation(step, results)
                log_inside(run, step, model, *probe)
                save()
                tqdm.write(f"step {step:6,}  " + "  ".join(
                    f"{part} {100 * accuracy:.1f} %" for part, (_, accuracy) in results.items()))

        if not state:
            run.log_options()
            record()
        with tqdm(total=total, initial=step, unit="step", disable=None, leave=False) as bar:
            for stop in sorted({*evaluations, *snapshots, *range(0, total, BLOCK)}):
                if stop <= step:
                    continue
                rates = np.float32([utils.learning_rate(s, total, config)
                                    for s in range(step, stop)])
                indices = utils.batch_indices(order, step, stop, config.batch, len(images))
                start = time.perf_counter()
                losses = train_block(indices, rates, step).numpy()
                elapsed = time.perf_counter() - start
                seconds += elapsed
                run.log_steps(step, losses, rates, config.batch * (stop - step) / elapsed)
                for i in np.flatnonzero(~np.isfinite(losses))[:1]:
                    raise run.diverged("the loss", step + i, rates[i])
                bar.update(stop - step)
                step = stop
                record()
                if run.signal:
                    save()
                    run.interrupt(step)
        log_norms_over_time(run, model, *probe)
        conclude(run, data, predict, observed, total, seconds)


def conclude(run, data, predict, observed, steps, seconds, mirror=True):
    """Final accuracies, on the test images too, which are seen here for the first time, and once.
    """
    logits = predict(data.test_images)
    loss, accuracy = evaluate(logits, data.test_labels)
    run.log_evaluation(steps, {"test": (loss, accuracy)})
    result = {f"{part}_accuracy": evaluate(predict(x), y)[1] for part, (x, y) in observed.items()}
    result["test_accuracy"], also = accuracy, ""
    if mirror:
        both = tf.nn.softmax(logits) + tf.nn.softmax(predict(data.test_images[:, :, ::-1]))
        result["test_accuracy_mirrored"] = evaluate(both, data.test_labels)[1]
        also = f", {100 * result['test_accuracy_mirrored']:.1f} % averaged with their mirror images"
    result |= {"train_seconds": seconds, "images_per_second": steps * run.config.batch / seconds}
    run.finish(steps, result)
    print(f"test     {100 * accuracy:.2f} % of {len(logits):,} images{also}; {data.title}\n"
          f"time     {seconds:.0f} s for {steps:,} steps, "
          f"{result['images_per_second']:,.0f} images/s\n"
          f"curves   tensorboard --logdir {run.config.logs}\n"
          f"figures  python visualize.py all {run.path}")


if __name__ == "__main__":
    sys.exit(runs.main(train, config))
