"""One style for all figures, and pictures made of small pictures."""
import functools

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogFormatter

plt.rcParams["figure.max_open_warning"] = 0  # all are drawn before any is written
SAID = set()  # letters whose lack was said already
CJK = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei",
       "Droid Sans Fallback", "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Malgun Gothic")
STYLE = {"font.family": ["DejaVu Sans", *(name for name in CJK if name in {
             font.name for font in font_manager.fontManager.ttflist})],
         "figure.dpi": 110, "font.size": 10,
         "axes.spines.top": False, "axes.spines.right": False,
         "axes.grid": True, "grid.alpha": 0.3, "savefig.bbox": "tight", "legend.frameon": False,
         "axes.formatter.min_exponent": 3,  # a logarithmic axis says 0.01, not a power of ten
         "axes.prop_cycle": plt.cycler(color=[  # Okabe & Ito, colour-blind safe
             "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"])}


@functools.cache
def letters():
    """Return the numbers of all letters that the fonts of STYLE have."""
    return {number for family in STYLE["font.family"]
            for number in FT2Font(font_manager.findfont(family)).get_charmap()}


def draw_names_as_they_are(figure):
    """Let no text of a figure be mathematics, "$1 to $5" neither, but what Matplotlib itself writes
    at the ticks of logarithmic axes; "?" stands for a letter that no font here has, and a line says
    so once."""
    missing = set()

    def known(text):
        unknown = {c for c in str(text) if ord(c) not in letters() and c != "\n"}
        missing.update(unknown)
        return "".join("?" if c in unknown else c for c in str(text))
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(known(text.get_text()))
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            formatter = axis.get_major_formatter()
            if isinstance(formatter, LogFormatter):
                for label in axis.get_ticklabels(which="both"):
                    label.set_parse_math(True)
            elif isinstance(formatter, FuncFormatter):  # of labels that were set
                axis.set_major_formatter(lambda x, i, old=formatter: known(old(x, i)))
                axis.get_ticklabels()
    if missing - SAID:
        SAID.update(missing)
        print(f"note     no font here has {' '.join(sorted(missing)[:9])}: figures show ? instead; "
              "install one, like fonts-noto-cjk")


def as_grey(image):
    """Return a network input as colours 0 .. 1 (height, width, 3), its own range stretched."""
    low, high = image.min(), image.max()
    return np.broadcast_to((image - low) / max(high - low, 1e-12), (*image.shape[:2], 3))


def as_signed(image, limit=None):
    """Return signed values as colours: blue below 0, white 0, red above, `limit` full colour.

    image (height, width, channels); of three channels each is a colour, grey being 0. `limit` is
    the largest absolute value unless given.
    """
    shares = image / (2 * (limit or max(np.abs(image).max(), 1e-12))) + 0.5
    return shares.clip(0, 1) if image.shape[2] == 3 else plt.cm.RdBu_r(shares[..., 0])[..., :3]


def meaning_of_colours(channels):
    """Return in words what the colours of as_signed mean."""
    return "grey is 0" if channels == 3 else "blue - 0 + red"


def mosaic(pictures, columns, gap=1, size=None):
    """Lay out pictures (height, width, 3) in a grid on white, in cells of `size`."""
    height, width = size or largest(pictures)
    rows = -(-len(pictures) // columns)
    canvas = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for i, picture in enumerate(pictures):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        canvas[top:top + picture.shape[0], left:left + picture.shape[1]] = picture
    return canvas


def tiles(images, columns, empty, gap=0):
    """Return images (..., n, height, width, channels) laid out in a grid, as bytes (..., rows,
    columns, channels): `gap` pixels between them, and places without an image, are `empty`."""
    *outer, n, height, width, channels = images.shape
    rows, height_, width_ = -(-n // columns), height + gap, width + gap
    canvas = np.full((*outer, rows * columns, height_, width_, channels), empty, np.uint8)
    canvas[..., :n, :height, :width, :] = images
    canvas = canvas.reshape(*outer, rows, columns, height_, width_, channels).swapaxes(-4, -3)
    canvas = canvas.reshape(*outer, rows * height_, columns * width_, channels)
    return canvas[..., :rows * height_ - gap, :columns * width_ - gap, :]


def largest(pictures):
    """Return the (height, width) that holds every picture."""
    return tuple(np.max([p.shape[:2] for p in pictures], axis=0))


def show(axis, picture, title="", pad=4, **options):
    """Show a picture without ticks; return the image, for a colour bar."""
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=9, pad=pad)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    if picture.ndim == 3:  # colours are drawn faster as bytes
        picture = np.uint8(np.rint(255 * picture))
    return axis.imshow(picture, interpolation="nearest", **options)


def show_grid(axis, pictures, columns, titles=(), labels=(), gap=1, fontsize=9):
    """Show pictures of one size in a grid as a single picture, which is drawn much faster than an
    axis for each, with titles above them and labels beside the rows."""
    height, width = largest(pictures)
    show(axis, mosaic(pictures, columns, gap))
    for i, title in enumerate(titles):
        row, column = divmod(i, columns)
        axis.annotate(title, (column * (width + gap) + width / 2 - 0.5, row * (height + gap) - 0.5),
                      (0, 2), textcoords="offset points", ha="center", va="bottom",
                      fontsize=fontsize)
    axis.set_yticks([row * (height + gap) + height / 2 - 0.5 for row in range(len(labels))], labels,
                    fontsize=fontsize)
    axis.tick_params(length=0)
