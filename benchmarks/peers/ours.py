"""This project: the experiment's own training block."""
import dataclasses

import numpy as np

import machine

machine.use_replicas(machine.cores())
with machine.quiet_import():
    import tensorflow as tf

import cifar_lenet5  # noqa: E402
import mnist_rnn  # noqa: E402
from optimizers import create_slots  # noqa: E402
from parallel import make_predict  # noqa: E402
from peers import CHUNK, RATE  # noqa: E402


def build(case):
    if case.network == "lenet5":
        config = cifar_lenet5.Config(batch=case.batch, precision=case.precision,
                                     batch_norm="before" if case.norm else "none",
                                     activation="leaky" if case.norm else "relu")
        build_model = cifar_lenet5.build_model
    else:
        config = mnist_rnn.Config(batch=case.batch, precision=case.precision, cell=case.network,
                                  hidden=case.units)
        build_model = mnist_rnn.build_model
    images, labels = (tf.constant(x) for x in case.images())

    def block(config, model):
        for variable, value in zip(model.trainable_variables, case.weights()):
            variable.assign(value)
        slots = create_slots("adam", [v.value for v in model.trainable_variables])
        return cifar_lenet5.make_train_block(model, slots, config, 0.0, 1.0, images, labels)

    def loss():
        sure = dataclasses.replace(config, dropout=0.0)
        first = block(sure, build_model(case.shape, 10, sure))
        return float(first(np.arange(case.batch, dtype=np.int32)[None], np.float32([0]), 0)[0])
    model = build_model(case.shape, 10, config)
    train_block = block(config, model)

    def train(steps):
        indices = np.random.default_rng(0).integers(0, case.count, (steps, case.batch), np.int32)
        train_block(indices, np.full(steps, RATE, np.float32), 0).numpy()
    predict = make_predict(model, 0.0, 1.0, config.replicas)
    return loss, train, lambda: predict(images, CHUNK)
