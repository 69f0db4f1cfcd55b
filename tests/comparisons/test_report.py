"""Documents refilled from studies and checked against them; one changed digit is found."""
import shutil
import threading

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, assert_one_line, run_script

import sweep
from comparisons import report, stored, study
from system.command_line import InputError, as_text
from system.files import write_json

TOML = '''question = "?"
script = "cifar_lenet5.py"
seeds = [0, 1]
figures = [{kind = "dots"}, {kind = "curves", name = "one-curves", by = "epoch"}]
[[configurations]]
name = "a, plain"
published = "47"
[[configurations]]
name = "b"
learning_rate = 0.5
'''
DOCUMENT = """# Findings
LeNet-5 reaches 55.00 ± 7.07 %.
<!-- study one -->
old
<!-- end -->
![One](figures/one.png)
"""
ROW = {"data": "D", "steps": 10, "steps_per_epoch": 5.0, "train_seconds": 2.0,
       "images_per_second": 9.0, "status": "finished"}


@pytest.fixture
def folder(tmp_path, monkeypatch, quick_figures):
    """A folder with one study and a document of it, in which one is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies/one.toml").write_text(TOML)
    (tmp_path / "one.md").write_text(DOCUMENT)
    rows, series, steps = [], {}, np.array([0, 5, 10])
    for name, run_name in (("a, plain", "a-plain"), ("b", "b")):
        for seed, accuracy in ((0, 0.5), (1, 0.6)):
            rows.append({"configuration": name, "seed": seed, "test_accuracy": accuracy, **ROW})
            series[f"{run_name}-seed{seed}"] = {
                ("train", "batch/loss"): (steps, None, [3.0, 2.0, 1.0 + seed]),
                ("test", "evaluation/accuracy"): (steps[-1:], None, [accuracy])}
    stored.write(stored.load("one"), rows, series)
    yield tmp_path
    plt.close("all")


def check(capsys, *paths, write=False):
    """Exit status of report, and the lines that are not "ok"."""
    status = report.run(paths, not write)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5, lines  # the CSV, two figures, a table, a number
    return status, [line.split(maxsplit=1)[1] for line in lines if not line.startswith("ok ")]


def test_report_refills_and_checks(folder, capsys):
    status = report.run(["one.md"], True)
    assert status == 1 and "one.png is not there" in capsys.readouterr().out
    assert not (folder / "figures").exists() and (folder / "one.md").read_text() == DOCUMENT
    assert check(capsys, "one.md", write=True) == (0, [])
    text = (folder / "one.md").read_text()
    assert "| a, plain | 10 | 2 | 55.00\xa0±\xa07.07 | 2\xa0±\xa00 | 47 |" in text
    assert "old" not in text
    assert (folder / "figures/one.png").exists() and (folder / "figures/one-curves.png").exists()
    assert check(capsys, "one.md") == (0, [])


@pytest.fixture(scope="module")
def refilled(tmp_path_factory):
    return tmp_path_factory.mktemp("refilled")


@pytest.fixture
def written(folder, refilled, capsys):
    """The folder, its document refilled and its figures drawn, which is done once."""
    if not any(refilled.iterdir()):
        check(capsys, "one.md", write=True)
        shutil.copytree(folder, refilled, dirs_exist_ok=True)
    return shutil.copytree(refilled, folder, dirs_exist_ok=True)


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("change, said", [
    ("table", ["one.md: study one"]),
    ("sentence", ["one.md: 55.01 ± 7.07 stands in no table of it"]),
    ("csv", ["studies/one.csv: a-plain-seed1 test_accuracy 0.61 is 0.6 there", "figures/one.npz",
             "one.md: study one"]),
    ("column", ["studies/one.csv: speed is no column that runs give"]),
    ("curves", ["figures/one-curves.npz"]), ("figure", ["figures/one.npz"]),
    ("picture", ["figures/one.npz"])])
def test_one_changed_digit_is_found(change, said, written, capsys):
    folder = written
    if change == "table":
        edit(folder / "one.md", "2\xa0±\xa00 | 47", "2\xa0±\xa00 | 48")
    elif change == "sentence":
        edit(folder / "one.md", "reaches 55.00", "reaches 55.01")
    elif change == "csv":
        edit(folder / "studies/one.csv", 'plain",1,D,10,5.0,0.6', 'plain",1,D,10,5.0,0.61')
    elif change == "column":
        edit(folder / "studies/one.csv", "images_per_second", "speed")
    elif change == "picture":
        (folder / "figures/one.png").rename(folder / "one.png")
        edit(folder / "one.md", "figures/one.png", "one.png")
    else:
        file = folder / {"curves": "figures/one-curves.npz", "figure": "figures/one.npz"}[change]
        with np.load(file) as arrays:
            numbers = dict(arrays)
        key = next(key for key in numbers if numbers[key].dtype.kind == "f")
        numbers[key] = numbers[key] * (1 + 1e-7)
        np.savez(file, **numbers)
    status, wrong = check(capsys, "one.md")
    assert status == 1 and wrong == said


def test_rows_that_were_made_otherwise_than_their_study_says_are_found(folder, capsys):
    rows = [{**row, "learning_rate": "0.5"} if row["configuration"] == "b" else row
            for row in stored.read_csv(folder / "studies/one.csv")]
    stored.write_csv(folder / "studies/one.csv", rows, ["learning_rate"])
    check(capsys, "one.md", write=True)
    assert check(capsys, "one.md") == (0, [])
    edit(folder / "studies/one.toml", "learning_rate = 0.5", "learning_rate = 0.25")
    status, (wrong,) = check(capsys, "one.md")
    assert status == 1 and "b-seed0 was made with learning_rate 0.5, not 0.25" in wrong


def test_collecting_keeps_the_rows_that_the_study_no_longer_names(folder):
    edit(folder / "studies/one.toml", 'name = "b"', 'name = "c"')
    study.collect(stored.load("one"), {}, {})
    assert [row["configuration"] for row in stored.read_csv(folder / "studies/one.csv")].count(
        "b") == 2


def test_a_run_that_cannot_be_read_takes_no_rows_of_others_with_it(folder):
    """Two that diverged, one after its first evaluation; the file of a third is damaged."""
    edit(folder / "studies/one.toml", 'name = "b"', 'name = "c"')
    edit(folder / "studies/one.toml", "seeds = [0, 1]", "seeds = [0, 1, 2]")
    runs = {seed: folder / f"c-seed{seed}" for seed in range(3)}
    for seed, run in runs.items():
        write_json(run.mkdir() or run / "config.json", {
            "options": {"name": "c", "seed": seed}, "total_steps": 3, "data": {"title": "D"}})
    with tf.summary.create_file_writer(str(runs[1] / "train")).as_default():
        tf.summary.write("over_time/gradient", np.array([2.0, 8.0]), step=0)
    (runs[0] / "result.json").write_text("{")
    with pytest.raises(InputError, match="c-seed0/result.json cannot.*; the rows of all other"):
        study.collect(stored.load("one"), {("c", 0): runs[0]}, {("c", k): runs[k] for k in (1, 2)})
    made = [row for row in stored.rows(stored.load("one")) if row["configuration"] == "c"]
    assert [(row["seed"], row["status"], row.get("gradient_before")) for row in made] == [
        (1, "diverged", 4), (2, "diverged", None)]


def test_a_figure_that_a_studys_runs_do_not_allow_is_refused(folder):
    """No finished run kept kernels or norms; without any run nothing is finished."""
    for kind in ("filters", "over_time"):
        edit(folder / "studies/one.toml", 'figures = [{kind = "dots"}',
             f'figures = [{{kind = "{kind}"}}')
        with pytest.raises(InputError, match=f"one has not what its figure {kind} shows"):
            study.draw(["one"])
        (folder / "studies/one.toml").write_text(TOML)


def test_each_line_is_printed_at_once(folder, monkeypatch, capsys):
    def check_studies(_):
        yield "the first", True
        assert "the first" in capsys.readouterr().out
        yield "the second", True
    monkeypatch.setattr(report, "check_studies", check_studies)
    report.run(["one.md"], True)
    assert capsys.readouterr().out.startswith("ok       the second")


def test_two_sweeps_that_end_at_once_lose_no_rows(folder, monkeypatch):
    """The second comes when the first has read the rows and not yet written its own."""
    (folder / "studies/one.csv").unlink()
    runs = {("b", seed): folder / f"b-seed{seed}" for seed in (0, 1)}
    for (_, seed), run in runs.items():
        run.mkdir()
        write_json(run / "config.json", {"options": {"name": "b", "seed": seed}, "total_steps": 3,
                                         "data": {"title": "D"}})
        write_json(run / "result.json", {"test_accuracy": 0.5})
    write, threads = stored.write, []

    def write_late(*what):
        if not threads:
            threads.append(threading.Thread(target=collect, args=(1,)))
            threads[0].start()
            threads[0].join(0.5)
        write(*what)

    def collect(seed):
        study.collect(stored.load("one"), {("b", seed): runs["b", seed]}, {})
    monkeypatch.setattr(stored, "write", write_late)
    collect(0)
    threads[0].join()
    assert [row["seed"] for row in stored.rows(stored.load("one"))] == [0, 1]
    assert not [*folder.glob("studies/.*")]


def test_strays_by_hand():
    block = "<!-- study x -->\n| 50.0 ± 1.0 |\n<!-- end -->"
    assert [*report.strays(f"50.0\n± 1.0 and 3 ± 1, ```4 ± 1```, 50.0\xa0±\xa01.0\n{block}")] == [
        ("50.0 ± 1.0", True), ("3 ± 1", False), ("50.0 ± 1.0", True)]


def test_what_a_benchmark_prints_is_read_whatever_the_locale_says(monkeypatch):
    monkeypatch.chdir(ROOT)
    usual = report.of_benchmark.__wrapped__("lenet5 training")
    for name, value in (("LC_ALL", "C"), ("PYTHONUTF8", "0"), ("PYTHONCOERCECLOCALE", "0")):
        monkeypatch.setenv(name, value)
    assert report.of_benchmark.__wrapped__("lenet5 training") == usual and not usual.isascii()


def test_report_refuses(folder):
    for text, said in (("<!-- study x -->\nprose", "no <!-- end -->"),
                       ("<!-- python x -->\n<!-- end -->", "none of study"),
                       ("<!-- study one -->\n" * 2 + "<!-- end -->", "none of study")):
        with pytest.raises(InputError, match=said):
            report.blocks(text)
    for text, said in (("study none", "no study none; studies are one"),
                       ("figure best/none", "no figure none"),
                       ("benchmark none", "no benchmark none"),
                       ("benchmark waiting", "benchmarks/waiting.py")):
        (folder / "bad.md").write_text(text := f"<!-- {text} -->\n<!-- end -->")
        (what, right), = report.check_document(folder / "bad.md", write=True)
        assert not right and said in what and (folder / "bad.md").read_text() == text
    with pytest.raises(InputError, match="missing.md"):
        report.run(["missing.md"], True)


@pytest.mark.parametrize("text, said", [
    ("question = 1\nquestion = 2", "one.toml.*overwrite"), ("seeds = [0]", "one.toml.*question"),
    ('question = "?"\nother = 1', "other"), ("question = 3", "question cannot be 3"),
    ('question = "?"\nseeds = [[1]]', r"seeds cannot be \[1\]"),
    ('question = "?"\nfigures = [{kind = "dots"}, {kind = "heat", name = "one"}]',
     "figures need different names"),
    ('question = "?"\nfigures = [{}]', "needs a kind"), (f"a = {'[' * 99999}", "recursion"),
    ('question = "?"\n[grid]\nsteps = 3', "list of values"),
    ('question = "?"\n[[configurations]]\nname = "a"', "'a' has no script"),
    ('question = "?"\nscript = "../x.py"\n[[configurations]]\nname = "a"',
     "script must be a plain name"),
    ('question = "?"\nscript = "x.py"\n[[configurations]]\nname = "a"\n[[configurations]]\n'
     'name = "a"', "different names"),
    ('question = "?"\n[[configurations]]\nname = "a"\nfrom = "b"\nsteps = 1', "no options steps")])
def test_a_study_that_is_wrong_is_refused(text, said, folder):
    (folder / "studies/one.toml").write_text(text)
    with pytest.raises(InputError, match=said):
        stored.load("one")


def test_studies_that_take_rows_from_each_other_are_refused(folder):
    (folder / "studies/one.toml").write_text(
        'question = "?"\n[[configurations]]\nname = "a"\nfrom = "one"')
    with pytest.raises(InputError, match="in a circle"):
        stored.rows(stored.load("one"))


def test_a_grid_multiplies_and_rows_are_taken_from_another_study(folder):
    (folder / "studies/grid.toml").write_text(
        'question = "?"\nscript = "x.py"\nfixed = {steps = 3}\ngrid = {loss = ["a", "b"], '
        'grey = [true]}\n[[configurations]]\nname = "x"\n[[configurations]]\nname = "theirs"\n'
        'from = "one"\nconfiguration = "b"\nseeds = [1]\n')
    grid = stored.load("grid")
    assert [one.name for one in grid.configurations] == [
        "x, loss=a, grey=True", "x, loss=b, grey=True", "theirs"]
    first = grid.configurations[0]
    assert first.slug == "x-loss=a-grey=True" and grid.varied == ["loss"]
    assert first.words(0) == ["--steps", "3", "--loss", "a", "--grey"]
    (row,) = stored.rows(grid)
    assert (row["configuration"], row["seed"], row["study"]) == ("theirs", 1, "one")
    assert stored.series("one")[row["run"]]["train", "batch/loss"][2].tolist() == [3, 2, 2]
    file = folder / "studies/grid.toml"
    file.write_text(file.read_text().replace("seeds = [1]", "seeds = [1, 7, 8]"))
    with pytest.raises(InputError, match="study grid: one has no rows of b, seed 7, 8$"):
        stored.rows(stored.load("grid"))


def test_rows_made_before_what_is_fixed_was_changed_are_told(folder):
    """What a study gives to its runs stays in their rows, so that another value contradicts it."""
    text = ('question = "?"\nscript = "x.py"\n[fixed]\nrate = 0.1\nsides = [1, 2]\n'
            'source = "s-{seed}"\n[[configurations]]\nname = "a"\n')
    (folder / "studies/f.toml").write_text(text)
    row = {"configuration": "a", "seed": 0, "data": "D", "rate": "0.1", "sides": "1.0,2.0",
           "source": "s-0", "status": "finished", "other": "3"}
    kept = {name: value for name, value in row.items() if study.is_kept(stored.load("f"), name)}
    assert {*row} - {*kept} == {"other"}
    stored.write(stored.load("f"), [kept], {})
    assert [*stored.contradictions(stored.load("f"))] == []
    (folder / "studies/f.toml").write_text(text.replace("0.1", "0.2"))
    assert [*stored.contradictions(stored.load("f"))] == ["a-seed0 was made with rate 0.1, not 0.2"]


# ------------------------------------------------------------------- the project's own documents

@pytest.mark.slow
def test_the_documents_say_what_the_studies_say(monkeypatch, capsys):
    """python visualize.py report --check, here without starting Python."""
    monkeypatch.chdir(ROOT)
    status = report.run([], True)
    assert status == 0, [line for line in capsys.readouterr().out.splitlines()
                         if not line.startswith("ok ")]
    for name in report.DOCUMENTS:
        found = report.blocks((ROOT / name).read_text())
        assert all(block[4].count("\n") > 1 for block in found), "an empty block"


@pytest.mark.slow
def test_the_studies_are_of_the_runs_in_their_files(monkeypatch):
    """Every configuration's options are ones of its script; rows have them, and every seed."""
    monkeypatch.chdir(ROOT)
    for one in map(stored.load, stored.names()):
        keys = {(own.name, seed): None for own in one.own for seed in own.seeds}
        rows = {(row["configuration"], row["seed"]): row for row in stored.rows(one, own=True)}
        assert rows.keys() == keys.keys(), one.name
        for job in sweep.plan_study(one, "nowhere", keys):
            row = rows[job.row]
            for option in set(one.varied) - {"data", "steps", "recipe"}:
                if option in row and hasattr(job.config, option):  # else of its commit
                    assert row[option] == as_text(getattr(job.config, option)), (job.row, option)
        assert [*study.figures_of(one)] or one.columns, f"{one.name} shows nothing"


def test_command(tmp_path):
    assert_one_line(run_script("visualize.py", "report", "missing.md", "--check", cwd=tmp_path),
                    "missing.md")
