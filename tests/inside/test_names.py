"""Names on figures, as they are."""
import io

import matplotlib.pyplot as plt
import pytest

from inside.pictures import draw_names_as_they_are


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
