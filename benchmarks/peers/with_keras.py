"""Keras: the functional model, compile and fit, as its guides show it."""
import machine
from peers import CHUNK, RATE

with machine.quiet_import():
    import keras
    from keras import layers


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


def build(case, steps_per_execution=1):
    if case.precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    images, labels = case.images()
    images = images.astype("float32") / 255

    def loss():
        model, first = build_model(case, 0.0, 1), slice(case.batch)
        return float(model.loss(labels[first], model(images[first], training=True)))
    model = build_model(case, 0.5, steps_per_execution)

    def train(steps):
        epochs, rest = divmod(steps * case.batch, case.count)
        assert not rest, "whole epochs"
        model.fit(images, labels, batch_size=case.batch, epochs=epochs, verbose=0)
    return loss, train, lambda: model.predict(images, batch_size=CHUNK, verbose=0)
