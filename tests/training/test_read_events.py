"""Event files read back: ours, old ones, cut ones, and several of one folder."""
import numpy as np
import tensorflow as tf

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


def test_a_clock_that_was_set_back_between_two_files_mixes_nothing(tmp_path):
    for begun, steps in ((200, (0, 1, 2)), (100, (3, 4))):
        with tf.io.TFRecordWriter(str(tmp_path / f"events.out.tfevents.{begun}")) as writer:
            for step in steps:
                event = tf.compat.v1.Event(step=step, wall_time=begun + step)
                event.summary.value.add(tag="x", simple_value=step)
                writer.write(event.SerializeToString())
    (key, (steps, _, values)), = read_events(tmp_path).items()
    assert key == ("", "x") and steps.tolist() == np.float64(values).tolist() == [0, 1, 2, 3, 4]


def test_files_are_read_in_the_order_in_which_they_began(tmp_path):
    """Whatever their names say: two of one second are named by process, "10" before "9"."""
    for i, (step, value) in enumerate(((1, 5.0), (2, 7.0))):
        before = set(tmp_path.iterdir())
        write(tmp_path, [step, step + 1], [value, value + 1])
        new, = set(tmp_path.iterdir()) - before
        new.rename(tmp_path / f"events.out.tfevents.1.host.{9 - i}")
    steps, _, values = read_events(tmp_path)["", "a"]
    assert steps.tolist() == [1, 2, 3] and [float(v) for v in values] == [5.0, 7.0, 8.0]


def write(folder, steps, values):
    """Write one event file of a scalar "a"."""
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for step, value in zip(steps, values):
            tf.summary.scalar("a", value, step=step)
    writer.close()
