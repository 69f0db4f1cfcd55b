"""Train LeNet-5 on CIFAR-10.

    python cifar_lenet5.py                       the best recipe on the course's 10,000 grey images
    python cifar_lenet5.py --recipe original-bn  as in the original report, with batch norm
    python cifar_lenet5.py --data cifar10        all of CIFAR-10, in colour
    python cifar_lenet5.py --data mnist --recipe mnist   MNIST, beside the networks of mnist_rnn.py
"""
import dataclasses
import sys

from system import machine
from system.command_line import main, option, parse
from training.config import Experiment

RECIPES = {
    "best": dict(
        epochs=60.0, batch_size=128, optimizer="adamw", learning_rate=2e-3, schedule="cosine",
        warmup=0.05, weight_decay=0.05, batch_norm="after", activation="leaky_relu",
        standardize=True, horizontal_flip=True, shift=3, label_smoothing=0.1,
        precision="bfloat16" if machine.has_bfloat16() else "float32"),
    "original": dict(steps=5000),
    "original-bn": dict(steps=2000, learning_rate=1e-3, batch_norm="before",
                        activation="leaky_relu"),
    "mnist": dict(
        steps=3125, batch_size=32, learning_rate=3e-3, schedule="cosine", warmup=0.1, clipnorm=1.0,
        dropout=0.0, standardize=True, shift=1, rotation=10.0, zoom=0.1, validation_split=1 / 12),
}


@dataclasses.dataclass(frozen=True)
class Config(Experiment):
    """Network."""
    kernel_size: int = option(5, "side of the convolution kernels, pixels", low=1)
    filters: tuple = option((32, 64), "feature maps of each convolutional layer", low=1)
    units: int = option(1024, "units of the hidden dense layer; 0: no such layer", low=0)
    dropout: float = option(0.5, "share of hidden units dropped in training", low=0, high=0.95)
    flatten_dropout: float = option(0.0, "share of the last maps' values dropped", low=0)
    activation: str = option("relu", "activation", ("relu", "leaky_relu"))
    negative_slope: float = option(0.1, "leaky_relu: slope below zero", low=0, high=1)
    batch_norm: str = option("none", "normalise each convolutional layer's output over the batch, "
                             "before or after pooling it", ("none", "before", "after"))
    learning_rate: float = 1e-4  # other defaults than the other experiments': the original's
    schedule: str = "exponential"
    snapshots: int = 8


if __name__ == "__main__":  # --help and wrong options answer before the slow imports below
    config = parse(Config, RECIPES)
    machine.use_threads(config.threads)

import keras
import numpy as np

from training.layers import BatchNormalization, Bias
from training.loop import POLICIES, Training, load_training_data
from training.run import Run, stream_seed


def build_model(input_shape, classes, config):
    """Build LeNet-5: [conv -> max-pool -> bias or batch norm -> ReLU] twice, dense, dropout, dense.

    input_shape: (height, width, channels); output: logits (batch, classes), float32.
    Adding a bias, the ReLU and batch norm without a scale are increasing, so pooling before them
    gives what pooling after them gives, at a quarter of the work. With --batch-norm before, the
    moments are of the maps before pooling. Batch norm has no scale, which the next layer's weights
    make redundant; its shift stands for the convolution's bias, 0.1 at first like all biases (as in
    the original).
    """
    kinds, policy = keras.layers, POLICIES[config.precision]
    seeds = np.random.default_rng(stream_seed(config.seed, "initialisation"))
    bias = keras.initializers.Constant(0.1)

    def kernel():  # Xavier / Glorot, uniform
        return keras.initializers.GlorotUniform(seed=int(seeds.integers(2 ** 31)))

    def shift(maps, pooled, i):
        norm = BatchNormalization(scale=False, beta_initializer=bias, dtype=policy, name=f"norm{i}")
        return {"none": lambda: Bias(bias, dtype=policy, name=f"bias{i}")(pooled),
                "before": lambda: norm(pooled, of=maps),
                "after": lambda: norm(pooled)}[config.batch_norm]()

    def relu(name):
        slope = {"relu": 0.0, "leaky_relu": config.negative_slope}[config.activation]
        return kinds.ReLU(negative_slope=slope, dtype=policy, name=name)

    x = images = keras.Input(input_shape, name="images")
    for i, filters in enumerate(config.filters, 1):
        maps = kinds.Conv2D(filters, config.kernel_size, padding="same", use_bias=False,
                            kernel_initializer=kernel(), dtype=policy, name=f"conv{i}")(x)
        pooled = kinds.MaxPooling2D(2, padding="same", dtype=policy, name=f"pool{i}")(maps)
        x = relu(f"relu{i}")(shift(maps, pooled, i))
    x = kinds.Flatten(dtype=policy, name="flatten")(x)
    if config.flatten_dropout:
        x = kinds.Dropout(config.flatten_dropout, dtype=policy, name="flatten_dropout")(x)
    if config.units:
        x = kinds.Dense(config.units, kernel_initializer=kernel(), bias_initializer=bias,
                        dtype=policy, name="hidden")(x)
        x = relu("relu_hidden")(x)
    x = kinds.Dropout(config.dropout, dtype=policy, name="dropout")(x)
    logits = kinds.Dense(classes, kernel_initializer=kernel(), bias_initializer=bias,
                         dtype="float32", name="logits")(x)
    model = keras.Model(images, logits, name="lenet5")
    if (input_shape, classes, config.kernel_size, config.filters, config.units,
            config.batch_norm) == ((28, 28, 1), 10, 5, (32, 64), 1024, "none"):
        assert model.count_params() == 3_274_634
    return model


def train(config):
    """Train, evaluate and record one run. Raises InputError, Diverged or Interrupted."""
    with Run("cifar_lenet5", config) as run:
        if run.finished:
            return
        data = load_training_data(config)
        training = Training(build_model, data, config)
        for step, stop in training.blocks(run):      # fifty steps, or fewer up to what is due
            rates = training.learning_rates(step, stop)
            losses = training.update(step, stop, rates)
            run.log_steps(step, losses, rates, training.speed)
            training.observe(run, stop)              # snapshot, evaluation, checkpoint: what is due
        training.finish(run, training.test(flip=True))


if __name__ == "__main__":
    sys.exit(main(train, config))
