"""Event files read back, and figures of one run."""
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_one_line, run

from training.events import read_events


def write_events(folder, **series):
    with tf.summary.create_file_writer(str(folder)).as_default():
        for tag, values in series.items():
            for step, value in enumerate(values):
                tf.summary.scalar(tag.replace("__", "/"), value, step=step)


def test_old_and_new_scalars_are_read_and_a_cut_file_gives_what_it_holds(tmp_path):
    write_events(tmp_path / "train", batch__loss=[3.0, 2.0, 1.0])
    with tf.io.TFRecordWriter(str(tmp_path / "events.out.tfevents.1.old")) as writer:
        for step in (5, 4):  # out of order, simple_value
            event = tf.compat.v1.Event(step=step, wall_time=100.0 + step)
            event.summary.value.add(tag="old", simple_value=step / 2)
            writer.write(event.SerializeToString())
    events = read_events(tmp_path)
    steps, seconds, values = events["", "old"]
    assert (steps.tolist() == [4, 5] and seconds.tolist() == [104, 105]
            and np.float64(values).tolist() == [2, 2.5])
    file, = (tmp_path / "train").iterdir()
    file.write_bytes(file.read_bytes()[:-10])
    assert np.float64(read_events(tmp_path)["train", "batch/loss"][2]).tolist() == [3, 2]


def test_events_without_steps_count_in_their_order(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "events.out.tfevents.1.old")) as writer:
        for value in (3.0, 1.0, 2.0):
            event = tf.compat.v1.Event(wall_time=1.0)
            event.summary.value.add(tag="x", simple_value=value)
            writer.write(event.SerializeToString())
    steps, _, values = read_events(tmp_path)["", "x"]
    assert steps.tolist() == [0, 1, 2] and np.float64(values).tolist() == [3, 1, 2]


def test_files_of_two_runs_in_one_folder_are_not_mixed(tmp_path):
    """What begins anew stands beside the earlier file; what goes on replaces what was lost."""
    for i, values in enumerate(([9.0, 8.0, 7.0], [3.0, 2.0])):
        write_events(tmp_path / "new", x=values)
        file, = (tmp_path / "new").iterdir()
        file.rename(tmp_path / f"events.out.tfevents.{i}")
    with tf.summary.create_file_writer(str(tmp_path / "new")).as_default():
        tf.summary.scalar("x", 5.0, step=1)
    file, = (tmp_path / "new").iterdir()
    file.rename(tmp_path / "events.out.tfevents.2")
    found = {key: (steps.tolist(), np.float64(values).tolist())
             for key, (steps, _, values) in read_events(tmp_path).items()}
    assert found == {("", "x"): ([0, 1], [3, 5]), ("earlier 1", "x"): ([0, 1, 2], [9, 8, 7])}


@pytest.mark.parametrize("channels", [1, 3])
def test_filters_are_sorted_by_their_fit(channels):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(5, 5, channels, 9))
    kernel[..., 4] = np.sin(np.arange(5))[:, None, None]  # horizontal stripes
    figure, numbers = plot_filters({"r": {("train", "filters/kernel"): (
        np.array([0, 7]), None, [rng.normal(size=kernel.shape), kernel])}})
    assert numbers["order"][0] == 4 and numbers["r2"][4] > 0.99 and numbers["step"] == 7
    assert min(numbers["angle"][4], 180 - numbers["angle"][4]) < 2
    own = figure.subfigs[0].axes[0].images[0].get_array()
    assert own.shape == (2 * 7 - 2, 8 * 7 - 2, 3)
    assert "9 first-layer kernels" in figure.get_suptitle()


def test_norms_over_time_share_their_scale():
    def series(factor, *more):
        steps = np.array([0, 5])
        return {("train", f"over_time/{kind}"): (steps, None, [np.array([0.0, 1.0]),
                                                               np.array([1.0, factor])])
                for kind in ("state", "gradient", *more)}
    small, large = series(0.1), series(100.0)
    alone, _ = plot_over_time({"small": small})
    shared, numbers = plot_over_time({"small": small}, [small, large])
    assert alone.axes[0].get_ylim() == pytest.approx((0.1 / 1.5, 1.5))
    assert shared.axes[1].get_ylim() == pytest.approx((0.1 / 1.5, 150))
    np.testing.assert_array_equal(numbers["state"], [[0, 1], [1, 0.1]])
    with_memory, _ = plot_over_time({"lstm": series(1e-3, "memory", "memory_gradient")}, [large])
    assert [axis.get_ylim()[0] < 1e-3 < 100 < axis.get_ylim()[1] for axis in with_memory.axes[:4]
            ] == [True] * 4 and "memory" in with_memory.axes[2].get_title()


def test_command_line(tmp_path):
    write_events(tmp_path / "r" / "train", batch__loss=[3.0, 2.0])
    status, out, err = run("visualize.py", "curves", tmp_path / "r", "--out", tmp_path / "f")
    assert status == 0 and err == ""
    assert sorted(p.name for p in (tmp_path / "f" / "r").iterdir()) == [
        "curves.npz", "curves.png", "run.txt"]
    assert ("figures", "figures/curves") not in read_events(tmp_path / "r")  # it is no run of ours
    (tmp_path / "r" / "config.json").write_text("{}")
    assert run("visualize.py", "curves", tmp_path / "r", "--out", tmp_path / "f")[0] == 0
    assert ("figures", "figures/curves") in read_events(tmp_path / "r")  # shown in TensorBoard too
    (tmp_path / "r" / "config.json").unlink()
    write_events(tmp_path / "other" / "r" / "train", batch__loss=[9.0])
    before = (tmp_path / "f" / "r" / "curves.npz").read_bytes()
    assert_one_line(run("visualize.py", "curves", tmp_path / "other" / "r", "--out",
                        tmp_path / "f"), "another --out")
    assert (tmp_path / "f" / "r" / "curves.npz").read_bytes() == before
    assert_one_line(run("visualize.py", "curves", tmp_path / "r", tmp_path / "other" / "r"),
                    "share a name")
    assert_one_line(run("visualize.py", "filters", tmp_path / "r", "--out", tmp_path / "f"),
                    "filters/kernel")
    assert_one_line(run("visualize.py", "curves", tmp_path / "none"), "no TensorBoard events")
    assert_one_line(run("visualize.py", "table", tmp_path / "r"), "config.json is not there")
    assert_one_line(run("visualize.py", "heat", tmp_path / "r"), "results.csv")
    assert_one_line(run("visualize.py", "draw", tmp_path / "r"), "curves")
    assert_one_line(run("visualize.py", "deconv", tmp_path / "r", "--out", tmp_path / "g"),
                    "config.json")
    assert_one_line(run("visualize.py", "curves", tmp_path / "r", "--by", "sample"), "config.json")
    (tmp_path / "r" / "config.json").write_text("{}")
    assert_one_line(run("visualize.py", "curves", tmp_path / "r", "--by", "sample"), "no batch")
