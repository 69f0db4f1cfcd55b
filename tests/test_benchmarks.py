"""Tables of the benchmarks from measured figures, by hand; nothing is timed here."""
import json
import re

import pytest
from conftest import ROOT, assert_one_line, run

CASE = "lstm 128, batch 128, float32"
ROUNDS = [{"ceiling": {"float32": 200, "bfloat16": 400, "machine": "2 cores of X"}, CASE: {
    "ours": {"rate": ours, "evaluation": 9e4, "memory": 600.4},
    "keras": {"rate": 100, "evaluation": 1e4, "memory": 700},
    "torch": {"rate": 1e4, "evaluation": 5e4, "memory": 400}}} for ours in (15e3, 20e3, 10e3)]
ROUNDS[0][CASE]["jax"] = {"rate": 50, "evaluation": 70, "memory": 300}  # slow ways run once
ALONE = [ROUNDS[0], {**ROUNDS[1], CASE: {"ours": ROUNDS[1][CASE]["ours"]}}]  # nobody beside us
WAITING = {"--help": {"cifar_lenet5.py": [0.1], "mnist_rnn.py": [0.2]},
           "validation accuracy of the original's best": {"cifar_lenet5.py": [20.0]},
           "the same, the starter-code way": {"cifar_lenet5.py": [130.0]}}
COST = [{"recipe original": {"rate": rate, "weights": 3274634}} for rate in (1000.4, 3000, 2000)]

INSIDE = {"rounds": [{"ours": {"occlusion": 1, "deconvolution": 2},
                      "captum": {"occlusion": theirs, "deconvolution": 1}} for theirs in (1, 3, 2)],
          "difference": {"occlusion": 3.21e-6, "deconvolution": 0}}


@pytest.mark.parametrize("script, figures, lines", [
    ("throughput", ROUNDS, [
        "3 rounds; 2 cores of X; large products: 200 (200 .. 200) GFLOP/s float32",
        # 12.62 MFLOP an image: 2 (28 (2 * 28 * 512 + 3 * 512 * 128) + 3 * 128 * 10)
        f"| {CASE} | 15,000 (95 %) | 100 (1 %) | 10,000 (63 %) | 50 (0 %) | 1.50 (1.00 .. 2.00) |",
        # 4.48 MFLOP: 2 (28 (28 * 512 + 512 * 128) + 128 * 10)
        f"| {CASE} | 90,000 (201 %); 600 MiB | 10,000 (22 %); 700 MiB | 50,000 (112 %); 400 MiB | "
        "70 (0 %); 300 MiB |"]),
    ("throughput", ALONE, [f"| {CASE} | 17,500 (110 %) | 100 (1 %) | 10,000 (63 %) | 50 (0 %) | "
                           "1.50 (1.50 .. 1.50) |"]),
    ("waiting", WAITING, ["| --help | 0.1 (0.1 .. 0.1) | 0.2 (0.2 .. 0.2) |",
                          "starter-code way / ours: 6.5 (6.5 .. 6.5)"]),
    ("cost", COST, ["3 rounds", "| recipe original | 3,274,634 | 2,000 (1,000 .. 3,000) |"]),
    ("inside_speed", INSIDE, ["1.00 (1.00 .. 1.00) | 2.00 (1.00 .. 3.00) | 2.00 (1.00 .. 3.00) | "
                              "3e-06 |", "| 0.50 (0.50 .. 0.50) | 0 |"])])
def test_tables(script, figures, lines, tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(figures))
    status, out, err = run(f"benchmarks/{script}.py", "--read", tmp_path / "x.json")
    assert (status, err) == (0, "")
    for line in lines:
        assert line in out, out


def test_a_document_can_hold_them(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(COST))
    document = tmp_path / "x.md"
    document.write_text(f"<!-- python benchmarks/cost.py --read {tmp_path}/x.json -->\n"
                        "<!-- end -->")
    assert run("visualize.py", "report", document, cwd=ROOT) == (0, "", "")
    assert "| recipe original | 3,274,634 |" in document.read_text()
    (tmp_path / "x.json").unlink()
    assert_one_line(run("visualize.py", "report", document, cwd=ROOT), "cost.py", "x.json")


def test_waiting_at_a_small_budget(real_data):
    """A number for what three steps reach, nan for the accuracies, which they do not."""
    status, out, err = run("benchmarks/waiting.py", "--rounds", 1, "--steps", 3,
                           DATA_DIR=str(real_data))
    assert (status, err) == (0, "")
    assert len(re.findall(r"^\| (?:--help|first step done) \| \d.* \| \d", out, re.M)) == 2
    assert out.count("nan (nan .. nan)") == 4
