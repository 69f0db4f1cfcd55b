"""Kernels and their Gabor fits: known stripes are found, noise is not."""
import functools
import io
import types

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from inside import filters, gabor
from inside.gabor import derivatives, fit, principal, structure


@pytest.mark.parametrize("angle", [0, 30, 90, 135])
@pytest.mark.parametrize("size, frequency", [(7, 0.2), (11, 0.12)])
def test_known_stripes_are_found(angle, size, frequency):
    kernel = gabor.gabor(size, size, 3, 0.4, -0.3, np.radians(angle), frequency, 1.0, size / 3,
                         size / 4)
    result = fit(kernel)
    assert result["r2"] > 0.999
    assert abs((result["angle"] - angle + 90) % 180 - 90) < 1
    assert result["frequency"] == pytest.approx(frequency, abs=0.005)
    np.testing.assert_allclose(result["fitted"], kernel, atol=0.05)


def test_angle_is_that_of_the_stripes():
    """Horizontal stripes vary down the columns only; at 45 degrees they rise to the right."""
    horizontal = gabor.gabor(9, 9, 1, 0, 0, 0, 0.2, 0, 100, 100)
    assert np.ptp(horizontal, axis=1).max() < 0.02 and np.ptp(horizontal[:, 4]) > 1
    rising = gabor.gabor(9, 9, 1, 0, 0, np.pi / 4, 0.2, 0, 100, 100)
    assert rising[4, 4] == pytest.approx(rising[2, 6], abs=0.01)
    assert abs(rising[4, 4] - rising[6, 6]) > 0.5


def test_derivatives_are_those_of_the_function():
    p = np.array([1.1, 0.3, -0.2, 0.7, 0.2, 0.4, 1.3, 1.6])
    central = [(gabor.gabor(5, 6, *(p + d)) - gabor.gabor(5, 6, *(p - d))).ravel() / 2e-6
               for d in 1e-6 * np.eye(8)]
    np.testing.assert_allclose(derivatives(5, 6, *p), np.transpose(central), atol=1e-8)


@pytest.mark.slow
def test_structure_tells_edges_from_noise():
    rng = np.random.default_rng(1)
    edges = np.stack([gabor.gabor(7, 7, 1, 0, 0, a, 0.15, p, 3, 2) for a, p in
                      zip(rng.uniform(0, 3, 6), rng.uniform(0, 6, 6))], -1)[:, :, None]
    fits, chance, share = structure(edges + 0.05 * rng.normal(size=edges.shape), 12)
    assert share == 1 and np.mean([f["r2"] for f in fits]) > 0.95 and len(chance) == 12
    assert structure(rng.normal(size=(7, 7, 1, 6)), 12)[2] < 0.4


def test_colour_kernels_are_seen_along_their_main_direction():
    plane = gabor.gabor(5, 5, 1, 0, 0, 1, 0.2, 0, 2, 2)
    kernel = plane[..., None] * np.array([0.6, 0.8, 0.0])
    np.testing.assert_allclose(principal(kernel), plane, atol=1e-12)
    assert fit(np.zeros((5, 5)))["r2"] == 0


def test_kernels_are_of_the_step_whose_weights_are_kept(tmp_path):
    """The last, or the best; of an unfinished run the last."""
    record = types.SimpleNamespace(
        is_keras=False, folder=tmp_path, config={"options": {"weights": "best"}},
        series=lambda tag: (np.array([0, 30, 50]), None, ["a", "b", "c"]))
    assert filters.kernels_of(record) == ([0, 30, 50], ["a", "b", "c"])
    (tmp_path / "result.json").write_text('{"best_step": 30}')
    assert filters.kernels_of(record)[0] == [0, 30, 30]
    record.config["options"]["weights"] = "last"
    assert filters.kernels_of(record)[0] == [0, 30, 50]


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_filters_are_sorted_by_their_fit(channels, monkeypatch):
    monkeypatch.setattr(gabor, "structure", functools.partial(gabor.structure, shuffles=4))
    rng = np.random.default_rng(0)
    last = rng.normal(size=(5, 5, channels, 9))
    last[..., 4] = np.sin(np.arange(5))[:, None, None]  # horizontal stripes
    kernels = [scale * last for scale in (-0.5, 0.25, 1)]
    figure, numbers = filters.draw(types.SimpleNamespace(
        name="r", is_keras=False, series=lambda tag: (np.array([0, 7, 90]), None, kernels)))
    assert numbers["order"][0] == 4 and numbers["r2"][4] > 0.99
    assert min(numbers["angle"][4], 180 - numbers["angle"][4]) < 2
    assert numbers["steps"].tolist() == [0, 7, 90]
    np.testing.assert_array_equal(numbers["kernels"], kernels)
    upper, lower = (part.axes[0] for part in figure.subfigs)
    course, own = (axis.images[0].get_array() for axis in (upper, lower))
    limit, best = np.abs(last).max(), last[..., 4]
    assert course.shape == (3 * 6 - 1, 9 * 6 - 1, 3) and own.shape == (2 * 6 - 1, 8 * 6 - 1, 3)
    for m, scale in enumerate((-0.5, 0.25, 1)):
        np.testing.assert_allclose(course[6 * m:6 * m + 5, :5],
                                   np.broadcast_to(127.5 * (scale * best / limit + 1), (5, 5, 3)),
                                   atol=0.51)
    np.testing.assert_allclose(own[:5, :5], np.broadcast_to(
        127.5 * (best / np.abs(best).max() + 1), (5, 5, 3)), atol=0.51)
    assert f"{-limit:.2f} is black, 0 grey, {limit:.2f} white" in upper.get_title()
    assert "9 first-layer kernels" in figure.get_suptitle() and len(lower.texts) == 9
    figure.draw_without_rendering()  # a kernel below is larger than one above
    above, below = (np.diff(axis.transData.transform([(0, 0), (5, 0)])[:, 0]).item()
                    for axis in (upper, lower))
    assert below > 1.5 * above
    plt.close(figure)


def test_moments_by_hand():
    """At most six evaluations, early ones closer together."""
    assert filters.moments(1).tolist() == [0] and filters.moments(3).tolist() == [0, 1, 2]
    assert filters.moments(32).tolist() == [0, 1, 3, 7, 15, 31]


def test_a_frame_of_the_gif_is_a_moment():
    """Half a second each but the last, three; on the scale of the last, best fit first."""
    kernels = [np.array([[[[a, b]]]]) for a, b in ((0, -1), (1, 0), (-1, 2))]  # two of a pixel
    gif = Image.open(io.BytesIO(filters.animation(np.arange(3), kernels, [1, 0], zoom=4)))
    shown = []
    for i in range(gif.n_frames):
        gif.seek(i)
        pixels = np.int32(gif.convert("L"))
        shown.append((gif.info["duration"], *pixels[2, [2, 10]]))
        assert pixels.shape == (4, 4 * (8 * 2 - 1))
    assert shown == [(500, 63, 127), (500, 127, 191), (3000, 255, 63)]


def test_kernels_one_run_below_the_other(monkeypatch):
    rng = np.random.default_rng(0)
    kernels = {"a": rng.normal(size=(5, 5, 1, 40)), "b": rng.normal(size=(7, 7, 3, 2))}
    monkeypatch.setattr(gabor, "structure", lambda kernel: ([], [], kernel.shape[3] / 100))
    figure, numbers = filters.draw_together([types.SimpleNamespace(
        name=name, is_keras=False, series=lambda tag, own=own: (
            np.array([0, 1200]), None, [0 * own, own])) for name, own in kernels.items()])
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "a: step 1,200, 40 % structured", "b: step 1,200, 2 % structured"]
    shown = [axis.images[0].get_array().shape for axis in figure.axes]
    assert shown == [(2 * 6 - 1, 32 * 6 - 1, 3), (7, 32 * 8 - 1, 3)]
    assert all(np.array_equal(numbers[name], own) for name, own in kernels.items())
    plt.close(figure)


def test_grey_by_hand():
    """The largest value is 0 or 1, 0 is the middle grey; of two channels the mean."""
    np.testing.assert_allclose(filters.in_grey(np.array([[[-2.0]], [[0.0]], [[1.0]]]))[:, 0, 0],
                               [0, 0.5, 0.75])
    np.testing.assert_allclose(filters.in_grey(np.array([[[-2.0]], [[1.0]]]), 1.0)[:, 0, 0], [0, 1])
    assert filters.in_grey(np.zeros((2, 2, 3))).tolist() == np.full((2, 2, 3), 0.5).tolist()
    np.testing.assert_allclose(filters.in_grey(np.array([[[1.0, 3.0]], [[0.0, -4.0]]]))[:, 0, 1],
                               [1, 0])
