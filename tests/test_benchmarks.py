"""The benchmarks: tables of measured figures by hand, and scripts at budgets that time nothing."""
import functools
import json
import re
import shutil
import sys
import types

import pytest
from conftest import ROOT, run, run_script, write_images

from system.command_line import import_script, parse

sys.path.insert(0, str(ROOT / "benchmarks"))
import cost
import inside_speed
import peers
import throughput
import waiting

SMALL = {"cifar_lenet5": ("--filters", 2, "--units", 4, "--precision", "float32"),
         "mnist_rnn": ("--units", 4, "--layers", 1)}
SUMMARIZE = {"throughput": lambda rounds: throughput.summarize(rounds, throughput.TABLES),
             "waiting": waiting.summarize, "cost": cost.summarize,
             "inside_speed": inside_speed.summarize}
CASE = "lstm 128, batch 128, float32"
ROUNDS = [{"ceiling": {"float32": 200, "bfloat16": 400, "machine": "2 cores of X"}, CASE: {
    "ours": {"rate": ours, "evaluation": 9e4, "memory": 600.4},
    "keras": {"rate": 100, "evaluation": 1e4, "memory": 700},
    "torch": {"rate": 1e4, "evaluation": 5e4, "memory": 400}}} for ours in (15e3, 20e3, 10e3)]
ROUNDS[0][CASE]["jax"] = {"rate": 50, "evaluation": 70, "memory": 300}  # slow ways run once
ALONE = [ROUNDS[0], {**ROUNDS[1], CASE: {"ours": ROUNDS[1][CASE]["ours"]}}]  # nobody beside us
WAITING = {"--help": {"cifar_lenet5.py": [0.1], "mnist_rnn.py": [0.2]},
           "validation accuracy of the original's best": {
               "cifar_lenet5.py": [7.3, float("nan"), 6.5], "mnist_rnn.py": [float("nan")]},
           "the same, the starter-code way": {"cifar_lenet5.py": [130.0]}}
COST = [{"machine": "2 cores of X", "training/side/28": {"time": 0.5, "memory": 1.0},
         "training/side/56": {"time": time, "memory": 1.0}} for time in (2.0, 9.0, 1.0)]

INSIDE = {"rounds": [{"ours": {"occlusion": 1, "deconvolution": 2},
                      "captum": {"occlusion": theirs, "deconvolution": 1}} for theirs in (1, 3, 2)],
          "difference": {"occlusion": 3.21e-6, "deconvolution": 0}}


@pytest.mark.parametrize("script, figures, lines", [
    ("throughput", ROUNDS, [
        "3 rounds; 2 cores of X; peak GEMM throughput: 200 (200 .. 200) GFLOP/s float32",
        # 12.62 MFLOP an image: 2 (28 (2 * 28 * 512 + 3 * 512 * 128) + 3 * 128 * 10)
        f"| {CASE} | 15,000 (95 %) | 100 (1 %) | 10,000 (63 %) | 50 (0 %) | 1.50 (1.00 .. 2.00) |",
        # 4.48 MFLOP: 2 (28 (28 * 512 + 512 * 128) + 128 * 10)
        f"| {CASE} | 90,000 (201 %); 600 MiB | 10,000 (22 %); 700 MiB | 50,000 (112 %); 400 MiB | "
        "70 (0 %); 300 MiB |"]),
    ("throughput", ALONE, [f"| {CASE} | 17,500 (110 %) | 100 (1 %) | 10,000 (63 %) | 50 (0 %) | "
                           "1.50 (1.50 .. 1.50) |"]),
    ("waiting", WAITING, ["| --help | 0.1 (0.1 .. 0.1) | 0.2 (0.2 .. 0.2) |",
                          "best | 6.9 (6.5 .. 7.3; 2 of 3 rounds) | never |"]),
    ("cost", COST, ["3 rounds; 2 cores of X", "| training, 1,000 images | image side, pixels | "
                    "28, 56 | 0.5, 2 | 2.0 | 1.0, 1.0 | 0.0 |"]),
    ("inside_speed", INSIDE, ["1.00 (1.00 .. 1.00) | 2.00 (1.00 .. 3.00) | 2.00 (1.00 .. 3.00) | "
                              "3e-06 |", "| 0.50 (0.50 .. 0.50) | 0 |"])])
def test_tables(script, figures, lines):
    out = SUMMARIZE[script](figures).replace("\xa0", " ")
    for line in lines:
        assert line in out, out


def test_figures_are_read_from_a_file(tmp_path):
    """Those of another script are refused, in one line below the usage."""
    (tmp_path / "x.json").write_text(json.dumps(COST))
    status, out, err = run("benchmarks/cost.py", "--read", tmp_path / "x.json")
    assert (status, out.strip(), err) == (0, cost.summarize(COST), "")
    status, _, err = run("benchmarks/waiting.py", "--read", tmp_path / "x.json")
    assert status == 2 and "did not write that file" in err.splitlines()[-1]


@pytest.mark.slow
def test_every_benchmark_has_help():
    for script in SUMMARIZE:
        status, out, err = run(f"benchmarks/{script}.py", "--help")
        assert status == 0 and not err and "--read" in out


@pytest.mark.slow
def test_cost_at_a_small_budget(monkeypatch):
    monkeypatch.setattr(cost, "SECONDS", 1e-3)
    found = cost.measure("training", dict(filters=2, images=32, batch_size=16, side=8))
    assert found["time"] > 0 and 0.1 < found["memory"] < 20


@pytest.mark.slow
def test_waiting_at_a_small_budget(monkeypatch, capsys, tmp_path):
    """A number for what three steps reach, nan for the accuracies, which they do not.

    In this process, on ten classes of small images of noise. Each script trains once, the first
    time; later its options are read, and the events of that run are there again.
    """
    write_images(tmp_path / "noise", classes=10, count=12)

    def command(words, **_):
        _, script, *words = words
        words = [*map(str, words), *map(str, SMALL[script.stem]), "--data", "noise",
                 "--evaluations", "1", "--threads", "1"]
        made, module = tmp_path / script.stem, import_script(script.stem)
        if "--help" not in words and made.exists():
            config = parse(module.Config, module.RECIPES, words)
            shutil.copytree(made, config.logdir, dirs_exist_ok=True)
            return
        status, _, err = run_script(script, *words, cwd=tmp_path)
        assert status == 0, err
        if "--help" not in words:
            shutil.copytree(words[words.index("--logdir") + 1], made)
    monkeypatch.setattr(peers, "Case", functools.partial(peers.Case, shape=(8, 8, 1), count=64))
    monkeypatch.setattr(sys, "argv", ["waiting.py", "--one", "starter", "--steps", "3"])
    waiting.main()
    rate = json.loads(capsys.readouterr().out)["rate"]
    assert rate > 0
    monkeypatch.setattr(waiting, "in_process", lambda *_: {"first": 0.0, "rate": rate})
    monkeypatch.setattr(sys, "argv", ["waiting.py", "--rounds", "1", "--steps", "3"])
    monkeypatch.setattr(waiting, "subprocess", types.SimpleNamespace(
        run=command, DEVNULL=None))
    waiting.main()
    out = capsys.readouterr().out
    assert len(re.findall(r"^\| (?:--help|first step done) \| \d.* \| \d", out, re.M)) == 2
    assert out.count("never") == 3
