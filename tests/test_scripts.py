"""Every training script through its command line: what a run leaves, and that nothing is ever
lost."""
import dataclasses
import json
import random
import signal
import time

import numpy as np
import pytest
from conftest import ROOT, assert_one_line, run, start, tags_not_in_readme
from PIL import Image

import cifar_lenet5
import mnist_rnn
import runs
from charts import read_events

SMALL = {"cifar_lenet5": ("--data", "synthetic", "--filters", 4, 8, "--units", 16, "--batch", 32),
         "mnist_rnn": ("--data", "synthetic", "--hidden", 16, "--batch", 32, "--dropout", 0.1)}
CONFIGS = {"cifar_lenet5": cifar_lenet5.Config, "mnist_rnn": mnist_rnn.Config}
POISON = str(ROOT / "tests" / "poison")  # on the import path it makes `import tensorflow` fail
every_script = pytest.mark.parametrize("script", SMALL)


@every_script
def test_help_and_bad_options_answer_at_once(script):
    """Before anything heavy is imported: the poisoned tensorflow is never reached."""
    status, out, err = run(f"{script}.py", "--help", PYTHONPATH=POISON)
    assert status == 0 and not err
    for field in dataclasses.fields(CONFIGS[script]):
        assert f"--{field.name.replace('_', '-')}" in out
    for words, said in ((("--bogus", 1), "--bogus"), (("--batch", 0), "at least 1"),
                        (("--rate", "fast"), "a number"), (("--recipe", "x"), "original"),
                        (("--dropout", "nan"), "up to"),
                        (("--name", "a/b"), "plain"), (("--name", ".."), "plain"),
                        (("--see", 1), "--see"), (("--filters", 3, "x"), "'x'")):
        assert_one_line(run(f"{script}.py", *words, PYTHONPATH=POISON), said)


def events_of(folder):
    """Every event value, without what depends on the clock."""
    return {key: (steps.tolist(), [np.asarray(v).tolist() for v in values])
            for key, (steps, _, values) in read_events(folder).items()
            if "second" not in key[1] and "hparams" not in key[1]}


def last_arrays(folder):
    arrays = runs.load_arrays(runs.checkpoints(folder)[-1])
    return {name: value.tobytes() for name, value in arrays.items()
            if name not in ("seconds", "_events")}


@pytest.fixture(scope="module", params=SMALL)
def whole_run(request, tmp_path_factory):
    """An uninterrupted run of 130 steps: (its folder, script, options that made it, stdout,
    stderr)."""
    script, logs = request.param, tmp_path_factory.mktemp(request.param)
    words = (f"{script}.py", *SMALL[script], "--steps", 130, "--evaluations", 4, "--snapshots", 4)
    status, out, err = run(*words, "--logs", logs, "--name", "x")
    assert status == 0, err
    return logs / script / "x-seed0", script, words, out, err


def test_run_leaves_what_it_promises(whole_run):
    folder, script, _, out, err = whole_run
    assert err == ""  # no warnings, no chatter
    config, result = (json.loads((folder / f"{name}.json").read_text())
                      for name in ("config", "result"))
    assert config["options"]["batch"] == 32 and config["total_steps"] == 130
    assert config["data"]["title"].startswith("SYNTHETIC") and "SYNTHETIC" in out
    assert str(runs.ROOT) not in json.dumps(config)  # a log says nothing of where it was made
    assert {"train_accuracy", "validation_accuracy", "test_accuracy",
            "images_per_second"} <= set(result)
    assert f"{100 * result['test_accuracy']:.2f} %" in out
    assert "tensorboard --logdir" in out and f"visualize.py all {folder}" in out
    events = read_events(folder)
    steps, _, losses = events["train", "batch/loss"]
    assert steps.tolist() == list(range(130)) and np.isfinite(np.float64(losses)).all()
    rates = np.float64(events["train", "batch/learning_rate"][2])
    assert (rates.max() == pytest.approx(config["options"]["rate"])
            and rates[-1] < 1e-3 * rates.max())
    for part, points in (("train", 5), ("validation", 5), ("test", 1)):
        assert len(events[part, "evaluation/accuracy"][0]) == points
    assert events["test", "evaluation/accuracy"][2][0] == pytest.approx(result["test_accuracy"])
    assert len(list((folder / "checkpoints").iterdir())) == 2
    snapshots = sorted((folder / "snapshots").iterdir())
    assert [int(p.stem[5:]) for p in snapshots] == [0, 1, 5, 26, 130]
    final = runs.load_arrays(snapshots[-1])
    if script == "cifar_lenet5":
        kernels = events["train", "filters/kernel"][2]
        assert kernels[0].shape == (5, 5, 1, 4)
        np.testing.assert_array_equal(final["conv1/kernel"], kernels[-1])
    else:
        assert final["gru1/recurrent_kernel"].shape == (16, 48)
        norms = events["over_time", "over_time/state_norm"]
        assert norms[0].tolist() == list(range(1, 29))
        np.testing.assert_allclose(np.float64(norms[2]), events["train", "over_time/state"][2][-1],
                                   1e-6)


def test_every_tag_stands_in_the_readme(whole_run):
    assert tags_not_in_readme(read_events(whole_run[0])) == []


def test_killed_runs_resume_bit_identically(whole_run, tmp_path):
    """kill -9 three times at random moments, then to the end: same weights, same event values."""
    folder, script, words, _, _ = whole_run
    words = (*words, "--logs", tmp_path, "--name", "x", "--resume")
    copy = tmp_path / script / "x-seed0"
    seed = random.randrange(10 ** 6)
    print(f"random seed {seed}")
    moments = random.Random(seed)
    for _ in range(3):
        before = runs.checkpoints(copy)[-1:]
        process = start(*words)
        while process.poll() is None and runs.checkpoints(copy)[-1:] == before:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.5))
        process.kill()
        process.communicate()
    status, out, err = run(*words)
    assert status == 0, err
    assert last_arrays(copy) == last_arrays(folder)
    assert events_of(copy) == events_of(folder)
    assert (copy / "snapshots/step-00000026.npz").read_bytes() == \
        (folder / "snapshots/step-00000026.npz").read_bytes()


def test_signals_save_and_leave(whole_run, tmp_path):
    """Ctrl-C in one script, SIGTERM in the other: what they do is one piece of code."""
    folder, script, words, _, _ = whole_run
    number, status = {"cifar_lenet5": (signal.SIGINT, 130),
                      "mnist_rnn": (signal.SIGTERM, 143)}[script]
    words = (*words, "--logs", tmp_path, "--name", "x")
    copy = tmp_path / script / "x-seed0"
    process = start(*words)
    while process.poll() is None and not runs.checkpoints(copy):
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status and "--resume" in err and err.count("\n") == 1, err
    assert_one_line(run(*words), "interrupted", "--resume")
    assert_one_line(run(*words, "--resume", "--rate", 0.5), "rate=", "0.5")
    status, _, err = run(*words, "--resume")
    assert status == 0, err
    assert last_arrays(copy) == last_arrays(folder) and events_of(copy) == events_of(folder)


def test_finished_run_is_kept(whole_run):
    folder, _, words, _, _ = whole_run
    words = (*words, "--logs", folder.parent.parent, "--name", "x")
    before = last_arrays(folder)
    assert_one_line(run(*words), "finished", "--overwrite")
    assert_one_line(run(*words, "--overwrite", "--data", "nowhere"), "nowhere")
    status, out, _ = run(*words, "--resume")
    assert status == 0 and "finished" in out and last_arrays(folder) == before


@every_script
def test_overwrite_starts_again(script, tmp_path):
    words = (f"{script}.py", *SMALL[script], "--steps", 2, "--logs", tmp_path, "--name", "x",
             "--snapshots", 0)
    assert run(*words)[0] == 0 and run(*words, "--overwrite", "--steps", 3)[0] == 0
    events = read_events(tmp_path / script / "x-seed0")
    assert events["train", "batch/loss"][0].tolist() == [0, 1, 2]


@every_script
def test_unclamped_loss_stops_with_status_3(script, tmp_path):
    status, _, err = run(f"{script}.py", *SMALL[script], "--loss", "unclamped",
                         "--optimizer", "sgd", "--clip", 0, "--rate", 1e4, "--warmup", 0,
                         "--schedule", "constant", "--steps", 60, "--logs", tmp_path)
    assert status == 3 and err.count("\n") == 1, err
    for word in ("step", "rate 1e+04", "step-00000000.npz", "--loss logits"):
        assert word in err


def test_the_smallest_images_with_the_oddest_names(tmp_path):
    """1x1 pixels, classes of unequal size, one of a single image, spaces and umlauts in paths."""
    data, logs = tmp_path / "bilder ü", tmp_path / "lögs 1"
    for part in ("train", "test"):
        for name, count in (("eins ö", 3), ("zwei", 1)):
            (data / part / name).mkdir(parents=True)
            for i in range(count):
                Image.new("L", (1, 1), 80 * i).save(data / part / name / f"{i}.png")
    assert run("cifar_lenet5.py", "--data", data, "--steps", 3, "--batch", 2, "--evaluations", 1,
               "--logs", logs, "--name", "é x")[0] == 0
    result = run("visualize.py", "all", logs / "cifar_lenet5" / "é x-seed0", "--out", tmp_path)
    assert result[::2] == (0, "")
    assert "not drawn: correspondence: " in result[1] and "at least two test images" in result[1]
    assert "occlusion.png" in result[1] and "activations.png" in result[1]


def test_all_figures_of_a_run(tmp_path):
    """One command on a finished run makes each figure, its numbers, and shows it in TensorBoard."""
    words = ("--data", "synthetic", "--filters", 4, 8, "--units", 16, "--batch", 32, "--steps", 40)
    assert run("cifar_lenet5.py", *words, "--logs", tmp_path, "--name", "x")[0] == 0
    folder, out = tmp_path / "cifar_lenet5" / "x-seed0", tmp_path / "figures"
    before = last_arrays(folder)
    status, said, err = run("visualize.py", "all", folder, "--out", out)
    assert status == 0 and err == "", err
    names = {"curves", "filters", "activations", "statistics", "deconv_relu1", "deconv_relu2",
             "evolution", "invariance", "diagnose", "occlusion", "correspondence"}
    made = {p.name for p in (out / "x-seed0").iterdir()}
    assert made == {f"{n}.{kind}" for n in names for kind in ("png", "npz")} | {
        "run.txt", "statistics.csv"}
    assert all(f"{name}.png" in said for name in names)
    shown = {tag for part, tag in read_events(folder) if part == "figures"}
    assert shown == {f"figures/{name}" for name in names}
    assert last_arrays(folder) == before
    with np.load(out / "x-seed0" / "deconv_relu2.npz") as numbers:
        assert numbers["image"].shape == (8, 9) and (np.diff(numbers["activation"]) <= 0).all()
    rows = (out / "x-seed0" / "statistics.csv").read_text().splitlines()
    assert rows[0].startswith("layer,class,map,mean") and len(rows) == 1 + 11 * (4 + 8)
    with np.load(out / "x-seed0" / "occlusion.npz") as numbers:
        assert numbers["probability"].shape == (10, 28, 28)
        assert 0 <= numbers["probability"].min() and numbers["probability"].max() <= 1
