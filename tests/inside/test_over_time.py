"""Norms over the time steps: one figure of several runs, on one scale."""
import types

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf

from inside import over_time
from inside.trained import Record
from system.command_line import NotDrawn


def run(name, factor, *more, evaluations=2):
    """A run whose norms at two time steps are 1 and the number of the evaluation, times factor."""
    events = {("train", f"over_time/{kind}"): (np.arange(evaluations), None, [
        np.array([1.0, k + 1]) * factor for k in range(evaluations)])
        for kind in ("state", "gradient", *more)}
    return types.SimpleNamespace(name=name, events=events, series=lambda tag: events["train", tag])


def test_runs_beside_each_other_share_their_scale():
    figure, numbers = over_time.draw_together([
        run("RNN", 1.0), run("LSTM", 1.0, "memory", "memory_gradient"), run("GRU", 1e-3)])
    above, below = np.reshape(figure.axes[:6], (2, 3))
    assert [axis.get_title() for axis in above] == ["RNN", "LSTM", "GRU"]
    assert [len(axis.lines) for axis in (*above, *below)] == [2, 4, 2, 2, 4, 2]
    for row in (above, below):
        assert len({axis.get_ylim() for axis in row}) == 1
        assert row[0].get_ylim()[0] < 1e-3 and row[0].get_ylim()[1] > 2
    texts = [text.get_text() for text in below[1].get_legend().texts]
    assert texts == ["h before training", "h at the end", "c before training", "c at the end"]
    np.testing.assert_array_equal(numbers["LSTM/memory"], [[1, 1], [1, 2]])
    assert "cell state" in figure.get_suptitle() and len(numbers) == 11
    plt.close(figure)


def test_some_of_many_evaluations_are_drawn_the_first_and_the_last_too():
    figure, numbers = over_time.draw(run("GRU", 1.0, evaluations=22))
    lines = [line.get_ydata()[1] for line in figure.axes[0].lines]
    assert lines == [1, 2, 5, 8, 12, 15, 18, 22] and len(numbers["GRU/state"]) == 22
    assert "cell state" not in figure.get_suptitle()
    plt.close(figure)
    figure, _ = over_time.draw(run("GRU", 1.0, evaluations=1))
    assert len(figure.axes[0].lines) == 1
    plt.close(figure)


def test_a_run_without_states_over_time_is_not_drawn(tmp_path):
    with tf.summary.create_file_writer(str(tmp_path / "train")).as_default():
        tf.summary.scalar("batch/loss", 1.0, step=0)
    with pytest.raises(NotDrawn, match="over_time/state"):
        over_time.draw(Record(tmp_path, None))
