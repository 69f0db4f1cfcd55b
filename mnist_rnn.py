"""Train an RNN, LSTM or GRU on MNIST: an image is a sequence of 28 rows of 28 pixels.

    python mnist_rnn.py                                 a GRU by the best recipe
    python mnist_rnn.py --cell lstm --recipe original   an LSTM as in the original report
    python mnist_rnn.py --order sweeps --units 32       patch by patch, along columns, then rows
"""
import dataclasses
import sys

from system import machine
from system.command_line import InputError, main, option, parse
from training.cells import CELLS
from training.config import Experiment

RECIPES = {  # "best rnn": what the best recipe adds for --cell rnn
    "best": dict(steps=3125, layers=2, batch_size=32, learning_rate=3e-3, schedule="cosine",
                 warmup=0.1, clipnorm=1.0, standardize=True, shift=1, rotation=10.0, zoom=0.1),
    "best rnn": dict(steps=9375, learning_rate=1e-3),
    "original": dict(steps=1562),
    "original rnn": dict(steps=2343),
}


@dataclasses.dataclass(frozen=True)
class Config(Experiment):
    """Network."""
    NAME = "{cell}-{units}-{recipe}"
    AUTO = "mnist"
    cell: str = option("gru", "recurrent cell; gru has its reset gate after the product, "
                       "gru-reset-before before it", tuple(CELLS))
    units: int = option(128, "units of each recurrent layer", low=1)
    forget_bias: float = option(1.0, "lstm: bias of the forget gate before training",
                               low=-100, high=100)
    layers: int = option(1, "recurrent layers", low=1)
    order: str = option("rows", "what the sequence runs over; sweeps: patches of 2x2, each layer "
                        "down, up, right and left (ReNet)", ("rows", "columns", "sweeps"))
    dropout: float = option(0.0, "share of the last state dropped in training", low=0, high=0.95)
    batch_size: int = 128  # other defaults than the other experiments': the original's
    schedule: str = "exponential"
    decay_steps: int = 10_000
    staircase: bool = False
    validation_split: float = 1 / 12


if __name__ == "__main__":  # --help and wrong options answer before the slow imports below
    config = parse(Config, RECIPES)
    machine.use_threads(config.threads)

import keras
import numpy as np

from training.loop import POLICIES, Training, load_training_data
from training.recurrent import Recurrent, Sweeps
from training.run import Run, stream_seed


def build_model(input_shape, classes, config):
    """Read images (height, width, channels) as sequences -> logits (batch, classes).

    `layers` recurrent layers over rows or columns, the last one's last state, dropout, dense; with
    --order sweeps as many layers of Sweeps, dropout, dense on all states of the last.
    Raises InputError where --order sweeps meets maps with an odd side, and for a forget bias of a
    cell that has no forget gate.
    """
    if config.forget_bias != 1 and CELLS[config.cell].forget_gate < 0:
        raise InputError(f"--forget-bias: the cell {config.cell} has no forget gate; leave it out")
    policy = POLICIES[config.precision]
    seeds = np.random.default_rng(stream_seed(config.seed, "initialisation"))

    def options(i):
        return dict(cell=config.cell, units=config.units, dtype=policy, name=f"{config.cell}{i}",
                    forget_bias=config.forget_bias, seed=int(seeds.integers(2 ** 31)))

    x = images = keras.Input(input_shape, name="images")
    if config.order not in ("rows", "columns", "sweeps"):
        raise ValueError(f"no order {config.order!r}")
    if config.order == "sweeps":
        for i in range(1, config.layers + 1):
            try:
                x = Sweeps(**options(i))(x)
            except ValueError as error:
                raise InputError(f"--order sweeps, layer {i}: {error}") from error
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
    return keras.Model(images, logits, name=f"{config.cell}-{config.units}")


def train(config):
    """Train, evaluate and record one run. Raises InputError, Diverged or Interrupted."""
    with Run("mnist_rnn", config) as run:
        if run.finished:
            return
        data = load_training_data(config)
        training = Training(build_model, data, config)
        for step, stop in training.blocks(run):      # fifty steps, or fewer up to what is due
            rates = training.learning_rates(step, stop)
            losses = training.update(step, stop, rates)
            run.log_steps(step, losses, rates, training.speed)
            training.observe(run, stop)              # snapshot, evaluation, checkpoint: what is due
        training.finish(run, training.test())


if __name__ == "__main__":
    sys.exit(main(train, config))
