"""How often feature maps are active, and their means, by hand."""
import matplotlib.pyplot as plt
import numpy as np
from small_networks import as_record, linear, network_of

from inside import activations
from inside.statistics import Summary, table


def test_statistics_by_hand():
    activations = np.zeros((3, 2, 1, 2), np.float32)
    activations[0, :, 0, 0] = [1, 3]
    activations[1, 0, 0, 0] = -1
    result = Summary().add(activations[:2]).add(activations[2:]).statistics(np.array([0, 1, 1]))
    np.testing.assert_allclose(result["mean"][:, 0], [2, -0.25, 0.5])
    np.testing.assert_allclose(result["std"][0], [1, 0])
    np.testing.assert_allclose(result["max"][:, 0], [3, 0, 3])
    np.testing.assert_allclose(result["active"], [[1, 0], [0, 0], [1 / 3, 0]])


def test_near_duplicates():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50, 4, 4))
    stack = np.stack([a, b, 2 * a + 3, np.zeros_like(a), -a, a + 0.01 * b], -1)
    pairs = [(i, j) for i, j, _ in Summary().add(stack).near_duplicates()]
    assert pairs == [(0, 2), (0, 5), (2, 5)]  # neither the dead map nor the negative one


def test_the_table_of_a_layer_whose_maps_are_dead():
    """There is no class for which one is more active."""
    layer = {"relu/active": np.zeros((3, 4)), "relu/dead": np.arange(4),
             "relu/near_duplicates": np.zeros((0, 3)), "classes": np.array(["cat", "dog"])}
    _, row = table(layer)
    assert row == ("relu", 4, "0 (0 .. 0)", 4, 0, "", "", "cat", "dog")


def test_mean_maps_by_hand():
    """Map m is m times the image; of two classes the mean image is of 2 and of 30, of each of 12
    images the first ten. A map of the large figure is twice as wide as one of all."""
    kernel = np.zeros((3, 3, 1, 128))
    kernel[1, 1, 0] = np.arange(128)
    images = np.zeros((24, 7, 9, 1))
    images[:, 2, 4, 0] = [*[1, 3] * 5, 99, 99, *[20, 40] * 5, 99, 99]
    network = network_of(linear(kernel), images, np.arange(24) // 12, std=1 / 255)
    drawn = activations.draw(as_record(network))
    (_, large, some), (_, small, every) = drawn
    expected = np.zeros((2, 7, 9, 128))
    expected[:, 2, 4] = np.outer([2, 30], np.arange(128))
    np.testing.assert_allclose(every["conv"], expected, rtol=1e-5)
    assert some["conv/maps"].tolist() == [0, 18, 36, 54, 72, 90, 108, 127]
    np.testing.assert_allclose(some["conv"], expected[..., some["conv/maps"]], rtol=1e-5)
    wide = []
    for figure, axis in ((large, large.axes[2]), (small, small.axes[1])):
        figure.draw_without_rendering()
        wide.append(np.diff(axis.transData.transform([(0, 0), (9, 0)])[:, 0]).item())
    assert wide[0] > 2 * wide[1], wide
    assert [text.get_text() for text in large.axes[2].texts] == list(map(str, some["conv/maps"]))
    plt.close("all")
