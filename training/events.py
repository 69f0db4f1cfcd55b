"""Write a run's TensorBoard event files, and read anyone's back."""
import contextlib
import os
import pathlib

import numpy as np
import tensorflow as tf

from system.command_line import as_text
from system.files import regular

PATTERN, LOSSES = "events.out.tfevents.*", "losses.csv"
COLUMNS = ("recipe", "network", "learning_rate", "batch_size", "seed", "data", "steps", "optimizer",
           "schedule", "weight_decay", "precision")  # of TensorBoard's HParams tab, in this order
METRICS = ("test_accuracy", "train_accuracy", "train_seconds")


class Events:
    """The event files of a run's folder, and its losses.csv."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self._writers = {}

    @contextlib.contextmanager
    def into(self, part):
        """Let tf.summary write into a part, a subfolder: "train", "validation", "test", ...

        Options and final metrics have a part "result" of their own since TensorBoard takes every
        curve in or below their folder for a metric of the HParams tab. Raises OSError if what was
        written does not reach the file, as on a full disk.
        """
        computing = False
        try:
            if part not in self._writers:
                self._writers[part] = tf.summary.create_file_writer(
                    str(self.folder / part), max_queue=100_000)
            with self._writers[part].as_default():  # which flushes at its end
                computing = True
                yield
                computing = False
        except tf.errors.OpError as error:
            if computing:
                raise
            raise OSError(None, "events cannot be written; is the disk full, or read-only?",
                          str(self.folder / part)) from error

    def close(self):
        """Close the files; all that was written has reached them."""
        for writer in self._writers.values():
            with contextlib.suppress(tf.errors.OpError):
                writer.close()

    def lengths(self):
        """Return the lengths of the files at this moment, {relative path: bytes}."""
        return {file.relative_to(self.folder).as_posix(): file.stat().st_size
                for file in self._files()}

    def cut(self, lengths):
        """Cut the files back to earlier lengths, and delete those that were not there."""
        for file in self._files():
            length = lengths.get(file.relative_to(self.folder).as_posix(), 0)
            if length:
                os.truncate(file, min(length, file.stat().st_size))
            else:
                file.unlink()

    def _files(self):
        return sorted([*self.folder.rglob(PATTERN), *self.folder.glob(LOSSES)])

    # ------------------------------------------------------------------ what a run writes

    def log_options(self, options):
        """Log options {name: value} as text."""
        table = "| option | value |\n|---|---|\n" + "\n".join(
            f"| {name} | {' '.join(as_text(value).split()).replace('|', chr(92) + '|')} |"
            for name, value in options.items())
        with self.into("result"):
            tf.summary.text("config", table, step=0)

    def log_hparams(self, columns, trial):
        """Log hyper-parameters, {name of COLUMNS: value}, of the run that HParams calls `trial`.

        Every run of every experiment has the same columns, so that parallel coordinates show all.
        """
        from tensorboard.plugins.hparams import api as hparams
        keys = {name: f"{i:02} {name}" for i, name in enumerate(COLUMNS)}  # TensorBoard sorts them
        with self.into("result"):
            hparams.hparams_config(
                hparams=[hparams.HParam(key, display_name=name) for name, key in keys.items()],
                metrics=[hparams.Metric(f"result/{name}", display_name=name.replace("_", " "))
                         for name in METRICS])
            hparams.hparams({key: columns[name] for name, key in keys.items()}, trial_id=trial)

    def log_steps(self, first, losses, rates, images_per_second):
        """Log loss and learning rate of the steps from `first` on, and the speed they ran at."""
        with open(self.folder / LOSSES, "a", encoding="utf-8") as file:
            if not file.tell():
                file.write("step,learning_rate,loss\n")
            file.writelines(f"{step},{rate!s},{loss!s}\n" for step, (loss, rate) in enumerate(
                zip(losses, rates), first))
        with self.into("train"):
            for step, (loss, rate) in enumerate(zip(losses, rates), first):
                tf.summary.scalar("batch/loss", loss, step=step)
                tf.summary.scalar("learning_rate", rate, step=step)
            tf.summary.scalar("images_per_second", images_per_second, step=step)

    def log_evaluation(self, step, results):
        """Log {"train" | "validation" | "test": (loss, accuracy, batch noise if measured)}."""
        for part, values in results.items():
            with self.into(part):
                for name, value in zip(("loss", "accuracy", "batch_noise"), values):
                    tf.summary.scalar(f"evaluation/{name}", value, step=step)

    def log_result(self, step, result):
        """Log the final metrics {name: number}."""
        with self.into("result"):
            for name, value in result.items():
                tf.summary.scalar(f"result/{name}", value, step=step)


def log_picture(folder, name, png):
    """Add the PNG of a figure to the images of a run's folder, as it is. Raises OSError if nothing
    can be written there."""
    from tensorboard.plugins.image import metadata
    size = [str(int.from_bytes(png[i:i + 4])) for i in (16, 20)]  # width and height, in its head
    events = Events(folder)
    with events.into("figures"):
        tf.summary.write(f"figures/{name}", [*size, png], step=0,
                         metadata=metadata.create_summary_metadata(None, None))
    events.close()


def read_events(folder):
    """Return {(part, tag): (steps, seconds since 1970, values)} of all event files below a folder.

    `part` is the subfolder ("" for the folder itself). Events come in order of their step; where a
    step was written twice the later one counts; if none has a step, they count from 0 in the order
    they were written. A file that goes on from an earlier step than the file before it ended at
    replaces what that says of later steps, as in TensorBoard; where it begins anew, the earlier one
    becomes a part of its own, "earlier 1". A file cut off at its end gives what it holds.
    """
    tf.constant(0)  # TensorBoard reads with TensorFlow, and would import it noisily
    from tensorboard.backend.event_processing import event_file_loader
    from tensorboard.util import tensor_util
    series, files = {}, []
    for file in sorted(pathlib.Path(folder).rglob(PATTERN)):
        part, own, begun = file.parent.relative_to(folder).as_posix().removeprefix("."), {}, 0.0
        for event in event_file_loader.EventFileLoader(str(regular(file))).Load():
            for value in event.summary.value:
                begun = begun or event.wall_time  # the first event of a file has whole seconds
                own.setdefault((part, value.tag), []).append(
                    (event.step, event.wall_time, tensor_util.make_ndarray(value.tensor)))
        files.append((begun, part, own))
    for _, part, own in sorted(files, key=lambda found: found[0]):  # names have them too
        for key, points in own.items():
            first, before = min(step for step, _, _ in points), series.get(key, [])
            if before and max(step for step, _, _ in points) < min(step for step, _, _ in before):
                series[key] = points + before  # the clock was set back between them
                continue
            kept = [point for point in before if point[0] < first]
            if before and not kept:
                earlier = sum(other[0].startswith(f"{part} earlier ".lstrip()) for other in series
                              if other[1] == key[1])
                series[f"{part} earlier {earlier + 1}".lstrip(), key[1]] = before
            series[key] = kept + points
    return {key: _in_order(points) for key, points in series.items()}


def _in_order(points):
    """Return (steps, seconds, values) of [(step, seconds, value)], one of each step."""
    if len(points) > 1 and not any(step for step, _, _ in points):
        points = [(i, time, value) for i, (_, time, value) in enumerate(points)]
    latest = {step: (time, value) for step, time, value in points}
    steps = sorted(latest)
    return (np.array(steps), np.array([latest[s][0] for s in steps]),
            [latest[s][1] for s in steps])
