"""Documents refilled from logs, checked against them, and logs made small enough to commit."""
import csv
import json
import re
import shlex

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, assert_one_line, run, short_runs

import machine
import report
import sweep
import visualize
from charts import read_events
from comparisons import study, tabulate


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """A folder in which two short runs have been made, one of each experiment."""
    folder = tmp_path_factory.mktemp("report")
    short_runs(folder, 30)
    return folder


DOCUMENT = """# Findings
LeNet-5 reaches {claim} %.
<!-- python visualize.py table logs/cifar_lenet5/a-seed* --beside original 47 -->
old
<!-- end -->
<!-- python visualize.py compare logs/*/a-seed0 -->
<!-- end -->
"""


def test_report_refills_and_checks(logs):
    document = logs / "report.md"
    document.write_text(DOCUMENT.format(claim="some"))
    status, _, err = run("visualize.py", "report", "report.md", "--check", cwd=logs)
    assert status == 1 and "differs from what the logs say: python visualize.py table" in err
    assert "compare.npz: differs" in err and "old" in document.read_text()
    assert not (logs / "figures").exists()

    assert run("visualize.py", "report", "report.md", cwd=logs) == (0, "", "")
    text = document.read_text()
    accuracy = json.loads((logs / "logs/cifar_lenet5/a-seed0/result.json").read_text())
    assert f"| a | 30 | 1 | {100 * accuracy['test_accuracy']:.2f} |" in text
    assert "| 47 |" in text and "| original |" in text and "old" not in text
    assert (logs / "figures/compare.png").exists()
    assert not (logs / "logs/cifar_lenet5/a-seed0/figures").exists()  # logs stay as they are
    assert run("visualize.py", "report", "report.md", "--check", cwd=logs) == (0, "", "")

    numbers = logs / "figures/compare.npz"
    with np.load(numbers) as stored:
        np.savez(numbers, **{name: values + 0.01 for name, values in stored.items()})
    status, _, err = run("visualize.py", "report", "report.md", "--check", cwd=logs)
    assert status == 1 and err.count("\n") == 1 and "compare.npz: differs" in err


def test_a_claim_without_a_table_is_found(logs):
    (logs / "claim.md").write_text(DOCUMENT.format(claim="70.1 +- 0.2"))
    status, _, err = run("visualize.py", "report", "claim.md", cwd=logs)
    assert status == 1 and "70.1 +- 0.2 stands in no table" in err


def test_strays_by_hand():
    block = "<!-- python visualize.py table x -->\n| 50.0 +- 1.0 |\n<!-- end -->"
    assert report.strays(f"50.0\n+- 1.0 and 3 +- 1, ```4 +- 1```\n{block}") == ["3 +- 1"]


@pytest.mark.parametrize("value, same", [(76.5, True), (76.5002, True), (76.501, False)])
def test_figures_may_differ_by_what_another_processor_does(value, same, tmp_path):
    for folder, number in (("made", value), ("kept", 76.5)):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "a.npz", x=np.array([number, np.nan]), name="a")
    different = report.differing(tmp_path / "made", tmp_path / "kept")
    assert different == ([] if same else [tmp_path / "kept" / "a.npz"])


def test_report_refuses(logs):
    for text, said in (("<!-- python visualize.py table x -->\nprose", "no <!-- end -->"),
                       ("<!-- python visualize.py table 'x -->\n<!-- end -->", "quotation"),
                       ("<!-- python  -->\n<!-- end -->", "no table"),
                       ("<!-- python visualize.py report -->\n<!-- end -->", "no table"),
                       ("<!-- python visualize.py projector x -->\n<!-- end -->", "no table"),
                       ("<!-- python benchmarks/cost.py -->\n<!-- end -->", "no table"),
                       ("<!-- python sweep.py mnist_rnn.py -->\n<!-- end -->", "no table"),
                       ("<!-- python visualize.py table x -->\n" * 2 + "<!-- end -->", "no <!--")):
        (logs / "bad.md").write_text(text)
        assert_one_line(run("visualize.py", "report", "bad.md", cwd=logs), said, "bad.md")
        assert (logs / "bad.md").read_text() == text
    (logs / "empty.md").write_text("<!-- python visualize.py table logs/none* -->\n<!-- end -->")
    assert_one_line(run("visualize.py", "report", "empty.md", cwd=logs), "logs/none*")
    assert_one_line(run("visualize.py", "report", "missing.md", cwd=logs), "missing.md")
    assert_one_line(run("visualize.py", "table", cwd=logs), "folder")
    assert_one_line(run("visualize.py", "table", "logs/cifar_lenet5/a-seed0", "--beside", "x",
                        cwd=logs), "--beside")


def test_keep_makes_small_copies_that_say_the_same(logs):
    whole = [logs / "logs" / script / "a-seed0" for script in ("cifar_lenet5", "mnist_rnn")]
    assert run("visualize.py", "keep", *whole, "--out", logs / "kept") == (0, "", "")
    assert_one_line(run("visualize.py", "keep", *whole, "--out", logs / "kept"), "there already")
    assert_one_line(run("visualize.py", "keep", *whole), "--out")
    small = [logs / "kept" / script / "a-seed0" for script in ("cifar_lenet5", "mnist_rnn")]
    for before, after in zip(whole, small):
        size = sum(file.stat().st_size for file in after.rglob("*"))
        assert size < 100_000 and not (after / "checkpoints").exists()
        old, new = read_events(before), read_events(after)
        for key in (("train", "batch/loss"), ("validation", "evaluation/accuracy"),
                    ("test", "evaluation/accuracy"), ("result", "result/test_accuracy")):
            np.testing.assert_array_equal(old[key][0], new[key][0])
            np.testing.assert_array_equal(old[key][2], new[key][2])
        if "cifar_lenet5" in str(after):
            key = "train", "filters/kernel"
            assert new[key][0].tolist() == [old[key][0][-1]]
        assert all(len(file.name.split(".")) == 4 for file in after.rglob("events*"))
    assert study(whole[:1])[0] == study(small[:1])[0]


def test_kept_losses_are_thinned(tmp_path):
    run_folder = tmp_path / "cifar_lenet5" / "long"
    with tf.summary.create_file_writer(str(run_folder / "train")).as_default():
        for step in range(2500):
            tf.summary.scalar("batch/loss", float(step), step=step)
    (run_folder / "config.json").write_text('{"total_steps": 2500}')
    (run_folder / "result.json").write_text("{}")
    report.keep(run_folder, tmp_path / "kept", 900)
    steps, _, values = read_events(tmp_path / "kept")["train", "batch/loss"]
    assert steps.tolist() == list(range(0, 2500, 3)) and values == list(map(float, steps))


def test_the_report_names_the_commands_that_made_its_logs(monkeypatch):
    """Each sweep of report.md has ended under logs/report, with just these options."""
    if not machine.has_bfloat16():
        pytest.skip("recipe best has another precision here than where the runs were made")
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "report.md").read_text(), re.DOTALL)
    lines = [shlex.split(line) for line in "".join(blocks).splitlines()]
    sweeps = [words[2:] for words in lines if words[:2] == ["python", "sweep.py"]]
    assert len(sweeps) > 10
    for words in sweeps:
        options = sweep.command_line(words)
        unfinished = {job.folder.name for job in sweep.plan(options)  # InputError if a run has
                      if not job.finished}                            # other options
        if unfinished:
            table = ROOT / "logs/report/sweeps" / options.name / "results.csv"
            rows = csv.DictReader(table.read_text().splitlines())
            assert unfinished <= {row["run"] for row in rows if row["status"] == "diverged"}


@pytest.mark.parametrize("name", visualize.DOCUMENTS)
def test_the_documents_say_what_the_logs_say(name, tmp_path):
    """Every block but the studies, whose fits take minutes: python visualize.py report --check."""
    text = (ROOT / name).read_text()
    blocks = [block[0] for block in report.BLOCK.finditer(text)
              if not block[2].startswith("visualize.py study")]
    assert len(blocks) > 1 and report.strays(text) == []
    assert all(block[3].count("\n") > 1 for block in report.BLOCK.finditer(text)), "an empty block"
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (ROOT / name).parent.joinpath(picture).exists(), picture
    (tmp_path / "x.md").write_text("\n".join(blocks))
    assert run("visualize.py", "report", tmp_path / "x.md", "--check", cwd=ROOT) == (0, "", "")


def test_the_studies_are_of_the_runs_there(monkeypatch):
    """Runs, seeds and accuracies of the blocks that the test above leaves out."""
    monkeypatch.chdir(ROOT)

    def rows(table, accuracy):
        """[(run, seeds, mean test accuracy)], columns found by their headings."""
        cells = [[cell.strip() for cell in line.split("|")[1:-1]]
                 for line in table.splitlines() if line.startswith("|")]
        columns = [cells[0].index(name) for name in ("run", "seeds", accuracy)]
        return [(row[columns[0]], row[columns[1]], float(row[columns[2]].split(" +- ")[0]))
                for row in cells[2:]]
    blocks = [block for block in report.BLOCK.finditer((ROOT / "report.md").read_text())
              if block[2].startswith("visualize.py study")]
    assert len(blocks) > 4
    for block in blocks:
        options = visualize.parse(report.expand(block[2])[1:])
        shown, there = (rows(table, "test accuracy (%)") for table in (
            block[3], tabulate(options.runs, options.names)))
        assert [row[:2] for row in shown] == [row[:2] for row in there], block[2]
        np.testing.assert_allclose([row[2] for row in shown], [row[2] for row in there], atol=0.06)
