"""Pictures: names on figures, as they are; many small pictures as one."""
import io
import tracemalloc

import matplotlib.pyplot as plt
import numpy as np
import pytest

from inside import pictures
from inside.pictures import draw_names_as_they_are, show_grid, tiles


@pytest.fixture
def figure():
    figure, axes = plt.subplots(1, 2)
    axes[0].set_yscale("log")
    axes[0].plot([1, 2], [1e-7, 1], label="$a")
    axes[0].legend()
    axes[1].set(yticks=[0, 1], yticklabels=["$1 to $5", r"$\nonsense{$"], title="$x$", xlabel="a_b")
    figure.suptitle(r"$\nothing$ of $5")
    yield figure
    plt.close(figure)


def test_names_with_dollars_are_no_mathematics(figure):
    """Mathematics would fail: there is no such command."""
    with pytest.raises(ValueError, match="nonsense|nothing"):
        figure.savefig(io.BytesIO(), format="png")
    draw_names_as_they_are(figure)
    figure.savefig(io.BytesIO(), format="png")
    labels = figure.axes[1].get_yticklabels()
    assert [label.get_text() for label in labels] == ["$1 to $5", r"$\nonsense{$"]
    for text in (*labels, figure.axes[1].title, figure._suptitle,
                 *figure.axes[0].get_legend().get_texts()):
        assert not text.get_parse_math()


def test_ticks_of_logarithmic_axes_stay_mathematics(figure):
    draw_names_as_they_are(figure)
    figure.savefig(io.BytesIO(), format="png")
    labels = [label for label in figure.axes[0].get_yticklabels() if label.get_text()]
    assert labels and all("^{" in label.get_text() and label.get_parse_math() for label in labels)
    assert not any(label.get_parse_math() for label in figure.axes[1].get_yticklabels())


def test_a_letter_that_no_font_has_is_said_once(figure, monkeypatch, capsys):
    """Names in Chinese, say: as they are with a font for them, else with "?" for each letter."""
    monkeypatch.setattr(pictures, "SAID", set())
    monkeypatch.setattr(pictures, "letters", lambda: {*range(32, 127), ord("猫")})
    for _ in range(2):
        figure.axes[1].set(yticks=[0, 1], yticklabels=["猫", "犬 a"])
        figure.axes[0].set(yscale="linear", title="猫犬")
        draw_names_as_they_are(figure)
        assert [x.get_text() for x in figure.axes[1].get_yticklabels()] == ["猫", "? a"]
        assert figure.axes[0].get_title() == "猫?"
    said = capsys.readouterr().out
    assert said.count("no font here has") == 1 and "犬" in said and "猫" not in said


def test_a_grid_by_hand():
    """Three pictures of 2x3 pixels in two columns: where they are, and what stands beside them."""
    pictures = [np.full((2, 3, 3), share) for share in (0, 0.2, 0.4)]
    figure, axis = plt.subplots()
    show_grid(axis, pictures, 2, ["a", "b", "c"], ["first", "second"], gap=4)
    drawn = axis.images[0].get_array()
    assert drawn.shape == (8, 10, 3) and drawn.dtype == np.uint8
    assert (drawn[:2, :3] == 0).all() and (drawn[:2, 7:] == 51).all()
    assert (drawn[6:, :3] == 102).all() and (drawn[2:6] == 255).all()
    assert [(text.get_text(), *text.xy) for text in axis.texts] == [
        ("a", 1, -0.5), ("b", 8, -0.5), ("c", 1, 5.5)]  # pixels have their middle at whole numbers
    assert axis.get_yticks().tolist() == [0.5, 6.5]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["first", "second"]
    plt.close(figure)


def test_tiles_lie_row_after_row_with_gaps():
    """Of two stacks of three 1x2, in one row of three; four of one pixel, in two rows of three."""
    stacks = np.arange(1, 13, dtype=np.uint8).reshape(2, 3, 1, 2, 1)
    assert tiles(stacks, 3, 0, gap=1)[..., 0].tolist() == [
        [[1, 2, 0, 3, 4, 0, 5, 6]], [[7, 8, 0, 9, 10, 0, 11, 12]]]
    four = np.arange(1, 5, dtype=np.uint8).reshape(4, 1, 1, 1)
    assert tiles(four, 3, 9, gap=1)[..., 0].tolist() == [
        [1, 9, 2, 9, 3], [9] * 5, [4, 9, 9, 9, 9]]


def test_tiles_take_little_memory():
    """The sheet is made at most twice, not in floating point."""
    many = np.zeros((1000, 32, 32, 3), np.uint8)
    tracemalloc.start()
    assert tiles(many, 32, 255).shape == (32 * 32, 32 * 32, 3)
    assert tracemalloc.get_traced_memory()[1] < 2.5 * many.nbytes
    tracemalloc.stop()
