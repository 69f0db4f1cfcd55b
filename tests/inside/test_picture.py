"""One's own pictures are read as the training images were, and answered alike."""
import types

import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_one_line, run_script
from PIL import Image

from inside.trained import Record, read_pictures
from sources.images import LUMA, Reading
from system.command_line import InputError, import_script
from system.files import load_arrays, read_json


def network(height, width, channels, **options):
    """What read_pictures() looks at of a network."""
    return types.SimpleNamespace(config=Reading(**options), data=types.SimpleNamespace(
        train_images=np.zeros((1, height, width, channels), np.uint8)))


def saved(path, pixels, **options):
    Image.fromarray(np.uint8(pixels)).save(path, **options)
    return path


def colours(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_what_fits_comes_back_as_it_is(tmp_path):
    for shape, channels in (((6, 8, 3), 3), ((6, 8), 1)):
        pixels = colours(*shape)
        found = read_pictures(network(6, 8, channels), [saved(tmp_path / "a.png", pixels)] * 2)
        assert found.dtype == np.uint8 and found.shape == (2, 6, 8, channels)
        np.testing.assert_array_equal(found[1], pixels.reshape(6, 8, channels))


def test_colours_become_grey_by_luma(tmp_path):
    """Red, green and blue by hand: 76, 150 and 29 of 255; and noise by the weights."""
    pixels = 255 * np.eye(3, dtype=np.uint8)[None]
    found = read_pictures(network(1, 3, 1), [saved(tmp_path / "a.png", pixels)])
    assert found[0, 0, :, 0].tolist() == [76, 150, 29]
    pixels = colours(5, 5, 3)
    found = read_pictures(network(5, 5, 1), [saved(tmp_path / "b.png", pixels)])
    np.testing.assert_array_equal(found[0, ..., 0], np.rint(pixels @ LUMA))


def test_grey_gets_three_channels(tmp_path):
    pixels = colours(5, 5)
    found = read_pictures(network(5, 5, 3), [saved(tmp_path / "a.png", pixels)])
    np.testing.assert_array_equal(found[0], np.repeat(pixels[..., None], 3, 2))


def test_size_is_fitted_about_the_centre(tmp_path):
    """A white square in the middle of 60x100, black bars beside it: 30x30 is white to the edge."""
    pixels = np.zeros((60, 100), np.uint8)
    pixels[:, 20:80] = 255
    found = read_pictures(network(30, 30, 1), [saved(tmp_path / "a.png", pixels)])
    assert found.shape == (1, 30, 30, 1) and found.min() > 220 and (found[0, :, 1:-1] == 255).all()


@pytest.mark.parametrize("background, shown", [("white", 255), ("black", 0)])
def test_transparency_shows_the_background(tmp_path, background, shown):
    pixels = np.full((2, 2, 4), 90, np.uint8)
    pixels[..., 3] = [[255, 0], [255, 0]]
    file = tmp_path / "a.png"
    Image.fromarray(pixels, "RGBA").save(file)
    found = read_pictures(network(2, 2, 1, background=background), [file])
    assert found[0, ..., 0].tolist() == [[90, shown]] * 2


def test_pictures_are_turned_upright(tmp_path):
    """EXIF's orientation 6: the camera was held so that the top is at the picture's right."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = colours(4, 6)
    found = read_pictures(network(6, 4, 1), [saved(tmp_path / "a.png", pixels, exif=exif)])
    np.testing.assert_array_equal(found[0, ..., 0], np.rot90(pixels, -1))


def test_ones_own_picture_is_upright_whatever_turned_the_data_set(tmp_path, capsys):
    """Of EMNIST, which is stored lying, the network saw upright letters."""
    pixels = colours(8, 6)
    found = read_pictures(network(8, 6, 1, transpose=True), [saved(tmp_path / "a.png", pixels)])
    np.testing.assert_array_equal(found[0, ..., 0], pixels)
    assert "your pictures stay as they are" in capsys.readouterr().out


@pytest.mark.parametrize("content, said", [
    (None, "No such file"), (b"", "empty"), (b"<html></html>", "an HTML page"),
    (b"GIF89a nothing", "a.png: "), (b"neither", "no picture that Pillow knows")])
def test_what_is_no_picture_is_refused(tmp_path, content, said):
    good = saved(tmp_path / "good.png", colours(4, 4))
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=said) as error:
        read_pictures(network(4, 4, 1), [good, tmp_path / "a.png"])
    assert "\n" not in str(error.value) and "a.png" in str(error.value)


def probabilities(record, images):
    own = record.network
    return tf.nn.softmax(own.model(own.inputs(images), training=False)).numpy()


@pytest.mark.slow
def test_images_of_the_run_as_files(small_run, tmp_path, quick_figures):
    """A training and a test image give what the network gives for them; two files of one name
    give two figures."""
    record = Record(small_run, import_script)
    data = record.network.data
    images = np.stack([data.train_images[7], data.test_images[5]])
    (tmp_path / "more").mkdir()
    files = [saved(tmp_path / folder / "my 7.png", image[..., 0])
             for folder, image in zip(("", "more"), images)]
    status, out, err = run_script("visualize", "picture", small_run, *files, "--out", "f",
                                  cwd=tmp_path)
    assert (status, err) == (0, "")
    for name, expected in zip(("picture_my 7", "picture_my 7_"), probabilities(record, images)):
        assert f"wrote f/small-seed0/{name}.png" in out
        found = load_arrays(tmp_path / "f" / "small-seed0" / f"{name}.npz")
        np.testing.assert_allclose(found["probabilities"], expected, rtol=1e-5)
        assert found["classes"].tolist() == [*data.classes]
        assert found["relu1/projection"].shape == (28, 28, 1) and found["occlusion"].min() >= 0
    assert_one_line(run_script("visualize", "picture", small_run, tmp_path / "none.png", "--out",
                               "g", cwd=tmp_path), "none.png", "No such file")
    assert_one_line(run_script("visualize", "picture", small_run, cwd=tmp_path), "FILE")
    assert not (tmp_path / "g").exists()


@pytest.mark.slow
def test_a_recurrent_net_reads_a_picture(recurrent_run, tmp_path, quick_figures):
    """What it believes after the last row is what it answers."""
    record = Record(recurrent_run, import_script)
    assert read_json(recurrent_run / "config.json")["options"]["transpose"]
    image = record.network.data.test_images[3]
    file = saved(tmp_path / "digit.png", image[..., 0])
    status, out, err = run_script("visualize", "picture", recurrent_run, file, "--out", "f",
                                  cwd=tmp_path)
    assert (status, err) == (0, "")
    found = load_arrays(tmp_path / "f" / "r-seed0" / "picture_digit.npz")
    expected = probabilities(record, image[None])[0]
    np.testing.assert_allclose(found["probabilities"], expected, rtol=1e-5)
    np.testing.assert_allclose(found["probability"][0, -1], expected, rtol=1e-4)
    np.testing.assert_array_equal(found["images"][0], image)
    assert found["state"].shape == (1, 8, 8) and found["forget"].shape == (1, 8, 8)
