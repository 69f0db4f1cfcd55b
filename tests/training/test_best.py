"""Training as people do it: from weights there are, to the best ones, and no longer than it helps.
"""
import csv
import types

import numpy as np
import pytest
import tensorflow as tf
from conftest import interrupted_at, run_script, weights_of

from comparisons.measures import row_of
from system.command_line import InputError
from system.files import load_arrays, read_json
from training.best import Best
from training.events import read_events
from training.loop import Training

SMALL = ("cifar_lenet5", "--data", "digits", "--filters", 2, 3, "--units", 8, "--batch-size", 16,
         "--snapshots", 0, "--threads", 1, "--precision", "float32")


def best_of(accuracies, patience=2, weights="last"):
    """A Best that has seen evaluations 10 steps apart, and the step at which it was over."""
    best = Best(types.SimpleNamespace(early_stopping=patience, weights=weights), True)
    steps = range(0, 10 * len(accuracies), 10)
    for step, accuracy in zip(steps, accuracies):
        best.observe(step, accuracy, {"w": tf.Variable([float(step)])})
        if best.is_over(step, steps):
            return best, step
    return best, None


@pytest.mark.parametrize("accuracies, best, over", [
    ([0.1, 0.2, 0.3, 0.4], 30, None),
    ([0.1, 0.3, 0.2, 0.2, 0.9], 10, 30),     # the 0.9 is never seen
    ([0.1, 0.3, 0.3, 0.3], 10, 30),          # as good is no better
    ([0.1, 0.3, 0.2, 0.4, 0.3], 30, None),
    ([0.5, 0.4, 0.3], 0, 20)])
def test_best_and_end_by_hand(accuracies, best, over):
    found, end = best_of(accuracies)
    assert (found.step, end) == (best, over)
    assert found.accuracy == accuracies[best // 10]
    assert found.weights["w"].tolist() == [best]


def test_without_patience_it_never_ends_and_unasked_it_keeps_nothing():
    assert best_of([0.5, 0.4, 0.3, 0.2], patience=0, weights="best")[1] is None
    unasked, _ = best_of([0.5], patience=0)
    assert unasked.weights == unasked.state() == {}


def test_its_state_is_all_there_is():
    one, _ = best_of([0.1, 0.3, 0.2])
    state, other = {**one.state(), "v": 1}, best_of([])[0]
    other.restore(state)
    assert (other.step, other.accuracy) == (10, 0.3) and other.weights["w"].tolist() == [10]
    assert state == {"v": 1}


def test_a_signal_while_weights_are_copied_leaves_the_best_as_it_was():
    """Else weights of one step would be tested under the name of another."""
    class Interrupts:
        def numpy(self):
            raise KeyboardInterrupt
    best, _ = best_of([0.1])
    with pytest.raises(KeyboardInterrupt):
        best.observe(10, 0.9, {"w": Interrupts()})
    assert (best.step, best.accuracy, best.weights["w"].tolist()) == (0, 0.1, [0])


def test_a_run_that_ends_early_meets_signals_as_any_other():
    """Once it is over they end it at once; there is nothing more to save."""
    run = types.SimpleNamespace(signal=None, saves_on_signals=False)
    training = types.SimpleNamespace(
        begin=lambda run: 20, evaluations={0, 10, 20, 30}, snapshots=set(), total=30,
        end_of_block=lambda step: step + 1,
        config=types.SimpleNamespace(early_stopping=2),
        best=types.SimpleNamespace(is_over=lambda step, evaluations: step == 20))
    assert [*Training.blocks(training, run)] == [] and training.step == 20
    assert not run.saves_on_signals


def test_it_needs_validation_images():
    with pytest.raises(InputError, match="validation-split"):
        Best(types.SimpleNamespace(early_stopping=1, weights="last"), False)


def train(folder, *words):
    """Train a small network in a folder; return its run's folder, and what was said."""
    name = words[words.index("--name") + 1]
    status, out, err = run_script(*SMALL, *words, cwd=folder)
    assert status == 0, err
    return folder / "logs/cifar_lenet5" / f"{name}-seed0", out


@pytest.mark.slow
def test_training_ends_when_nothing_gets_better(tmp_path):
    """At learning rate 0 no evaluation is better than the first."""
    run, out = train(tmp_path, "--steps", 100, "--evaluations", 10, "--learning-rate", 0,
                     "--early-stopping", 3, "--name", "over")
    assert "3 evaluations brought no better accuracy" in out and "for 30 steps" in out
    assert read_json(run / "result.json")["best_step"] == 0
    assert read_json(run / "result.json")["steps_taken"] == 30
    steps, _, losses = read_events(run)["train", "batch/loss"]
    with open(run / "losses.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == steps.tolist() == list(range(30))
    assert [np.float32(row["loss"]) for row in rows] == losses


@pytest.mark.slow
def test_more_evaluations_than_steps_are_one_each(tmp_path):
    run, _ = train(tmp_path, "--steps", 2, "--evaluations", 10 ** 12, "--name", "often")
    assert read_events(run)["validation", "evaluation/accuracy"][0].tolist() == [0, 1, 2]


@pytest.fixture(scope="module")
def best_run(tmp_path_factory):
    """The folder of a run with --weights best, whose last weights are worse and which was stopped
    between; where it lies, and its options."""
    folder = tmp_path_factory.mktemp("best")
    options = ("--steps", 60, "--evaluations", 5, "--schedule", "constant", "--warmup", 0,
               "--learning-rate", 0.03, "--weights", "best")
    with interrupted_at(48):
        assert run_script(*SMALL, *options, "--name", "best", cwd=folder)[0] == 143
    return train(folder, *options, "--name", "best", "--resume")[0], folder, options


@pytest.mark.slow
def test_the_best_weights_are_kept_and_tested(best_run):
    run, _, _ = best_run
    result = read_json(run / "result.json")
    steps, _, accuracies = read_events(run)["validation", "evaluation/accuracy"]
    assert result["validation_accuracy"] == pytest.approx(max(accuracies), abs=1e-6)
    assert result["best_step"] == steps[np.argmax(accuracies)] < steps[-1]
    assert read_events(run)["test", "evaluation/accuracy"][0].tolist() == [result["best_step"]]
    assert result["best_step"] < 48
    steps, _, kernels = read_events(run)["train", "filters/kernel"]
    assert steps[-1] == 60  # what is drawn last are the kernels of the weights that are kept
    np.testing.assert_array_equal(kernels[-1], weights_of(run)["conv1/kernel"])
    assert np.abs(kernels[-1] - kernels[-2]).max() > 0
    row = row_of(run)  # the losses beside the accuracies are of the same weights
    for part in ("train", "validation"):
        assert row[f"{part}_loss"] == result[f"{part}_loss"]
        assert row[f"{part}_loss"] != read_events(run)[part, "evaluation/loss"][2][-1]


@pytest.mark.slow
def test_beside_the_last_weights_the_best_are_kept(best_run):
    """Of a run that was not stopped, to the bit those of the one that was."""
    best, folder, options = best_run
    run, out = train(folder, *options[:-2], "--early-stopping", 1000, "--name", "last")
    assert [file.name for file in (run / "checkpoints").iterdir()] == ["best.npz"]
    mine, whole = load_arrays(run / "checkpoints/best.npz"), weights_of(best)
    assert {k: v.tobytes() for k, v in mine.items()} == {k: v.tobytes() for k, v in whole.items()}
    assert (weights_of(run)["conv1/kernel"] != mine["conv1/kernel"]).any()


@pytest.mark.slow
def test_training_goes_on_from_a_runs_weights(best_run, tmp_path):
    run, folder, _ = best_run
    options = "--steps", 2, "--evaluations", 1, "--initial-weights", run
    same, _ = train(tmp_path, *options, "--learning-rate", 0, "--name", "same")
    one, other = weights_of(same), weights_of(run)
    np.testing.assert_array_equal(one["conv1/kernel"], other["conv1/kernel"])
    np.testing.assert_array_equal(one["logits/bias"], other["logits/bias"])
    accuracy = read_json(run / "result.json")["test_accuracy"]
    assert read_json(same / "result.json")["test_accuracy"] == pytest.approx(accuracy, abs=0.01)
    for words, said in ((("--units", 9), "is of another network"),
                        (("--activation", "relu"), "is of another network"),  # of equal weights
                        (("--no-standardize",), "with --standardize; give --standardize"),
                        (("--initial-weights", tmp_path), "no folder of a finished run")):
        status, _, err = run_script(*SMALL, *options, *words, "--name", "x", cwd=tmp_path)
        assert status == 2 and said in err and err.count("\n") == 1
        assert not (tmp_path / "logs/cifar_lenet5/x-seed0").exists()


@pytest.mark.slow
def test_a_finished_run_says_how_to_train_it_further(best_run):
    run, folder, options = best_run
    status, _, err = run_script(*SMALL, *options, "--steps", 90, "--name", "best", "--resume",
                                cwd=folder)
    assert status == 2 and "--initial-weights logs/cifar_lenet5/best-seed0" in err
