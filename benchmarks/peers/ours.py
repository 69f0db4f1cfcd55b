"""This project: the experiment's own training steps."""
import dataclasses

import numpy as np

import cifar_lenet5
import mnist_rnn
from peers import CHUNK, RATE
from system import machine
from training.loop import make_train_steps
from training.optimizers import create_slots
from training.parallel import make_predict

machine.use_threads(machine.cores())


def build(case):
    if case.network == "lenet5":
        config = cifar_lenet5.Config(batch_size=case.batch, precision=case.precision,
                                     batch_norm="before" if case.norm else "none",
                                     activation="leaky_relu" if case.norm else "relu")
        build_model = cifar_lenet5.build_model
    else:
        config = mnist_rnn.Config(batch_size=case.batch, precision=case.precision,
                                  cell=case.network, units=case.units)
        build_model = mnist_rnn.build_model
    images, labels = case.images()

    def block(config, model):
        for variable, value in zip(model.trainable_variables, case.weights()):
            variable.assign(value)
        slots = create_slots("adam", [v.value for v in model.trainable_variables])
        return make_train_steps(model, slots, config, 0.0, 1.0, images, labels)

    def loss():
        sure = dataclasses.replace(config, dropout=0.0)
        first = block(sure, build_model(case.shape, 10, sure))
        return float(first(np.arange(case.batch, dtype=np.int32)[None], np.float32([0]), 0)[0])
    model = build_model(case.shape, 10, config)
    train_steps = block(config, model)

    def train(steps):
        indices = np.random.default_rng(0).integers(0, case.count, (steps, case.batch), np.int32)
        train_steps(indices, np.full(steps, RATE, np.float32), 0).numpy()
    predict = make_predict(model, 0.0, 1.0, config.threads)
    return loss, train, lambda: predict(images, CHUNK)
