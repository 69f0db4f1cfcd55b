"""The command line of figures: which commands there are, what they write, what they refuse."""
import csv
import importlib
import re
import shutil
import subprocess
import sys
import threading
import types
import xml.etree.ElementTree as tree
from concurrent.futures import ThreadPoolExecutor

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, assert_one_line, run, run_script
from PIL import Image

import inside
import visualize
from system.command_line import InputError, Interrupted
from system.files import load_arrays
from training.events import read_events

COMMANDS = [name for own in visualize.commands().values() for name in own]
PIXELS = '''"""Count bright pixels of the test images."""
import matplotlib.pyplot as plt
import numpy as np

OPTIONS = {"above": "what is bright, 0 .. 255"}


def draw(record, above=128):
    """Draw the share of bright pixels."""
    share = np.mean(record.network.data.test_images > above)
    figure, axis = plt.subplots()
    axis.bar([0], [share])
    return figure, {"share": share, "above": above}
'''


def write_events(folder, **series):
    with tf.summary.create_file_writer(str(folder)).as_default():
        for tag, values in series.items():
            for step, value in enumerate(values):
                tf.summary.scalar(tag.replace("__", "/"), value, step=step)


@pytest.mark.slow
def test_a_new_file_of_inside_is_a_command(small_run, tmp_path, monkeypatch):
    """Its docstring is its help, draw's keywords its options; nothing else is to be told of it."""
    for room in visualize.ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room)
    (tmp_path / "inside" / "bright_pixels.py").write_text(PIXELS)
    monkeypatch.setattr(visualize, "ROOT", tmp_path)
    monkeypatch.setattr(inside, "__path__", [*inside.__path__, str(tmp_path / "inside")])
    run = shutil.copytree(small_run, tmp_path / "logs" / "a-seed0")
    assert re.search("bright_pixels +Count bright pixels", run_script("visualize", "--help")[1])
    status, out, _ = run_script("visualize", "bright_pixels", "--help")
    assert status == 0 and "--above" in out and "what is bright, 0 .. 255 (default: 128)" in out
    assert_one_line(run_script("visualize", "bright_pixels", run, "--above", "much"), "--above")
    try:
        status, out, err = run_script("visualize", "bright_pixels", run, "--above", 255, "--out",
                                      tmp_path / "f")
        assert (status, err) == (0, ""), err
        assert (tmp_path / "f/a-seed0/bright_pixels.png").exists()
        numbers = load_arrays(tmp_path / "f/a-seed0/bright_pixels.npz")
        assert numbers["share"] == 0 and numbers["above"] == 255
        assert ("figures", "figures/bright_pixels") in read_events(run)
        monkeypatch.setattr(visualize, "commands", lambda: {
            "inside": {"bright_pixels": ""}, "comparisons": {}})
        assert "bright_pixels.png" in run_script("visualize", "all", run, "--out",
                                                 tmp_path / "g")[1]
    finally:
        sys.modules.pop("inside.bright_pixels", None)


@pytest.mark.parametrize("command", ["all", *COMMANDS])
def test_every_command_has_help(command):
    status, out, err = run_script("visualize", command, "--help")
    assert status == 0 and not err and f"visualize.py {command}" in out


def test_every_figure_of_a_network_names_its_source():
    """A year, an arXiv number or the original report, in what --help shows."""
    for name in visualize.commands()["inside"]:
        said = importlib.import_module(f"inside.{name}").__doc__
        assert re.search(r"arXiv\s\d{4}\.\d{4,5}|\b(19|20)\d\d\b|original report", said), name


def made_up(monkeypatch, **modules):
    """Let these be all commands of inside; what they draw is their name and what they got."""
    for name, attributes in modules.items():
        module = types.ModuleType(f"inside.{name}", "Draw nothing.")
        vars(module).update(dict(draw=lambda record, **own: []) | attributes)
        monkeypatch.setitem(sys.modules, f"inside.{name}", module)
    monkeypatch.setattr(visualize, "commands", lambda: {
        "inside": dict.fromkeys(modules, "Draw nothing."), "comparisons": {}})


def test_all_leaves_out_what_is_slow_or_takes_more(tmp_path, monkeypatch):
    """A module with SLOW or TAKES; those of the repository that have them are the known ones."""
    every = visualize.commands()["inside"].keys()
    left_out = {name for name in every if {"SLOW", "TAKES"} & vars(
        importlib.import_module(f"inside.{name}")).keys()}
    assert left_out == {"maximize", "picture", "sanity"}
    first, *others, last = visualize.of_every_run()
    assert (first, last) == ("comparisons.curves", "inside.explore")
    assert {*others, last} == {f"inside.{name}" for name in every - left_out}
    write_events(tmp_path / "r" / "train", batch__loss=[3.0, 2.0])
    asked = []
    made_up(monkeypatch, slow={"SLOW": True})
    monkeypatch.setattr(visualize, "draw_inside", lambda names, *_: asked.append(names))
    assert run_script("visualize", "all", tmp_path / "r")[0] == 0
    assert run_script("visualize", "slow", tmp_path / "r")[0] == 0
    assert asked == [visualize.of_every_run(), ["inside.slow"]]


def test_a_run_and_files(tmp_path, monkeypatch):
    """TAKES = "RUN FILE...": the first word is the run, the others are draw's pictures."""
    write_events(tmp_path / "r" / "train", batch__loss=[3.0, 2.0])
    got = []
    made_up(monkeypatch, more={"TAKES": "RUN FILE...", "draw": lambda record, pictures: got.append(
        (record.name, [p.name for p in pictures])) or []})
    assert run_script("visualize", "more", tmp_path / "r", "a.png", "b.png")[0] == 0
    assert got == [("r", ["a.png", "b.png"])]
    assert_one_line(run_script("visualize", "more", tmp_path / "r"), "FILE")


def test_ctrl_c_waits_for_one_figure_only(tmp_path, monkeypatch):
    """Of two the first is being written, as slowly as it takes to give the second up."""
    written, begun, given_up = [], threading.Event(), threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            given_up.set()
            super().shutdown(wait)

    def write(figures, *_):
        begun.set()
        given_up.wait(60)
        written.append(figures)

    def stop(*_):
        begun.wait(60)
        raise Interrupted("stopped", 2)
    for name, draw in (("one", lambda *_: []), ("two", lambda *_: []), ("three", stop)):
        monkeypatch.setitem(sys.modules, f"inside.{name}", types.SimpleNamespace(draw=draw))
    monkeypatch.setattr(visualize, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(visualize, "write_own", write)
    options = types.SimpleNamespace(out=tmp_path)
    with pytest.raises(Interrupted):
        visualize.draw_inside(["inside.one", "inside.two", "inside.three"],
                              tmp_path / "m.keras", options, {})
    assert written == [[]]


def test_several_runs_are_drawn_together_or_each(tmp_path, monkeypatch):
    """With draw_together, two runs give one figure in out/compared, one run its own; without it
    each has its own."""
    for name in "ab":
        write_events(tmp_path / name / "train", batch__loss=[3.0, 2.0])

    def draw(record):
        return plt.figure(), {"name": record.name}

    def together(records):
        return plt.figure(), {"names": np.array([record.name for record in records])}
    made_up(monkeypatch, both={"draw": draw, "draw_together": together}, each={"draw": draw})
    for command, runs, expected in (
            ("both", "ab", ["compared/both"]), ("both", "a", ["a/both"]),
            ("each", "ab", ["a/each", "b/each"])):
        out = tmp_path / f"{command}{runs}"
        status, said, err = run_script("visualize", command, *runs, "--out", out, cwd=tmp_path)
        assert (status, err) == (0, "")
        assert sorted(str(p.relative_to(out).with_suffix("")) for p in out.rglob("*.png")
                      ) == expected
    assert load_arrays(tmp_path / "bothab/compared/both.npz")["names"].tolist() == ["a", "b"]
    assert not plt.get_fignums()


def test_options_that_would_change_nothing_are_refused(tmp_path, monkeypatch):
    """Those of a single run where several are drawn together, and those of .keras files."""
    for name in "ab":
        write_events(tmp_path / name / "train", batch__loss=[3.0, 2.0])
    got = []
    made_up(monkeypatch, both={
        "OPTIONS": {"count": "how many", "side_by_side": "so", "wide": "so"},
        "draw": lambda record, count=4, side_by_side=False, wide=1: [],
        "draw_together": lambda records, wide=1: got.append((len(records), wide)) or []})
    for words, said in ((("both", "a", "b", "--count", 3), "--count is for a single run"),
                        (("both", "a", "b", "--side-by-side"), "--side-by-side"),
                        (("both", "a", "--pixels", 1), "--pixels is for .keras files")):
        assert_one_line(run_script("visualize", *words, cwd=tmp_path), said)
    words = "both", "a", "b", "--count", 4, "--wide", 2
    assert run_script("visualize", *words, cwd=tmp_path)[0] == 0 and got == [(2, 2)]


def test_two_figures_of_one_name_are_refused():
    """The second would replace the first, as of two sweeps whose folders have one name."""
    with pytest.raises(InputError, match="several figures would be called heat_a; draw one"):
        visualize.named("heat", [("heat_a", None, {}), ("heat_b", None, {}), ("heat_a", None, {})])


def test_a_studys_name_wins_over_a_folder_without_a_run(tmp_path, quick_figures):
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies/training.toml").write_text(
        'question = "?"\nscript = "x.py"\n[[configurations]]\nname = "a"\n')
    (tmp_path / "studies/training.csv").write_text("configuration,seed,status\na,0,diverged\n")
    np.savez(tmp_path / "studies/training.npz", **{
        "a-seed0/train/batch/loss/steps": [0, 1], "a-seed0/train/batch/loss/values": [3.0, 2.0]})
    write_events(tmp_path / "training" / "deep" / "below", batch__loss=[9.0])
    words = ("visualize", "curves", "training", "--out", "f")
    status, _, err = run_script(*words, cwd=tmp_path)
    assert (status, err) == (0, "")
    assert load_arrays(tmp_path / "f/curves.npz")["a/train/batch/loss"][:, 1].tolist() == [3, 2]
    write_events(tmp_path / "training" / "train", batch__loss=[7.0])  # now it is a run's
    assert run_script(*words, cwd=tmp_path)[0] == 0
    found = load_arrays(tmp_path / "f/training/curves.npz")
    assert found["training/train/batch/loss"][:, 1].tolist() == [7]


def test_a_figure_that_tensorboard_cannot_be_shown_is_written(tmp_path, quick_figures):
    """Where its events would lie is a file, as root may write into folders that it should not."""
    write_events(tmp_path / "r" / "train", batch__loss=[3.0, 2.0])
    for name, text in (("config.json", "{}"), ("figures", "")):
        (tmp_path / "r" / name).write_text(text)
    status, out, err = run_script("visualize", "curves", "r", "--out", "f", cwd=tmp_path)
    assert (status, err) == (0, "") and (tmp_path / "f/r/curves.png").exists()
    wrote, note = out.splitlines()
    assert wrote == "wrote f/r/curves.png and curves.npz"
    assert note.startswith("note     TensorBoard does not show it: r/figures: events cannot be ")


def test_a_single_command_prints_its_table(tmp_path, monkeypatch):
    """Of each figure that has rows, after what was written; of several runs drawn together, too.
    `all` prints none."""
    for name in "ab":
        write_events(tmp_path / name / "train", batch__loss=[3.0, 2.0])

    def draw(record):
        return [("one", plt.figure(), {"x": 0.5}), ("other", plt.figure(), {})]

    def together(records):
        return plt.figure(), {"x": len(records)}

    def table(numbers):
        if numbers:
            yield "x", "1 / x"
            yield numbers["x"], np.float64(1) / numbers["x"]
    made_up(monkeypatch, one={"draw": draw, "table": table, "draw_together": together},
            two={"draw": draw})
    monkeypatch.setattr(visualize, "of_every_run", lambda: ["inside.one", "inside.two"])
    for words, end in ((("one", "a"), "npz\n\none\n\n| x | 1 / x |\n|---|---|\n| 0.5 | 2.0 |\n"),
                       (("one", "a", "b"), "npz\n\none\n\n| x | 1 / x |\n|---|---|\n| 2 | 0.5 |\n"),
                       (("two", "a"), "other.png and other.npz\n"),
                       (("all", "a"), "other.png and other.npz\n")):
        status, out, err = run_script("visualize", *words, "--out", "f", cwd=tmp_path)
        assert (status, err) == (0, "")
        assert out.endswith(end) and out.count("|---|") == end.count("|---|"), out
    assert not plt.get_fignums()


def test_help_answers_at_once(poison):
    done = subprocess.run([sys.executable, ROOT / "visualize.py", "--help"], text=True,
                          capture_output=True, env={"PYTHONPATH": poison})
    assert done.returncode == 0 and not done.stderr
    assert all(f"    {name} " in done.stdout for name in COMMANDS)


def test_figures_of_a_run_have_its_folder(tmp_path, quick_figures):
    write_events(tmp_path / "r" / "train", batch__loss=[3.0, 2.0])
    words = ("visualize", "curves", tmp_path / "r", "--out", tmp_path / "f")
    status, out, err = run_script(*words)
    assert status == 0 and err == ""
    assert sorted(p.name for p in (tmp_path / "f" / "r").iterdir()) == [
        "curves.npz", "curves.png", "run.txt"]
    assert ("figures", "figures/curves") not in read_events(tmp_path / "r")  # it is no run of ours
    (tmp_path / "r" / "config.json").write_text("{}")
    assert run_script(*words)[0] == 0
    assert ("figures", "figures/curves") in read_events(tmp_path / "r")  # shown in TensorBoard too
    write_events(tmp_path / "other" / "r" / "train", batch__loss=[9.0])
    before = (tmp_path / "f" / "r" / "curves.npz").read_bytes()
    assert_one_line(run_script("visualize", "curves", tmp_path / "other" / "r", "--out",
                               tmp_path / "f"), "another --out")
    assert (tmp_path / "f" / "r" / "curves.npz").read_bytes() == before
    assert not plt.get_fignums()


def test_whose_figures_a_folder_holds_does_not_depend_on_where_one_is(tmp_path, quick_figures):
    write_events(tmp_path / "a" / "r" / "train", batch__loss=[3.0, 2.0])
    write_events(tmp_path / "b" / "r" / "train", batch__loss=[9.0])
    out = ("--out", tmp_path / "f")
    assert run_script("visualize", "curves", "r", *out, cwd=tmp_path / "a")[0] == 0
    assert (tmp_path / "f/r/run.txt").read_text() == f"{tmp_path}/a/r\n"
    assert_one_line(run_script("visualize", "curves", "r", *out, cwd=tmp_path / "b"),
                    "another --out")
    assert run_script("visualize", "curves", "a/r", *out, cwd=tmp_path)[0] == 0


@pytest.mark.slow
def test_nothing_is_said_of_a_home_that_is_not_there(tmp_path):
    """Where Matplotlib would keep its cache; below a file root cannot make it, either."""
    write_events(tmp_path / "r" / "train", batch__loss=[3.0, 2.0])
    (tmp_path / "file").touch()
    status, _, err = run("visualize.py", "curves", tmp_path / "r", "--out", tmp_path / "f",
                         HOME=f"{tmp_path}/file/home", MPLCONFIGDIR="", XDG_CONFIG_HOME="",
                         XDG_CACHE_HOME="")
    assert (status, err) == (0, "") and (tmp_path / "f" / "r" / "curves.png").exists()


@pytest.mark.parametrize("mark", [b"\xff\n", b"r\0\n", b"", b"x" * 9999])
def test_a_run_txt_that_names_no_run_keeps_figures_out_of_its_folder(tmp_path, mark):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "run.txt").write_bytes(mark)
    with pytest.raises(InputError, match="r holds figures of .*; choose another --out"):
        visualize.own_folder(tmp_path, tmp_path / "runs" / "r")


@pytest.mark.slow
def test_bad_input_is_one_line(tmp_path):
    write_events(tmp_path / "r" / "train", batch__loss=[3.0, 2.0])
    write_events(tmp_path / "other" / "r" / "train", batch__loss=[9.0])
    for words, said in (
            (("curves", "r", "other/r"), "share a name"), (("filters", "r"), "filters/kernel"),
            (("curves", "none"), "none"), (("all", "none"), "none"),
            (("table", "r"), "config.json is not there"), (("heat", "r"), "config.json"),
            (("draw", "r"), "curves"), ((), "COMMAND"), (("curves",), "RUN"),
            (("strongest", "r"), "config.json"), (("curves", "r", "--by", "epoch"), "config.json"),
            (("curves", "r", "--side", 3), "--side"), (("study", "none"), "none"),
            (("occlusion", "r", "--side", "x"), "a whole number")):
        assert_one_line(run_script("visualize", *words, cwd=tmp_path), said)
    assert not (tmp_path / "figures").exists()


@pytest.mark.slow
def test_formats_and_pixels(tmp_path, monkeypatch):
    """An SVG is XML, a PDF has its head and end; twice the dpi are twice the pixels. TensorBoard is
    shown a PNG of the usual size of each."""
    monkeypatch.setitem(visualize.STYLE, "savefig.bbox", None)  # else as large as what is drawn
    write_events(tmp_path / "r" / "train", batch__loss=[3.0, 2.0])
    (tmp_path / "r" / "config.json").write_text("{}")
    for words in (("--format", "svg"), ("--format", "pdf"), ("--dpi", 20), ("--dpi", 40)):
        status, out, err = run_script("visualize", "curves", "r", "--out", words[1], *words,
                                      cwd=tmp_path)
        assert (status, err) == (0, ""), err
        _, _, (shown,) = read_events(tmp_path / "r")["figures", "figures/curves"]
        assert [*shown[:2]] == [b"1210", b"440"] and shown[2].startswith(b"\x89PNG")
    svg = tree.parse(tmp_path / "svg/r/curves.svg").getroot()
    assert svg.tag == "{http://www.w3.org/2000/svg}svg" and len([*svg.iter()]) > 50
    pdf = (tmp_path / "pdf/r/curves.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-") and pdf.rstrip().endswith(b"%%EOF")
    small, large = (Image.open(tmp_path / f"{dpi}/r/curves.png").size for dpi in (20, 40))
    assert (small, large) == ((220, 80), (440, 160))  # 11 by 4 inches
    for words in (("--format", "jpg"), ("--dpi", 5), ("--dpi", "x")):
        assert_one_line(run_script("visualize", "curves", "r", *words, cwd=tmp_path), words[0])


def test_the_csv_of_curves_has_the_numbers_of_the_events(tmp_path):
    write_events(tmp_path / "r" / "train", batch__loss=[3.0, 2.0, 0.123456789])
    write_events(tmp_path / "r" / "test", evaluation__accuracy=[0.25])
    assert run_script("visualize", "curves", "r", "--csv", "--out", "f", cwd=tmp_path)[0] == 0
    with open(tmp_path / "f/r/curves.csv", newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["curve", "step", "mean", "standard deviation"]
    assert [(name, *(float(np.float32(x)) for x in own)) for name, *own in rows] == [
        ("r/train/batch/loss", step, float(np.float32(loss)), 0)
        for step, loss in enumerate((3, 2, 0.123456789))] + [
            ("r/test/evaluation/accuracy", 0, 0.25, 0)]


def test_numbers_lie_beside_each_figure(tmp_path):
    figure, _ = plt.subplots()
    visualize.write(figure, {"a": np.arange(3)}, tmp_path / "new" / "x.y")
    assert load_arrays(tmp_path / "new" / "x.y.npz")["a"].tolist() == [0, 1, 2]
    assert (tmp_path / "new" / "x.y.png").read_bytes()[:4] == b"\x89PNG"
