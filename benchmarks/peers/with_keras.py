"""Keras: the functional model, compile and fit, as its guides show it; tuned, with fifty steps a
call and a data set that does not tune itself.

The data sets that fit and predict make of arrays do: their tuning thread takes naps of 10, 20, 40
ms and so on, and what is done in between now and then waits for the end of one, 2.55 or 5.11 s
after the start of an epoch, whatever the network (TensorFlow 2.21).
"""
import keras
import tensorflow as tf
from keras import layers

from peers import CHUNK, RATE


def build_model(case, dropout, steps_per_execution):
    x = inputs = keras.Input(case.shape)
    if case.network == "lenet5":
        for filters in (32, 64):
            x = layers.Conv2D(filters, 5, padding="same", use_bias=not case.norm)(x)
            if case.norm:
                x = layers.BatchNormalization(scale=False)(x)
                x = layers.LeakyReLU(negative_slope=0.1)(x)
            else:
                x = layers.ReLU()(x)
            x = layers.MaxPooling2D(2)(x)
        x = layers.Dense(1024)(layers.Flatten()(x))
        x = layers.LeakyReLU(negative_slope=0.1)(x) if case.norm else layers.ReLU()(x)
        x = layers.Dropout(dropout)(x)
    else:
        x = layers.Reshape((case.shape[0], -1))(x)
        x = {"rnn": layers.SimpleRNN, "gru": layers.GRU,
             "lstm": layers.LSTM}[case.network](case.units)(x)
    model = keras.Model(inputs, layers.Dense(10, dtype="float32")(x))
    for variable, value in zip(model.trainable_variables, case.weights()):
        variable.assign(value)
    model.compile(keras.optimizers.Adam(RATE),
                  keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  steps_per_execution=steps_per_execution)
    return model


def batches(count, size, pick, shuffle=False):
    """Return a data set of pick(indices), `size` images at a time, that does not tune itself."""
    indices = tf.data.Dataset.range(count)
    options = tf.data.Options()
    options.autotune.enabled = False
    return (indices.shuffle(count) if shuffle else indices).batch(size).map(pick).prefetch(
        2).with_options(options)


def build(case, tuned=False):
    if case.precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    images, labels = case.images()
    images = images.astype("float32") / 255

    def loss():
        model, first = build_model(case, 0.0, 1), slice(case.batch)
        return float(model.loss(labels[first], model(images[first], training=True)))
    model = build_model(case, 0.5, 50 if tuned else 1)
    training = dict(x=images, y=labels, batch_size=case.batch)
    prediction = dict(x=images, batch_size=CHUNK)
    if tuned:
        x, y = tf.constant(images), tf.constant(labels)
        training = dict(x=batches(case.count, case.batch,
                                  lambda i: (tf.gather(x, i), tf.gather(y, i)), shuffle=True))
        prediction = dict(x=batches(case.count, CHUNK, lambda i: tf.gather(x, i)))

    def train(steps):
        epochs, rest = divmod(steps * case.batch, case.count)
        assert not rest, "whole epochs"
        model.fit(**training, epochs=epochs, verbose=0)
    return loss, train, lambda: model.predict(**prediction, verbose=0)
