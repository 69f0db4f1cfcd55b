"""The fused update rules against Keras's optimizers and against a step computed by hand."""
import keras
import numpy as np
import pytest
import tensorflow as tf

from training.optimizers import apply_gradients, create_slots, is_decayed
from training.recurrent import Recurrent

CASES = {
    "sgd": (dict(momentum=0.0, nesterov=False), keras.optimizers.SGD(0.01)),
    "momentum": (dict(momentum=0.9, nesterov=False), keras.optimizers.SGD(0.01, momentum=0.9)),
    "nesterov": (dict(momentum=0.9, nesterov=True),
                 keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)),
    "rmsprop": (dict(momentum=0.0), keras.optimizers.RMSprop(0.01, epsilon=1e-7)),
    "rmsprop-momentum": (dict(momentum=0.5),
                         keras.optimizers.RMSprop(0.01, momentum=0.5, epsilon=1e-7)),
    "adam": ({}, keras.optimizers.Adam(0.01, epsilon=1e-8)),
    "adamw": (dict(weight_decay=0.1), keras.optimizers.AdamW(0.01, weight_decay=0.1, epsilon=1e-8)),
}


@pytest.mark.parametrize("case", CASES)
def test_same_as_keras(case):
    options, theirs = CASES[case]
    method = {"momentum": "sgd", "nesterov": "sgd"}.get(case, case.split("-")[0])
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 4)).astype(np.float32)
    mine, other = [tf.Variable(start)], keras.Variable(start)
    slots = create_slots(method, mine)
    for step in range(10):
        gradient = tf.constant(rng.normal(size=(3, 4)), tf.float32)
        apply_gradients(method, mine, slots, [gradient], step, 0.01, **options,
                        decayed=[True])
        theirs.apply([gradient], [other])
        np.testing.assert_allclose(mine[0], other, rtol=1e-5, atol=1e-6)
    assert np.abs(mine[0] - start).max() > 0.01


def test_first_adam_step_by_hand():
    """After bias correction the first step is rate * g / (|g| + epsilon), whatever |g|."""
    variable = tf.Variable([1.0, 1.0, 1.0])
    slots = create_slots("adam", [variable])
    apply_gradients("adam", [variable], slots, [tf.constant([5.0, -1e-3, 0.0])], 0, 0.1)
    np.testing.assert_allclose(variable, [0.9, 1.1, 1.0], rtol=1e-4)


@pytest.mark.parametrize("method, expected", [("adamw", 2 * (1 - 0.1 * 0.5)),
                                              ("sgd", 2 - 0.1 * 0.5 * 2)])
def test_decay_concerns_kernels_only(method, expected):
    kernel, bias = tf.Variable([[2.0]]), tf.Variable([2.0])
    slots = create_slots(method, [kernel, bias])
    apply_gradients(method, [kernel, bias], slots, [tf.zeros((1, 1)), tf.zeros(1)], 0, 0.1,
                    momentum=0.0, nesterov=False, weight_decay=0.5, decayed=[True, False])
    assert kernel.numpy()[0, 0] == pytest.approx(expected) and bias.numpy()[0] == 2.0


def test_what_is_decayed_is_known_by_its_kind_not_by_its_rank():
    """The GRU's bias is (2, 3 units), a normalisation's scale may be of any rank."""
    def names(*layers):
        model = keras.Sequential([keras.Input((4, 6)), *layers])
        return [v.name for v in model.trainable_variables if is_decayed(v)]
    assert names(keras.layers.GRU(3, return_sequences=True), Recurrent("gru", 2)) == [
        "kernel", "recurrent_kernel"] * 2
    assert names(keras.layers.LayerNormalization(axis=(1, 2)), keras.layers.PReLU(),
                 keras.layers.BatchNormalization(), keras.layers.Dense(2)) == ["kernel"]


def test_without_a_gradient_nothing_moves():
    variable = tf.Variable([[2.0]])
    slots = create_slots("adamw", [variable])
    apply_gradients("adamw", [variable], slots, [None], 0, 0.1, weight_decay=0.5, decayed=[True])
    assert variable.numpy() == 2.0


def test_an_unknown_method_is_no_other():
    with pytest.raises(KeyError, match="adagrad"):
        create_slots("adagrad", [tf.Variable([1.0])])


def test_epsilon_of_adam_is_added_to_the_root_of_v_itself():
    """First step, g = 1e-7: rate sqrt(1 - 0.999) / (1 - 0.9) m / (sqrt(v) + 1e-8), by hand."""
    variable, g = tf.Variable([0.0], dtype=tf.float32), 1e-7
    slots = create_slots("adam", [variable])
    apply_gradients("adam", [variable], slots, [tf.constant([g])], 0, 0.1)
    m, root_of_v = 0.1 * g, np.sqrt(0.001) * g
    expected = -0.1 * np.sqrt(1 - 0.999) / (1 - 0.9) * m / (root_of_v + 1e-8)
    np.testing.assert_allclose(variable, [expected], rtol=1e-3)
    assert abs(expected) < 0.1 * g / (g + 1e-8) / 1.5  # what epsilon beside sqrt(v / 0.001) gives


def test_state_is_all_there_is():
    """Copying variables and slots and going on gives the same as going on."""
    def steps(variables, slots, first, count):
        for step in range(first, first + count):
            apply_gradients("adam", variables, slots, [tf.cast([step, -1.0], tf.float32)], step,
                            0.01)
    one = [tf.Variable([0.0, 0.0])]
    slots = create_slots("adam", one)
    steps(one, slots, 0, 5)
    two, copied = [tf.Variable(one[0])], {k: [tf.Variable(v[0])] for k, v in slots.items()}
    steps(one, slots, 5, 5)
    steps(two, copied, 5, 5)
    np.testing.assert_array_equal(one[0], two[0])
