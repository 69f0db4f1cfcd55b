"""Norms over the time steps, and the scale that runs share."""
import types

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf

from inside import over_time
from inside.trained import Record
from system.command_line import NotDrawn


def series(factor, *more):
    steps = np.array([0, 5])
    return {("train", f"over_time/{kind}"): (steps, None, [np.array([0.0, 1.0]),
                                                           np.array([1.0, factor])])
            for kind in ("state", "gradient", *more)}


def draw(monkeypatch, own, *others):
    """Draw a run of these events beside others."""
    monkeypatch.setattr(over_time, "read_events", lambda events: events)
    record = types.SimpleNamespace(name="x", events=own, series=lambda tag: own["train", tag])
    figure, numbers = over_time.draw(record, others)
    plt.close(figure)
    return figure, numbers


def test_norms_over_time_share_their_scale(monkeypatch):
    small, large = series(0.1), series(100.0)
    alone, _ = draw(monkeypatch, small)
    shared, numbers = draw(monkeypatch, small, small, large)
    assert alone.axes[0].get_ylim() == pytest.approx((0.1 / 1.5, 1.5))
    assert shared.axes[1].get_ylim() == pytest.approx((0.1 / 1.5, 150))
    np.testing.assert_array_equal(numbers["state"], [[0, 1], [1, 0.1]])
    with_memory, _ = draw(monkeypatch, series(1e-3, "memory", "memory_gradient"), large)
    assert [axis.get_ylim()[0] < 1e-3 < 100 < axis.get_ylim()[1] for axis in with_memory.axes[:4]
            ] == [True] * 4 and "cell state" in with_memory.axes[2].get_title()


def test_a_run_without_states_over_time_is_not_drawn(tmp_path):
    with tf.summary.create_file_writer(str(tmp_path / "train")).as_default():
        tf.summary.scalar("batch/loss", 1.0, step=0)
    with pytest.raises(NotDrawn, match="over_time/state"):
        over_time.draw(Record(tmp_path, None))
