"""Every training script through its command line: what a run leaves, and that nothing is ever
lost."""
import dataclasses
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import (
    ROOT,
    SOURCES,
    assert_one_line,
    final_model,
    interrupted_at,
    read_only,
    run,
    run_script,
    run_without_privilege,
    start,
    tags_not_in_readme,
    weights_of,
    write_images,
)
from PIL import Image

import cifar_lenet5
import mnist_rnn
from system.files import load_arrays, read_json
from training.checkpoints import checkpoints, snapshots, step_of
from training.events import read_events
from training.run import Run
from utils import load_images

SMALL = {"cifar_lenet5": ("--data", "digits", "--horizontal-flip", "--filters", 4, 8, "--units", 16,
                          "--batch-size", 32),
         "mnist_rnn": ("--data", "digits", "--units", 16, "--layers", 1, "--batch-size", 32,
                       "--dropout", 0.1)}
CONFIGS = {"cifar_lenet5": cifar_lenet5.Config, "mnist_rnn": mnist_rnn.Config}
every_script = pytest.mark.parametrize("script", SMALL)


@every_script
def test_help_and_bad_options_answer_at_once(script, poison):
    """Before anything heavy is imported: the poisoned tensorflow is never reached."""
    status, out, err = run(f"{script}.py", "--help", PYTHONPATH=poison)
    assert status == 0 and not err
    for field in dataclasses.fields(CONFIGS[script]):
        assert f"--{field.name.replace('_', '-')}" in out
    assert_one_line(run(f"{script}.py", "--bogus", 1, PYTHONPATH=poison), "--bogus")


@every_script
def test_bad_options_are_one_line(script):
    for words, said in ((("--batch-size", 0), "at least 1"), (("--batch_size", 0), "--batch-size"),
                        (("--learning-rate", "fast"), "a number"), (("--recipe", "x"), "original"),
                        (("--dropout", "nan"), "up to"),
                        (("--name", "a/b"), "plain"), (("--name", ".."), "plain"),
                        (("--see", 1), "--see"), (("--filters", 3, "x"), "'x'")):
        if said != "'x'" or script == "cifar_lenet5":
            assert_one_line(run_script(script, *words), said)


def events_of(folder):
    """Every event value, without what depends on the clock."""
    return {key: (steps.tolist(), [np.asarray(v).tolist() for v in values])
            for key, (steps, _, values) in read_events(folder).items()
            if "second" not in key[1] and "hparams" not in key[1]}


@pytest.fixture(scope="module", params=SMALL)
def whole_run(request, tmp_path_factory):
    """An uninterrupted run of 130 steps: (its folder, script, options that made it, stdout,
    stderr). Beside it, as killed/, lies what was on the disk after its step 98, of which no
    checkpoint was written yet."""
    script, logs = request.param, tmp_path_factory.mktemp(request.param)
    words = (f"{script}.py", *SMALL[script], "--steps", 130, "--evaluations", 4, "--snapshots", 4)
    log_steps = Run.log_steps

    def copy(run, first, losses, *what):
        log_steps(run, first, losses, *what)
        if first + len(losses) == 98:
            shutil.copytree(run.path, logs / "killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "log_steps", copy)
        status, out, err = run_script(*words, "--logdir", logs, "--name", "x")
    assert status == 0, err
    return logs / script / "x-seed0", script, words, out, err


@pytest.mark.slow
def test_run_leaves_what_it_promises(whole_run):
    folder, script, _, out, err = whole_run
    assert err == ""  # no warnings, no chatter
    config, result = (read_json(folder / f"{name}.json") for name in ("config", "result"))
    assert config["options"]["batch_size"] == 32 and config["total_steps"] == 130
    assert "(8x8 grey, 1,437 train, 360 test)" in out
    assert config["script"] == script and config["processor"] and config["versions"]["keras"]
    assert config["memory"] > 1e9 and config["system"]
    assert config["settings"]["TF_NUM_INTRAOP_THREADS"] == "1" and "--steps" in config["given"]
    assert str(ROOT) not in json.dumps(config)  # a log says nothing of where it was made
    assert {"images_per_second", "train_seconds"} | {
        f"{part}_{what}" for part in ("train", "validation", "test")
        for what in ("accuracy", "loss")} <= set(result)
    assert ("test_accuracy_flipped" in result) == (script == "cifar_lenet5")
    assert f"{100 * result['test_accuracy']:.2f} %" in out
    assert "tensorboard --logdir" in out and f"visualize.py all {folder}" in out
    events = read_events(folder)
    steps, _, losses = events["train", "batch/loss"]
    assert steps.tolist() == list(range(130)) and np.isfinite(np.float64(losses)).all()
    rates = np.float64(events["train", "learning_rate"][2])
    assert (rates.max() == pytest.approx(config["options"]["learning_rate"])
            and rates[-1] < 1e-3 * rates.max())
    for part, points in (("train", 5), ("validation", 5), ("test", 1)):
        assert len(events[part, "evaluation/accuracy"][0]) == points
    assert events["test", "evaluation/accuracy"][2][0] == pytest.approx(result["test_accuracy"])
    assert not (folder / "checkpoints").exists()
    assert [step_of(file) for file in snapshots(folder)] == [0, 1, 5, 26, 130]
    final, last = weights_of(folder), load_arrays(snapshots(folder)[-1])
    if script == "cifar_lenet5":
        kernels = events["train", "filters/kernel"][2]
        assert kernels[0].shape == (5, 5, 1, 4)
        np.testing.assert_array_equal(final["conv1/kernel"], kernels[-1])
        np.testing.assert_array_equal(final["norm2/beta"], last["norm2/beta"])
        assert "hidden/kernel" in final and "hidden/kernel" not in last
    else:
        np.testing.assert_array_equal(final["gru1/gru_cell/recurrent_kernel"],
                                      last["gru1/recurrent_kernel"])
        norms = events["over_time", "over_time/state_norm"]
        assert norms[0].tolist() == list(range(1, 9))
        np.testing.assert_allclose(np.float64(norms[2]), events["train", "over_time/state"][2][-1],
                                   1e-6)


@pytest.mark.slow
def test_keras_reads_the_network_and_it_takes_raw_pixels(whole_run):
    folder, script, *_ = whole_run
    data = load_images("digits")
    logits = final_model(folder).predict(data.test_images, verbose=0)
    assert (logits.argmax(1) == data.test_labels).mean() == pytest.approx(
        read_json(folder / "result.json")["test_accuracy"],
        abs=0.01)  # a run evaluates in bfloat16 where its processor has it: a few images differ


@pytest.mark.slow
def test_every_tag_stands_in_the_readme(whole_run):
    assert tags_not_in_readme(read_events(whole_run[0])) == []


def killed(words, copy):
    """Start a run as a process, and end it by kill -9 at a random moment."""
    seed = random.randrange(10 ** 6)
    print(f"random seed {seed}")
    process = start(*words)
    while process.poll() is None and not checkpoints(copy):
        time.sleep(0.01)
    time.sleep(random.Random(seed).uniform(0, 0.4))
    process.kill()
    process.communicate(timeout=60)
    assert not (copy / "result.json").exists(), "too late: nothing was left to resume"


@pytest.mark.slow
def test_killed_and_stopped_runs_resume_bit_identically(whole_run, tmp_path):
    """One by kill -9 at a random moment, the other between two checkpoints and then while it
    evaluates (SIGTERM after a step is tried in test_best.py, Ctrl-C in test_transfer.py): in the
    end, same weights, same events."""
    folder, script, words, _, _ = whole_run
    words = (*words, "--logdir", tmp_path, "--name", "x")
    copy = tmp_path / script / "x-seed0"
    if script == "cifar_lenet5":
        killed(words, copy)
    else:
        shutil.copytree(folder.parent.parent / "killed", copy)
        assert step_of(checkpoints(copy)[-1]) == 65
        with interrupted_at(130, within=True):
            status, _, err = run_script(*words, "--resume")
        assert status == 143 and "step 130, saved" in err and err.count("\n") == 1, err
    assert_one_line(run_script(*words), "interrupted", "--resume")
    assert_one_line(run_script(*words, "--resume", "--learning-rate", 0.5), "learning_rate=", "0.5")
    status, _, err = run_script(*words, "--resume")
    assert (status, err) == (0, "")
    np.testing.assert_equal(weights_of(copy), weights_of(folder))
    assert events_of(copy) == events_of(folder)
    assert (copy / "snapshots/step-00000026.npz").read_bytes() == \
        (folder / "snapshots/step-00000026.npz").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("words, begun, said", [
    (("visualize.py", "all"), "wrote ", "what was finished before is kept"),
    (("transfer.py", "--data", "synthetic", "--per-class", 2, "--scratch-steps", 10 ** 7),
     "svm/relu_hidden", "the same command with --resume goes on")])
def test_ctrl_c_to_a_process_ends_it_with_one_line(small_run, tmp_path, words, begun, said):
    """While a figure is computed or a network trained, both of which would take long."""
    run = shutil.copytree(small_run, tmp_path / "small-seed0")
    process = start(*words, run, "--out" if "all" in words else "--logdir", tmp_path / "made",
                    PYTHONUNBUFFERED="1")
    assert any(line.startswith(begun) for line in process.stdout)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and err.count("\n") == 1 and said in err, err


@pytest.mark.slow
def test_a_read_only_project_and_read_only_data(tmp_path):
    """A run lies elsewhere, and what cannot be cached is not; here it is refused in one line."""
    project, data = tmp_path / "project", write_images(tmp_path / "data")
    for file in (*SOURCES, ROOT / "requirements.txt"):
        (project / file.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, project / file.relative_to(ROOT))
    words = (project / "cifar_lenet5.py", "--data", data, "--filters", 2, "--units", 4,
             "--batch-size", 2, "--steps", 3, "--evaluations", 1, "--name", "x")
    with read_only(project), read_only(data):
        made = run_without_privilege(*words, cwd=tmp_path)
        assert made[::2] == (0, "") and not (project / "data").exists()
        assert_one_line(run_without_privilege(*words, cwd=project), "logs: Permission denied")
    assert (tmp_path / "logs/cifar_lenet5/x-seed0/result.json").exists()


AT_ONCE = """
import runpy, sys
from system import progress
progress.EVERY, init = 0, progress.Progress.__init__
progress.Progress.__init__ = lambda *what, **how: init(
    *what, **{"delay": 0, "mininterval": 0, **how})
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_progress_in_a_log_file_is_lines(tmp_path):
    """Of a real script, which says at every step, not each minute, how far it is."""
    with open(tmp_path / "log", "wb") as log:
        done = subprocess.run([sys.executable, "-c", AT_ONCE, *map(str, (
            "cifar_lenet5.py", *SMALL["cifar_lenet5"], "--steps", 20, "--evaluations", 4,
            "--logdir", tmp_path))], cwd=ROOT, stderr=log, env={**os.environ, "PYTHONPATH": "."})
    assert done.returncode == 0
    *lines, rest = (tmp_path / "log").read_bytes().split(b"\n")
    assert lines and not rest and b"\r" not in b"".join(lines), lines
    assert all(re.fullmatch(rb" *\d+%\|.*\| \d+/20 \[.*step.*\]", line) for line in lines), lines


@pytest.mark.slow
def test_finished_run_is_kept(whole_run):
    folder, _, words, _, _ = whole_run
    words = (*words, "--logdir", folder.parent.parent, "--name", "x")
    model = folder / "model.keras"
    before = model.read_bytes()
    assert_one_line(run_script(*words), "finished", "--overwrite")
    assert_one_line(run_script(*words, "--overwrite", "--data", "nowhere"), "nowhere")
    status, out, _ = run_script(*words, "--resume")
    assert status == 0 and "finished" in out and model.read_bytes() == before


@pytest.mark.slow
def test_unclamped_loss_stops_with_status_3(tmp_path):
    status, _, err = run_script(
        "cifar_lenet5", *SMALL["cifar_lenet5"], "--loss", "unclamped", "--optimizer", "sgd",
        "--clipnorm", 0, "--learning-rate", 1e4, "--warmup", 0, "--schedule", "constant",
        "--steps", 60, "--evaluations", 1, "--logdir", tmp_path)
    assert status == 3 and err.count("\n") == 1, err
    for word in ("step", "rate 1e+04", "step-00000000.npz", "--loss logits"):
        assert word in err


@pytest.mark.slow
def test_the_smallest_images_with_the_oddest_names(bare_figures, tmp_path):
    """1x1 pixels, classes of unequal size, one of a single image, spaces and umlauts in paths."""
    data, logs = tmp_path / "bilder ü", tmp_path / "lögs 1"
    for part in ("train", "test"):
        for name, count in (("eins ö", 3), ("zwei", 1)):
            (data / part / name).mkdir(parents=True)
            for i in range(count):
                Image.new("L", (1, 1), 80 * i).save(data / part / name / f"{i}.png")
    assert run_script("cifar_lenet5", "--data", data, "--steps", 3, "--batch-size", 2, "--filters",
                      3, "--units", 9, "--evaluations", 1, "--logdir", logs, "--name", "é x")[
                          0] == 0
    result = run_script("visualize", "all", logs / "cifar_lenet5" / "é x-seed0", "--out", tmp_path)
    assert result[::2] == (0, "")
    assert "not drawn: correspondence: " in result[1] and "at least two test images" in result[1]
    assert "occlusion.png" in result[1] and "activations.png" in result[1]


@pytest.mark.slow
def test_all_figures_of_a_run(small_run, coarse_figures, tmp_path):
    """One command on a finished run makes each figure, its numbers, and shows it in TensorBoard."""
    folder, out = tmp_path / "x-seed0", tmp_path / "figures"
    shutil.copytree(small_run, folder, ignore=shutil.ignore_patterns("figures"))
    model = folder / "model.keras"
    before = model.read_bytes()
    status, said, err = run_script("visualize", "all", folder, "--out", out)
    assert status == 0 and err == "", err
    names = {"curves", "filters", "activations", "statistics", "strongest_relu1",
             "strongest_relu2", "evolution", "invariance", "diagnosis", "occlusion",
             "correspondence", "activations_all", "strongest_relu1_all", "strongest_relu2_all",
             "mistakes", "attribution"}
    made = {p.name for p in (out / "x-seed0").iterdir()}
    assert made == {f"{n}.{kind}" for n in names for kind in ("png", "npz")} | {
        "run.txt", "statistics.csv", "mistakes.csv", "explore.html"}
    assert all(f"{name}.png" in said for name in names) and "Projector" in said
    shown = {tag for part, tag in read_events(folder) if part == "figures"}
    assert shown == {f"figures/{name}" for name in names}
    assert model.read_bytes() == before
    with np.load(out / "x-seed0" / "strongest_relu2.npz") as numbers:
        assert numbers["image"].shape == (4, 9) and (np.diff(numbers["activation"]) <= 0).all()
    rows = (out / "x-seed0" / "statistics.csv").read_text().splitlines()
    assert rows[0].startswith("layer,class,map,mean") and len(rows) == 1 + 5 * (3 + 4)
    with np.load(out / "x-seed0" / "occlusion.npz") as numbers:
        assert numbers["probability"].shape == (4, 28, 28)
        assert 0 <= numbers["probability"].min() and numbers["probability"].max() <= 1
