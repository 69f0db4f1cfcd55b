"""What TensorBoard's projector is given."""
import shutil

import numpy as np
import pytest
from PIL import Image

from inside import projector
from inside.trained import Record, output
from system.command_line import import_script


@pytest.mark.slow
def test_features_labels_and_thumbnails_lie_where_tensorboard_looks(small_run, tmp_path, capsys):
    """The same test images in all three, in one order."""
    run = shutil.copytree(small_run, tmp_path / "run")
    record = Record(run, import_script)
    assert projector.draw(record, count=10) == [] and "projector" in capsys.readouterr().out
    folder, network = run / "result" / "projector", record.network
    chosen = np.linspace(0, 399, 10).astype(int)
    features = np.fromfile(folder / "features.bytes", np.float32).reshape(10, 16)
    images = network.data.test_images[chosen]
    np.testing.assert_allclose(
        features, output(network.model, "relu_hidden", network.inputs(images)), atol=1e-5)
    assert (folder / "labels.tsv").read_text().split("\n") == [
        *(network.data.classes[label] for label in network.data.test_labels[chosen]), ""]
    picture = np.asarray(Image.open(folder / "images.png"))  # grey images in a grey file
    assert picture.shape == (3 * 28, 4 * 28)
    np.testing.assert_allclose(picture[28:56, :28], images[4, ..., 0], atol=1)
    config = (run / "result" / "projector_config.pbtxt").read_text()
    assert "projector/features.bytes" in config and "tensor_shape: 10" in config
