"""What TensorBoard says of a run, over the interface of its server, and in a browser."""
import json
import shutil
import subprocess
import urllib.parse
import urllib.request

import matplotlib.image
import numpy as np
import pytest
from conftest import lacking, run_script

from training.events import COLUMNS

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:html5lib's sanitizer")]


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A function of path and query: the answer of a server, at .url, that shows two short runs."""
    folder = tmp_path_factory.mktemp("board")
    for script, words in (("cifar_lenet5", ("--filters", 32, 4, "--units", 24)),
                          ("mnist_rnn", ("--units", 32, "--layers", 1))):
        status, _, err = run_script(script, *words, "--data", "digits", "--steps", 6,
                                    "--evaluations", 1, "--batch-size", 8, "--threads", 1,
                                    "--name", "a", cwd=folder)
        assert status == 0, err
    status, _, err = run_script("visualize.py", "projector", "logs/cifar_lenet5/a-seed0",
                                "logs/mnist_rnn/a-seed0", cwd=folder)
    assert (status, err) == (0, "")
    from tensorboard import program
    server = program.TensorBoard()  # in this process, which has TensorFlow already
    server.configure(("tensorboard", "--logdir", str(folder / "logs"), "--port", "0",
                      "--load_fast", "false", "--reload_task", "blocking", "--reload_interval",
                      "0"))
    url = server.launch()

    def ask(path, **query):
        return urllib.request.urlopen(f"{url}{path}?{urllib.parse.urlencode(query)}",
                                      timeout=60).read()
    ask.url = url
    return ask


def test_curves(board):
    """Train and validation have the same tag, so that they share a chart."""
    tags = json.loads(board("data/plugin/scalars/tags"))
    for script in ("cifar_lenet5", "mnist_rnn"):
        for part in ("train", "validation", "test"):
            assert "evaluation/accuracy" in tags[f"{script}/a-seed0/{part}"]
        assert {"batch/loss", "learning_rate"} <= set(tags[f"{script}/a-seed0/train"])
    points = json.loads(board("data/plugin/scalars/scalars", run="cifar_lenet5/a-seed0/train",
                              tag="batch/loss"))
    assert [step for _, step, _ in points] == list(range(6))
    assert all(np.isfinite(value) for _, _, value in points)


def test_hyper_parameters(board):
    """Both runs, of one name, are rows of the HParams tab, with options and final metrics."""
    groups = json.loads(board("data/plugin/hparams/session_groups", request=json.dumps(
        {"experimentName": "", "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS",
                                                   "STATUS_FAILURE", "STATUS_RUNNING"],
         "colParams": [], "startIndex": 0, "sliceSize": 10})))["sessionGroups"]
    assert sorted((group["name"], *(session["name"] for session in group["sessions"]))
                  for group in groups) == [
        ("a-seed0 (cifar_lenet5)", "cifar_lenet5/a-seed0/result"),
        ("a-seed0 (mnist_rnn)", "mnist_rnn/a-seed0/result")]
    experiment = json.loads(board("data/plugin/hparams/experiment", request=json.dumps(
        {"experimentName": "", "includeMetrics": True})))
    assert [h["displayName"] for h in experiment["hparamInfos"]] == list(COLUMNS)
    metrics = {metric["name"]["tag"] for metric in experiment["metricInfos"]}
    assert "result/test_accuracy" in metrics
    assert all(tag.startswith("result/") for tag in metrics), "curves are no metrics"


def test_images_and_histograms(board):
    images = json.loads(board("data/plugin/images/tags"))
    assert "filters" in images["cifar_lenet5/a-seed0/train"]
    histograms = json.loads(board("data/plugin/histograms/tags"))
    assert any(tag.startswith("histograms/activations/")
               for tag in histograms["mnist_rnn/a-seed0/train"])


def test_projector(board):
    """Features, a label each and a sheet of thumbnails."""
    for name, width in (("cifar_lenet5/a-seed0", 24), ("mnist_rnn/a-seed0", 32)):
        name += "/result"
        shown, = json.loads(board("data/plugin/projector/info", run=name))["embeddings"]
        count, dimensions = shown["tensorShape"]
        assert dimensions == width
        tensor = board("data/plugin/projector/tensor", run=name, name=shown["tensorName"])
        assert len(tensor) == 4 * count * dimensions
        labels = board("data/plugin/projector/metadata", run=name, name=shown["tensorName"])
        assert len(labels.splitlines()) == count
        picture = board("data/plugin/projector/sprite_image", run=name, name=shown["tensorName"])
        assert picture.startswith(b"\x89PNG") and shown["sprite"]["singleImageDim"] == [8, 8]


TABS = {"timeseries": 0.01, "images": 0.03, "hparams": 0.03, "projector": 0.05}  # dark pixels


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """The folder of a browser, which keeps TensorBoard's program for the next page."""
    return tmp_path_factory.mktemp("profile")


@pytest.mark.parametrize("tab", TABS)
def test_pages(board, profile, tab, tmp_path):
    """What a person sees: pictures of the pages, left in pytest's temporary folder to be looked at.

    A page that has not found its data is white but for its head and its edges.
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        lacking("no Chromium on this machine: TensorBoard's pages are not looked at")
    words = {"timeseries": ("cifar_lenet5/a-seed0/train", "mnist_rnn/a-seed0/validation",
                            "evaluation/accuracy", "evaluation/loss")}.get(tab, ())
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
               "--no-first-run", "--disable-background-networking", "--disable-component-update",
               "--disable-sync", f"--user-data-dir={profile}",
               "--window-size=1600,1000",
               f"--virtual-time-budget={30_000 if tab == 'projector' else 10_000}", "--dump-dom",
               f"--screenshot={tmp_path / tab}.png", f"{board.url}?tagFilter=evaluation#{tab}"]
    for last in (False, False, True):  # on a busy machine a page may not be ready when its picture
        try:  # is taken, or the browser wait for ever
            page = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            if last:
                raise
            continue
        assert page.returncode == 0, page.stderr
        picture = matplotlib.image.imread(tmp_path / f"{tab}.png")[100:, 350:1200, :3]
        missing = [word for word in words if word not in page.stdout]
        dark = (picture.min(axis=2) < 0.8).mean()
        if not missing and dark > TABS[tab]:
            break
    assert not missing and dark > TABS[tab]
