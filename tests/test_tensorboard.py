"""What TensorBoard's server says of a run, over its own interface."""
import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest
from conftest import run, short_runs


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A function: path and query of a server that shows two short runs -> the answer's bytes."""
    folder = tmp_path_factory.mktemp("board")
    status, _, err = run("visualize.py", "projector", *short_runs(folder, 6), cwd=folder)
    assert (status, err) == (0, "")
    said = folder / "said.txt"
    with open(said, "w") as stream:
        server = subprocess.Popen([sys.executable, "-m", "tensorboard.main", "--logdir", "logs",
                                   "--port", "0", "--load_fast", "false"], cwd=folder,
                                  stderr=stream, stdout=subprocess.DEVNULL)
    try:
        for _ in range(120):
            if found := re.search(r"http://\S+?/", said.read_text()):
                break
            time.sleep(0.5)
        assert found, said.read_text()

        def ask(path, **query):
            url = f"{found[0]}{path}?{urllib.parse.urlencode(query)}"
            return urllib.request.urlopen(url, timeout=60).read()
        yield ask
    finally:
        server.terminate()
        server.wait()


def test_curves(board):
    """Train and validation have the same tag, so that they share a chart."""
    tags = json.loads(board("data/plugin/scalars/tags"))
    for script in ("cifar_lenet5", "mnist_rnn"):
        for part in ("train", "validation", "test"):
            assert "evaluation/accuracy" in tags[f"{script}/a-seed0/{part}"]
        assert {"batch/loss", "batch/learning_rate"} <= set(tags[f"{script}/a-seed0/train"])
    points = json.loads(board("data/plugin/scalars/scalars", run="cifar_lenet5/a-seed0/train",
                              tag="batch/loss"))
    assert [step for _, step, _ in points] == list(range(6))
    assert all(np.isfinite(value) for _, _, value in points)


def test_hyper_parameters(board):
    """Both runs are sessions of the HParams tab, with options and final metrics."""
    groups = json.loads(board("data/plugin/hparams/session_groups", request=json.dumps(
        {"experimentName": "", "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS",
                                                   "STATUS_FAILURE", "STATUS_RUNNING"],
         "colParams": [], "startIndex": 0, "sliceSize": 10})))["sessionGroups"]
    assert sorted(session["name"] for group in groups for session in group["sessions"]) == [
        "cifar_lenet5/a-seed0", "mnist_rnn/a-seed0"]
    experiment = json.loads(board("data/plugin/hparams/experiment", request=json.dumps(
        {"experimentName": "", "includeMetrics": True})))
    assert {"rate", "batch", "seed"} <= {h["name"] for h in experiment["hparamInfos"]}
    assert {"result/test_accuracy"} <= {m["name"]["tag"] for m in experiment["metricInfos"]}


def test_images_and_histograms(board):
    images = json.loads(board("data/plugin/images/tags"))
    assert "filters" in images["cifar_lenet5/a-seed0/train"]
    histograms = json.loads(board("data/plugin/histograms/tags"))
    assert any(tag.startswith("activations/") for tag in histograms["mnist_rnn/a-seed0/train"])


def test_projector(board):
    """Features, a label each and a sheet of thumbnails."""
    for name, width in (("cifar_lenet5/a-seed0", 1024), ("mnist_rnn/a-seed0", 128)):
        shown, = json.loads(board("data/plugin/projector/info", run=name))["embeddings"]
        count, dimensions = shown["tensorShape"]
        assert dimensions == width
        tensor = board("data/plugin/projector/tensor", run=name, name=shown["tensorName"])
        assert len(tensor) == 4 * count * dimensions
        labels = board("data/plugin/projector/metadata", run=name, name=shown["tensorName"])
        assert len(labels.splitlines()) == count
        picture = board("data/plugin/projector/sprite_image", run=name, name=shown["tensorName"])
        assert picture.startswith(b"\x89PNG") and shown["sprite"]["singleImageDim"] == [28, 28]
