"""The path of a GPU, run on the processor: the batch as a whole, not in parts on cores."""
import numpy as np
import pytest
import tensorflow as tf
from conftest import run_script

from training import loop

LENET5 = ("cifar_lenet5", "--data", "digits", "--recipe", "original-bn", "--filters", 2, 3,
          "--units", 8)
GRU = "mnist_rnn", "--data", "digits", "--units", 4


@pytest.mark.parametrize("words", [LENET5, GRU], ids=["lenet5", "gru"])
def test_losses_are_those_of_the_processor(words, tmp_path, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, kind: None)
    losses = {}
    for device in ("cpu", "gpu"):
        status, out, err = run_script(*words, "--batch-size", 15, "--steps", 8, "--evaluations", 1,
                                      "--snapshots", 0, "--device", device, "--logdir", device,
                                      "--name", "run", cwd=tmp_path)
        assert status == 0, err
        assert ("a GPU is there and not used" in out) == (device == "cpu")
        file, = (tmp_path / device).rglob("losses.csv")
        losses[device] = np.loadtxt(file, delimiter=",", skiprows=1)[:, 2]
    np.testing.assert_allclose(losses["gpu"], losses["cpu"], rtol=1e-5)
    assert len(set(losses["gpu"])) == 8


def test_the_batch_is_whole_on_a_gpu(monkeypatch):
    seen = []
    monkeypatch.setattr(loop, "shares", lambda batch, parts: seen.append(parts) or [batch])
    from cifar_lenet5 import Config, build_model
    for device in ("cpu", "gpu"):
        config = Config(filters=(1,), units=0, batch_size=2, threads=3, device=device)
        model = loop.make_model(build_model, (4, 4, 1), 2, config)
        slots = loop.create_slots(config.optimizer, [v.value for v in model.trainable_variables])
        loop.make_train_steps(model, slots, config, 0.0, 1.0, np.zeros((2, 4, 4, 1), np.uint8),
                              np.int32([0, 1]))
    assert seen == [3, 1]


def test_without_a_gpu_it_is_refused(tmp_path):
    status, _, err = run_script(*LENET5, "--device", "gpu", cwd=tmp_path)
    assert status == 2 and "TensorFlow sees no GPU" in err and err.count("\n") == 1
    assert not list(tmp_path.rglob("config.json"))
