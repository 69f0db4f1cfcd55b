"""RNN, LSTM and GRU on MNIST: an image is a sequence of 28 rows of 28 pixels.

    python mnist_rnn.py                                 a GRU by the best recipe
    python mnist_rnn.py --cell lstm --recipe original   an LSTM as in the original report
    python mnist_rnn.py --cell cnn                      LeNet-5 on the same images and budget
    python mnist_rnn.py --order sweeps --hidden 32      patch by patch, along columns, then rows
"""
import dataclasses
import sys
import time

import machine
import runs
from options import option, parse

RECIPES = {  # "best rnn": what the best recipe adds for --cell rnn
    "best": dict(layers=2, batch=32, rate=3e-3, schedule="cosine", warmup=0.1, clip=1.0,
                 standardize=True, shift=1, rotate=10.0, zoom=0.1),
    "best rnn": dict(samples=300_000, rate=1e-3),
    "original": dict(samples=200_000),
    "original rnn": dict(samples=300_000),
    "original cnn": dict(samples=100_000),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Every option of a run. The defaults are the original's; `best` is in RECIPES."""
    NAME = "{cell}-{hidden}-{recipe}"
    flip = grey = False  # digits are not their mirror images, and grey as they are
    # which run
    recipe: str = option("best", "named set of defaults", ("best", "original"), names_run=False)
    seed: int = option(0, "seed of initialisation, order, augmentation and dropout", low=0,
                       names_run=False)
    name: str = option("", "run name; empty: cell, units, recipe and what differs from it",
                       names_run=False)
    logs: str = option("logs", "folder of all runs", names_run=False)
    resume: bool = option(False, "go on from the last checkpoint of an interrupted run",
                          names_run=False)
    overwrite: bool = option(False, "replace an existing run", names_run=False)
    # data
    data: str = option("auto", "auto, mnist, synthetic, or the path of a folder of IDX files")
    data_dir: str = option(runs.DATA_DIR, "folder of data sets, also set by the environment "
                           "variable DATA_DIR", names_run=False)
    classes: str = option("", "numbers of the classes to keep, like 0-4 or 0,2,7; empty: all")
    per_class: int = option(0, "training images of each class, drawn at random; 0: all", low=0)
    validation_fraction: float = option(1 / 12, "share of the training images held out for "
                                        "choices; 0 trains on all", low=0, high=0.9)
    order: str = option("rows", "what the sequence runs over; sweeps: patches of 2x2, each layer "
                        "down, up, right and left", ("rows", "columns", "sweeps"))
    # network
    cell: str = option("gru", "recurrent cell; gru has its reset gate after the product, "
                       "gru-before before it; cnn is LeNet-5",
                       ("rnn", "lstm", "gru", "gru-before", "cnn"))
    hidden: int = option(128, "units of each recurrent layer", low=1)
    layers: int = option(1, "recurrent layers", low=1)
    dropout: float = option(0.0, "share of the last state (cnn: hidden units) dropped in training",
                            low=0, high=0.95)
    kernel_size: int = option(5, "cnn: side of the convolution kernels, pixels", low=1)
    filters: tuple = option((32, 64), "cnn: feature maps of each convolutional layer", low=1)
    units: int = option(1024, "cnn: units of the hidden dense layer; 0: no such layer", low=0)
    activation: str = option("relu", "cnn: rectifier", ("relu", "leaky"))
    alpha: float = option(0.1, "cnn: slope of the leaky rectifier below zero", low=0, high=1)
    batch_norm: str = option("none", "cnn: normalise each convolutional layer's output over the "
                             "batch, before or after pooling it", ("none", "before", "after"))
    # training
    samples: int = option(100_000, "training images seen, instead of --steps", low=0,
                          clears="steps")
    steps: int = option(0, "parameter updates", low=0, clears="samples")
    batch: int = option(128, "images an update", low=1)
    optimizer: str = option("adam", "method", ("adam", "adamw", "sgd", "rmsprop"))
    rate: float = option(1e-3, "learning rate, before decay", low=0)
    schedule: str = option("exponential", "decay of the rate",
                           ("constant", "exponential", "inverse-time", "cosine"))
    decay_factor: float = option(0.97, "exponential, inverse-time: factor", low=0)
    decay_every: int = option(10_000, "exponential, inverse-time: steps per factor", low=1)
    staircase: bool = option(False, "exponential: decay in steps, not continuously")
    warmup: float = option(0.0, "share of the steps in which the rate rises from 0", low=0, high=1)
    momentum: float = option(0.9, "sgd, rmsprop: momentum", low=0, high=1)
    nesterov: bool = option(True, "sgd: Nesterov's momentum")
    weight_decay: float = option(0.0, "adamw: decoupled decay of kernels; else their L2 term",
                                 low=0)
    clip: float = option(0.0, "largest norm of the gradient, all weights together; 0: any", low=0)
    loss: str = option("logits", "cross-entropy from logits, or log(softmax), which can be NaN",
                       ("logits", "unclamped"))
    label_smoothing: float = option(0.0, "share of the target spread over all classes", low=0,
                                    high=1)
    # input
    standardize: bool = option(False, "subtract the training pixels' mean, divide by their std")
    shift: int = option(0, "shift at random by up to this many pixels", low=0)
    rotate: float = option(0.0, "rotate at random by up to this many degrees", low=0, high=180)
    zoom: float = option(0.0, "scale at random by up to this share", low=0, high=0.9)
    elastic: float = option(0.0, "distort smoothly at random, by this standard deviation in pixels",
                            low=0)
    cutout: int = option(0, "side of a random square set to the training pixels' mean, "
                         "pixels", low=0)
    # machine and records
    precision: str = option("float32", "of matrix products and states; weights stay float32",
                            ("float32", "bfloat16"))
    replicas: int = option(machine.cores(), "shares of a batch computed at a time, one core each",
                           low=1, names_run=False)
    evaluations: int = option(20, "evaluations over the run, each with a checkpoint", low=1,
                              names_run=False)
    snapshots: int = option(0, "weights kept at this many logarithmically spaced steps", low=0,
                            names_run=False)


if __name__ == "__main__":  # --help and wrong options answer before the slow imports below
    config = parse(Config, RECIPES)
    machine.use_replicas(config.replicas)

with machine.quiet_import():
    import keras
    import tensorflow as tf

import numpy as np  # noqa: E402
from tqdm import tqdm  # noqa: E402

import cifar_lenet5  # noqa: E402
import graph  # noqa: E402
import utils  # noqa: E402
from cifar_lenet5 import conclude, evaluate, load, make_model, make_train_block  # noqa: E402
from optimizers import create_slots  # noqa: E402
from parallel import make_predict, measure_statistics  # noqa: E402
from preprocessing import prepare  # noqa: E402
from recurrent import Recurrent, Sweeps  # noqa: E402
from summaries import log_inside, log_norms_over_time  # noqa: E402

BLOCK = 50  # at most so many steps a graph call: a signal is noticed within a second or two


# ------------------------------------------------------------------------------------ network

def build_model(input_shape, classes, config):
    """Images (height, width, channels) as sequences of rows or columns -> logits (batch, classes).

    `layers` recurrent layers, the last one's last state, dropout, dense; with --order sweeps as
    many layers of Sweeps, dropout, dense on all states of the last; or LeNet-5 (--cell cnn).
    Raises InputError where --order sweeps meets maps with an odd side.
    """
    if config.cell == "cnn":
        return cifar_lenet5.build_model(input_shape, classes, config)
    policy = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[config.precision]
    seeds = np.random.default_rng(runs.stream_seed(config.seed, "initialisation"))

    def options(i):
        return dict(cell=config.cell, units=config.hidden, dtype=policy, name=f"{config.cell}{i}",
                    seed=int(seeds.integers(2 ** 31)))

    x = images = keras.Input(input_shape, name="images")
    if config.order not in ("rows", "columns", "sweeps"):
        raise ValueError(f"no order {config.order!r}")
    if config.order == "sweeps":
        for i in range(1, config.layers + 1):
            try:
                x = Sweeps(**options(i))(x)
            except ValueError as error:
                raise runs.InputError(f"--order sweeps, layer {i}: {error}") from error
        x = keras.layers.Flatten(dtype=policy, name="states")(x)
    else:
        if config.order == "columns":
            x = keras.layers.Permute((2, 1, 3), dtype=policy, name="columns")(x)
        x = keras.layers.Reshape((x.shape[1], -1), dtype=policy,
                                 name="sequence")(x)  # (steps, features)
        for i in range(1, config.layers + 1):
            x = Recurrent(return_sequences=i < config.layers, **options(i))(x)
    x = keras.layers.Dropout(config.dropout, dtype=policy, name="dropout")(x)
    logits = keras.layers.Dense(classes, dtype="float32", name="logits",
                                kernel_initializer=keras.initializers.GlorotUniform(
                                    seed=int(seeds.integers(2 ** 31))))(x)
    return keras.Model(images, logits, name=config.cell)


# The update is LeNet-5's: one loop, one split over cores, one set of optimizers for every network.
train_step = cifar_lenet5.train_step


# -------------------------------------------------------------------------------------- a run

def train(config):
    """Train, evaluate and record one run. Raises runs.InputError, Diverged or Interrupted."""
    with runs.Run("mnist_rnn", config) as run:
        if run.finished:
            print(f"{run.path} is finished; --overwrite to replace it")
            return
        data, images, labels, observed, mean, std = load(config, utils.load_digits)
        total = config.steps or config.samples // config.batch
        if not total:
            raise runs.InputError("nothing to train: give --steps, or --samples of at least one "
                                  "batch")
        model = make_model(build_model, images.shape[1:], len(data.classes), config)
        run.describe(total_steps=total, parameters=model.count_params(), data=dict(
            name=data.name, title=data.title, checksum=data.checksum, classes=data.classes,
            train=len(images), validation=len(data.train_labels) - len(images),
            test=len(data.test_labels), mean=mean, std=std),
            network=graph.describe(model))
        print(f"data     {data.title}\nnetwork  {config.cell}, {model.count_params():,} weights\n"
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
                    f"{part} {100 * accuracy:.2f} %" for part, (_, accuracy) in results.items()))

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
        conclude(run, data, predict, observed, total, seconds, mirror=False)


if __name__ == "__main__":
    sys.exit(runs.main(train, config))
