"""The strongest units of feature maps, and what excites them."""
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from small_networks import as_record, linear, network_of

import visualize
from inside.strongest import draw, filled, peaks, project_strongest, strongest
from sources.images import Reading


def test_strongest_by_hand():
    activations = np.zeros((3, 2, 3, 2))
    activations[0, 1, 2, 0], activations[0, 0, 0, 0] = 5, 4  # an image counts once
    activations[2, 0, 1, 0], activations[1, 1, 1, 1] = 7, 1
    image, row, column, value = strongest(*peaks(activations), activations.shape[2], 2)
    assert image[0].tolist() == [2, 0] and row[0].tolist() == [0, 1]
    assert column[0].tolist() == [1, 2] and value[0].tolist() == [7, 5]
    assert (image[1, 0], row[1, 0], column[1, 0], value[1, 0]) == (1, 1, 1, 1)


def test_chosen_maps_alone_are_projected():
    kernel, images = (np.random.default_rng(0).normal(size=shape).astype(np.float32)
                      for shape in ((3, 3, 1, 5), (4, 7, 9, 1)))
    model = linear(kernel)
    every, few = (project_strongest(model, "conv", images, 2, maps=maps)
                  for maps in (slice(None), np.array([1, 4])))
    np.testing.assert_equal(few[0], every[0])
    for mine, whole in zip(few[1:], every[1:]):
        assert len(mine) == 2
        for own, map_number in zip(mine, (1, 4)):
            np.testing.assert_equal(own, whole[map_number])


def test_strongest_patch_and_projection():
    """A kernel finds itself in noise: its patch is the planted one, the projection the kernel."""
    kernel = np.zeros((3, 3, 1, 1))
    kernel[..., 0, 0] = [[1, -1, 1], [-1, 1, -1], [1, -1, 1]]
    images = 0.1 * np.random.default_rng(0).normal(size=(5, 7, 9, 1)).astype(np.float32)
    images[3, 2:5, 4:7, 0] = kernel[..., 0, 0]
    (image, row, column, value), patches, projections = project_strongest(
        linear(kernel), "conv", images, 2)
    assert (image[0, 0], row[0, 0], column[0, 0]) == (3, 3, 5)
    np.testing.assert_array_equal(patches[0][0], images[3, 2:5, 4:7])
    np.testing.assert_allclose(projections[0][0], value[0, 0] * kernel[..., 0], rtol=1e-5)


def test_cut_pictures_are_filled_with_zeros():
    one, other = np.ones((2, 1, 1), np.float32), np.full((1, 3, 1), 2, np.float32)
    found = filled([one, other], (2, 3))
    assert found[..., 0].tolist() == [[[1, 0, 0], [1, 0, 0]], [[2, 2, 2], [0, 0, 0]]]
    assert found.dtype == np.float32


def test_titles_say_how_many_maps_are_drawn(quick_figures):
    rng = np.random.default_rng(0)
    record = as_record(network_of(linear(rng.normal(size=(3, 3, 1, 9))),
                                  rng.integers(0, 256, (9, 7, 9, 1)), [0] * 9, std=255.0))
    drawn = draw(record)
    titles = [figure.axes[0].get_title() for _, figure, _ in drawn]
    assert [[*numbers["maps"]] for *_, numbers in drawn] == [[0, 1, 2, 3, 4, 5, 6, 8], [*range(9)]]
    plt.close("all")
    for title, of in zip(titles, ("8 of 9 feature maps", "each feature map"), strict=True):
        assert f"conv: the nine strongest units of {of}, on 9 test images:\n" in title


def test_ones_own_pictures_by_hand(quick_figures, tmp_path):
    """Of a white and a grey pixel: what maps that weigh it by 1, 3 and 0 give, and project."""
    kernel = np.zeros((3, 3, 1, 3))
    kernel[1, 1, 0] = 1, 3, 0
    record = as_record(network_of(linear(kernel), np.zeros((4, 7, 9, 1)), [0] * 4,
                                  config=Reading()))
    files = [str(tmp_path / name) for name in ("grey.png", "white.png")]
    for file, value, place in zip(files, (51, 255), ((5, 1), (2, 4))):
        pixels = np.zeros((7, 9), np.uint8)
        pixels[place] = value
        Image.fromarray(pixels).save(file)
    own = visualize.parse(["strongest", "run", "--pictures", *files])[2].pictures
    (_, figure, numbers), _ = draw(record, pictures=own)
    plt.close("all")
    np.testing.assert_allclose(numbers["activation"], [[3, 0.6], [1, 0.2], [0, 0]], rtol=1e-6)
    for name, expected in (("image", [1, 0]), ("row", [2, 5]), ("column", [4, 1])):
        assert numbers[name][:2].tolist() == [expected] * 2, name
    axis, = figure.axes
    assert [text.get_text() for text in axis.texts] == ["map 1", "map 0", "map 2"]
    assert "the 2 strongest units of each feature map, on 2 pictures, the most" in axis.get_title()
    projections = np.zeros((3, 2, 3, 3, 1))  # each on its own receptive field
    projections[:, 0, 1, 1, 0], projections[:, 1, 1, 1, 0] = (9, 1, 0), (9 / 5, 1 / 5, 0)
    assert numbers["maps"].tolist() == [1, 0, 2] and numbers["projection"].dtype == np.float32
    np.testing.assert_allclose(numbers["projection"], projections, rtol=1e-6)
    shown = np.int32(axis.images[0].get_array()[:3, :3])  # map 1 in the white pixel: red in white
    assert shown[1, 1, 0] > 2 * shown[1, 1, 2] and np.sum(shown > 240) == 3 * 8
