"""What a training will need, by hand."""
import dataclasses
import shutil

import keras
import numpy as np
import pytest

from cifar_lenet5 import Config
from system import machine
from system.command_line import InputError
from training.needs import bytes_per_image, check_needs, images_at_a_time, needs


@pytest.fixture
def model():
    x = keras.Input((4, 5, 1))
    flat = keras.layers.Flatten()(x)
    return keras.Model(x, keras.layers.Dense(3, name="logits")(flat))


def test_needs_by_hand(model):
    """20 flattened values and 3 logits an image; 63 weights, with Adam's two slots 189."""
    assert bytes_per_image(model) == 4 * 23
    assert images_at_a_time(model, 1000, 929) == 10
    assert images_at_a_time(model, 4) == 4
    assert images_at_a_time(model, 9, 1) == 1  # of a quarter of the weights' 252 bytes
    images, config = np.zeros((7, 4, 5, 1), np.uint8), Config(batch_size=6, snapshots=0)
    memory, disk = needs(model, {"m": None, "v": None}, images, config)
    assert memory == 2 * 4 * 189 + 3 * 4 * 63 + 140 + 3 * 4 * 23 * 6 + 500_000_000
    assert 3 * 4 * 189 + 5_000_000 <= disk < 5_010_000


def test_what_would_not_fit_is_refused_unless_forced(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "free_memory", lambda: 2e9)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(0, 0, 1e9))
    below = tmp_path / "not" / "there"
    check_needs(2e9, 1e9, below, False)
    with pytest.raises(InputError, match="take 2.1 GB of memory, 2.0 GB are free; .*-size.*--for"):
        check_needs(2.1e9, 0, below, False)
    with pytest.raises(InputError, match=f"take 1.1 GB on the disk of {tmp_path}, 1.0 GB are free"):
        check_needs(0, 1.1e9, below, False)
    check_needs(2.1e9, 1.1e9, below, True)
    assert not below.exists()


def test_a_network_that_does_not_fit_is_refused_before_its_weights_are_made(monkeypatch):
    """Of images of 200x200x3 the dense layer has 50 * 50 * 2 * 1000 weights and as many biases as
    units; nine arrays of such a size are what training takes at most."""
    import cifar_lenet5
    from training import needs as module
    config = cifar_lenet5.Config(filters=(2, 2), units=1000)
    monkeypatch.setattr(machine, "free_memory", lambda: 9 * 4 * 5_014_269)
    module.check_weights(cifar_lenet5.build_model, (200, 200, 3), 3, config)
    monkeypatch.setattr(machine, "free_memory", lambda: 9 * 4 * 5_000_000)
    with pytest.raises(InputError, match=r"5,00\d,\d+ weights would take 0.2 GB .*--image-size"):
        module.check_weights(cifar_lenet5.build_model, (200, 200, 3), 3, config)
    small = dataclasses.replace(config, force=True)
    module.check_weights(cifar_lenet5.build_model, (200, 200, 3), 3, small)
    module.check_weights(cifar_lenet5.build_model, (28, 28, 1), 3, config)
