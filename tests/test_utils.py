"""Splits, the order of images, schedules of the learning rate."""
import math

import numpy as np
import pytest
from PIL import Image

import cifar_lenet5
import utils
from system.command_line import InputError
from training.loop import load_training_data


def test_small_classes_keep_an_image_for_validation():
    """Of two images one is held out; the only one of a class is for training."""
    labels = np.array([0] * 50 + [1] * 2 + [2] + [3] * 4)
    train, validation = utils.split_validation(labels, 0.1)
    assert np.bincount(labels[validation], minlength=4).tolist() == [6, 1, 0, 1]
    assert np.bincount(labels[train], minlength=4).tolist() == [44, 1, 1, 3]
    assert not len(utils.split_validation(labels, 0)[1])


def test_a_run_says_which_class_has_no_validation_image(tmp_path, capsys):
    folder = class_folders(tmp_path / "mine")
    config = cifar_lenet5.Config(data=str(folder), validation_split=0.5)
    load_training_data(config).describe()
    assert "note     no validation image of lone" in capsys.readouterr().out


def test_a_class_that_is_held_out_whole_is_refused(tmp_path):
    images, labels = np.arange(40, dtype=np.uint8).reshape(10, 2, 2), np.array([0] * 8 + [1] * 2)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    config = cifar_lenet5.Config(data=str(tmp_path / "a.npz"), validation_split=0.8)
    with pytest.raises(InputError, match="--validation-split 0.8: class '1' would have no image"):
        load_training_data(config)


def test_a_run_says_which_class_has_fewer_images_than_asked_for(tmp_path, capsys):
    """Of the four and the one image there are two and one to train on."""
    folder = class_folders(tmp_path / "mine")
    for asked, counts, said in ((1, [1, 1], ""), (2, [1, 2], "all that there are, of lone\n")):
        config = cifar_lenet5.Config(data=str(folder), validation_split=0.5, per_class=asked)
        data = load_training_data(config)
        data.describe()
        assert data.counts.tolist() == counts
        out = capsys.readouterr().out
        assert said in out and ("fewer than" in out) == bool(said)


def class_folders(folder):
    for part in ("train", "test"):
        for name, count in (("many", 4), ("lone", 1)):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(np.full((4, 4), 30 * i + 9, np.uint8)).save(
                    folder / part / name / f"{i}.png")
    return folder


# --------------------------------------------------------------------------------- splits

def test_split_is_stratified_disjoint_and_fixed():
    labels = np.repeat(np.arange(10), 30)[np.random.default_rng(0).permutation(300)]
    train, validation = utils.split_validation(labels, 0.1)
    assert np.bincount(labels[validation]).tolist() == [3] * 10
    assert np.ptp(np.bincount(labels[utils.split_validation(labels, 44 / 300)[1]])) == 1
    # in proportion, and exactly so many
    assert len(utils.split_validation(labels, 44 / 300)[1]) == 44
    assert sorted([*train, *validation]) == list(range(300))
    np.testing.assert_array_equal(validation, utils.split_validation(labels, 0.1)[1])
    assert len(utils.split_validation(labels, 0)[1]) == 0
    with pytest.raises(InputError):
        utils.split_validation(labels, 1.0)


def test_every_epoch_visits_every_image_once_however_it_is_cut():
    whole = utils.batch_indices(seed=5, first=0, last=21, batch=10, count=70)
    for epoch in range(3):
        assert sorted(whole.reshape(-1)[70 * epoch:70 * (epoch + 1)]) == list(range(70))
    assert whole.reshape(3, 70)[0].tolist() != whole.reshape(3, 70)[1].tolist()
    parts = [utils.batch_indices(5, a, b, 10, 70) for a, b in ((0, 4), (4, 13), (13, 21))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert utils.batch_indices(0, 0, 2, 64, 10).shape == (2, 64)  # batches larger than the set


# -------------------------------------------------------------------------------- schedules

def test_schedules_by_hand():
    assert utils.constant(10 ** 6, 0.1) == 0.1
    assert utils.exponential(249, 1e-4, 0.97, 250) == 1e-4
    assert utils.exponential(250, 1e-4, 0.97, 250) == pytest.approx(0.97e-4)
    assert utils.exponential(500, 1e-4, 0.97, 250) == pytest.approx(0.9409e-4)
    assert utils.exponential(125, 1.0, 0.25, 250, staircase=False) == pytest.approx(0.5)
    assert utils.exponential(9999, 1e-4, 9.0, 1) == math.inf  # and its training diverges
    assert utils.inverse_time(20, 1.0, 0.5, 10) == pytest.approx(0.5)
    assert [utils.cosine(s, 1.0, 12, warmup_steps=4) for s in (0, 3, 4, 8, 12, 99)] == \
        pytest.approx([1.0, 1.0, 1.0, 0.5, 0.0, 0.0])
    assert utils.cosine(0, 1.0, 10) == 1.0


@pytest.mark.parametrize("schedule, options, expected", [
    ("cosine", dict(warmup=1 / 3), [0.25, 1.0, 1.0, 0.5]),
    ("constant", dict(warmup=0.5), [1 / 6, 4 / 6, 5 / 6, 1.0]),
    ("exponential", dict(decay_rate=0.5, decay_steps=4), [1.0, 1.0, 0.5, 0.25]),
    ("inverse-time", dict(decay_rate=1.0, decay_steps=4), [1.0, 4 / 7, 0.5, 1 / 3])])
def test_the_rate_of_a_run_by_hand(schedule, options, expected):
    config = cifar_lenet5.Config(learning_rate=1.0, schedule=schedule, **options)
    assert [utils.learning_rate(s, 12, config) for s in (0, 3, 4, 8)] == pytest.approx(expected)


def test_an_unknown_schedule_is_no_other():
    with pytest.raises(KeyError, match="step"):
        utils.learning_rate(0, 10, cifar_lenet5.Config(schedule="step"))


def test_some_of_each_class():
    labels = np.repeat([0, 1, 2], [50, 50, 3])
    chosen = utils.some_of_each_class(labels, 10, seed=1)
    assert np.bincount(labels[chosen]).tolist() == [10, 10, 3] and (np.diff(chosen) > 0).all()
    assert utils.some_of_each_class(labels, 10, seed=1).tolist() == chosen.tolist()
    assert utils.some_of_each_class(labels, 10, seed=2).tolist() != chosen.tolist()
