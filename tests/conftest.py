"""Where the real data is, and how tests run the scripts as a user does, or in this process."""
import collections
import contextlib
import functools
import gc
import io
import os
import pathlib
import re
import signal
import subprocess
import sys

import filelock
import numpy as np
import pytest
from PIL import Image

if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    _cores = sorted(os.sched_getaffinity(0))  # one for each of xdist's processes, which is faster
    _own = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")) % len(_cores)
    os.sched_setaffinity(0, {_cores[_own]})
if "DATA_DIR" in os.environ:  # tests run scripts in other folders
    os.environ["DATA_DIR"] = os.path.abspath(os.environ["DATA_DIR"])
from sources import images, synthetic
from system import machine  # first, so that TensorFlow is imported late and quietly
from system.command_line import import_script, main, parse

ROOT = pathlib.Path(__file__).parent.parent
SOURCES = [*ROOT.glob("*.py"), *(file for package in (
    "system", "sources", "training", "inside", "comparisons") for file in (ROOT / package).rglob(
        "*.py"))]
machine.use_threads(2)
gc.set_threshold(50_000)  # the usual 700 take 4 % of the time


def drawn_once(draw):
    """Return a function that draws stand-ins, but each only once: to be read, not written into."""
    @functools.cache
    @functools.wraps(draw)
    def cached(*arguments, **options):
        data = draw(*arguments, **options)
        for array in data.arrays:
            array.setflags(write=False)
        return data
    for name, own in images.DATA_SETS.items():
        if own.stand_in is draw:
            images.DATA_SETS[name] = own._replace(stand_in=cached)
    return cached


synthetic.patterns, synthetic.digits = map(drawn_once, (synthetic.patterns, synthetic.digits))


def pytest_collection_modifyitems(items):
    """Begin with the files of many slow tests, so that xdist's processes end together."""
    slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def lacking(reason):
    """Skip a test for want of what it needs; in CI nothing may be wanting, and it fails."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data sets."""
    folder = pathlib.Path(os.environ.get("DATA_DIR", "data")).resolve()
    if not (folder / "CIFAR10.zip").exists():
        lacking(f"no CIFAR10.zip in {folder}; set DATA_DIR to the folder that holds it")
    return folder


@pytest.fixture(scope="session")
def poison(tmp_path_factory):
    """A folder that, on the import path, makes `import tensorflow` and `import keras` fail."""
    folder = tmp_path_factory.mktemp("poison")
    for name in ("tensorflow", "keras"):
        (folder / f"{name}.py").write_text(
            f'raise ImportError("{name} was imported before the options were checked")\n')
    return str(folder)


def start(script, *words, cwd=ROOT, **environment):
    """Start `python script words...` and return the process, its output piped."""
    return subprocess.Popen([sys.executable, str(ROOT / script), *map(str, words)], text=True,
                            cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, **environment})


def run(script, *words, cwd=ROOT, **environment):
    """The same, to its end: (exit status, stdout, stderr)."""
    process = start(script, *words, cwd=cwd, **environment)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@contextlib.contextmanager
def read_only(folder):
    """Nothing in a folder may be written, even by root if it calls run_without_privilege."""
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(path.stat().st_mode & 0o555)
    try:
        yield
    finally:
        for path in paths:
            path.chmod(path.stat().st_mode | 0o200)


def run_without_privilege(script, *words, cwd=ROOT):
    """What run() does, without root's right to write where permissions forbid it."""
    code = ("import ctypes, os, sys\n"
            "ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)\n"  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
            "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])")
    done = subprocess.run([sys.executable, "-c", code, *map(str, (ROOT / script, *words))],
                          capture_output=True, text=True, cwd=cwd, timeout=300)
    return done.returncode, done.stdout, done.stderr


def run_script(script, *words, cwd=None):
    """What run() does, but in this process, which has TensorFlow already.

    script: its name, or its path, as for the shell in the folder `cwd` (None: where we are).
    """
    words, out, err = [*map(str, words)], io.StringIO(), io.StringIO()
    argv, handlers = sys.argv, {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    with contextlib.chdir(cwd or "."), contextlib.redirect_stdout(out), \
            contextlib.redirect_stderr(err):
        try:
            module = import_script(str(script))
            sys.argv = [module.__file__, *words]
            status = main(*_function_and_arguments(module, words))
        except SystemExit as error:  # what argparse says
            status = error.code or 0
        finally:
            sys.argv = argv
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return status, out.getvalue(), err.getvalue()


def attempt_here(run, words, output, folder, environment, stop):
    """What sweep.attempt does in a process of the run's own: (run, exit status)."""
    assert "--steps" in words, f"{run} would be trained in full"
    status, out, err = run_script(*words, cwd=folder)
    pathlib.Path(output).write_text(out + err)
    return run, status


def _function_and_arguments(module, words):
    """What a script calls main() with."""
    if module.__name__ == "visualize":
        return module.visualize, *module.parse(words)
    if module.__name__ == "sweep":
        return module.sweep, module.command_line(words)
    return module.train, parse(module.Config, getattr(module, "RECIPES", {}), words)


@contextlib.contextmanager
def interrupted_at(step, within=False):
    """This process gets SIGTERM when a run in it has done what is due at `step`, or `within` that.
    """
    from training.loop import Training
    name = "_observe" if within else "observe"
    observe = getattr(Training, name)

    def interrupt(self, run, now):
        if within and now == step:
            run.events.log_evaluation(now, {"train": (9.0, 0.5)})
        else:
            observe(self, run, now)
        if now == step:
            os.kill(os.getpid(), signal.SIGTERM)
            assert not within, "a signal is to end this at once"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, name, interrupt)
        yield


def write_images(folder, classes=2, count=3, side=4):
    """Write so many images of noise a class and part, in the form that --data takes a folder."""
    rng = np.random.default_rng(0)
    for place in [folder / part / str(c) for part in ("train", "test") for c in range(classes)]:
        place.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (side, side), np.uint8)).save(place / f"{i}.png")
    return folder


def made_once(tmp_path_factory, name, script, *words):
    """The folder of a run that one of xdist's processes makes for all, not to be written into; what
    it said is in <name>.txt three folders above."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    run = folder / "logs" / script / f"{name}-seed0"
    with filelock.FileLock(folder / f"{name}.lock"):
        if not (run / "result.json").exists():
            status, out, err = run_script(script, *words, "--name", name, cwd=folder)
            assert status == 0, err
            (folder / f"{name}.txt").write_text(out)
    return run


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """A LeNet-5 of few feature maps, trained a little to tell four classes apart."""
    return made_once(tmp_path_factory, "small", "cifar_lenet5", "--data", "synthetic", "--classes",
                     "0-3", "--filters", 3, 4, "--units", 16, "--batch-size", 32, "--steps", 40,
                     "--evaluations", 2, "--snapshots", 3)


@pytest.fixture(scope="session")
def recurrent_run(tmp_path_factory):
    """An LSTM that for a moment read scikit-learn's digits, 8x8, by columns and transposed."""
    return made_once(tmp_path_factory, "r", "mnist_rnn", "--data", "digits", "--units", 8,
                     "--steps", 20, "--evaluations", 1, "--layers", 1, "--cell", "lstm", "--order",
                     "columns", "--transpose")


@pytest.fixture
def coarse_figures(monkeypatch):
    """Figures in coarse pixels with their margins, of few shuffled kernels, images and places."""
    from inside import attribution, correspondence, explore, gabor, pictures, units
    maximize = units.maximize
    monkeypatch.setitem(pictures.STYLE, "figure.dpi", 30)
    monkeypatch.setitem(pictures.STYLE, "savefig.bbox", None)  # else each is drawn twice
    monkeypatch.setattr(gabor, "structure", functools.partial(gabor.structure, shuffles=2))
    monkeypatch.setattr(correspondence, "draw", functools.partial(
        correspondence.draw, count=4, trials=2))
    monkeypatch.setattr(attribution, "draw", functools.partial(attribution.draw, images=5))
    monkeypatch.setattr(explore, "draw", functools.partial(explore.draw, count=6))
    monkeypatch.setattr(units, "maximize", lambda *what, steps: maximize(*what, steps=5))


@pytest.fixture
def bare_figures(coarse_figures, monkeypatch):
    """The same without axes and not laid out, which takes longest."""
    from matplotlib.axis import Axis
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    monkeypatch.setattr(Axis, "draw", lambda *_: None)
    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", lambda *_: None)


@pytest.fixture
def quick_figures(bare_figures, monkeypatch):
    """The same of two methods of attribution."""
    from inside import attribution
    monkeypatch.setattr(attribution, "METHODS", {name: attribution.METHODS[name] for name in (
        "gradient", "guided backprop")})


@pytest.fixture
def progress_at_once(monkeypatch):
    """Progress is said from the first step on, not from the fifth second, a line for each."""
    from system import progress
    init = progress.Progress.__init__
    monkeypatch.setattr(progress, "EVERY", 0)
    monkeypatch.setattr(progress.Progress, "__init__", lambda *what, **how: init(
        *what, **{"delay": 0, "mininterval": 0, **how}))


def tags_not_in_readme(events):
    """The (part, tag) of a run that are no row of logs/README.md, or of another part there."""
    table = (ROOT / "logs/README.md").read_text().partition("| tag |")[2].split("\n\n")[0]
    rows = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", table, re.M))
    strange = []
    for part, tag in events:
        places = next((where for row, where in rows.items() if re.fullmatch(
            re.escape(row).replace(r"\.\.\.", ".+"), tag)), "nowhere")
        if not tag.startswith("_hparams_") and not any(
                part == where or where.endswith("...") and part.startswith(where[:-3])
                for where in places.split(", ")):
            strange.append((part, tag))
    return strange


def final_model(run):
    """The network of a finished run as Keras reads it."""
    import keras
    return keras.models.load_model(run / "model.keras")


def weights_of(run):
    """The final weights of a run: {path: array}."""
    return {w.path: w.numpy() for w in final_model(run).weights}


def change_weights(run, change):
    """Give a finished run other weights: change(path, array) of each."""
    model = final_model(run)
    model.set_weights([change(w.path, w.numpy()) for w in model.weights])
    model.save(run / "model.keras")


def assert_one_line(result, *words):
    """The script refused its input: status 2, one line on stderr that holds all `words`."""
    status, _, err = result
    assert status == 2, err
    assert err.count("\n") == 1 and "Traceback" not in err, err
    for word in words:
        assert word in err, err
