"""Draw stand-ins for data sets that are not there.

Both functions return Images, grey, class after class; the same arguments give the same images.
"""
import math
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sources.images import Images

PATTERNS = ("grating 0", "grating 45", "grating 90", "grating 135", "checks",
            "rings", "blob", "cross", "frame", "spokes")


def patterns(train=1000, test=100, size=28, noise=0.12):
    """Draw ten classes of patterns whose right first-layer filters are known.

    "grating a": stripes that run at `a` degrees from horizontal, period 4 to 7 pixels, any phase.
    The others have random centre, size and phase; all have random contrast of either sign, random
    brightness and Gaussian pixel noise of standard deviation `noise` (of the grey range).
    `train` and `test` are images per class.
    """
    rng = np.random.default_rng(677)
    count = train + test
    drawn = np.empty((10, count, size, size), np.float32)
    for label in range(10):
        def draw(low, high):
            return rng.uniform(low, high, (count, 1, 1))  # one value an image
        row, column = np.mgrid[:size, :size].astype(np.float32)
        y = row - (size - 1) / 2 - draw(-4, 4)
        x = column - (size - 1) / 2 - draw(-4, 4)
        radius, period, phase = np.hypot(x, y), draw(4, 7), draw(0, 2 * math.pi)
        extent, thick = draw(5, 9), draw(1.5, 3)
        wave = 2 * math.pi / period
        if label < 4:
            angle = math.radians(45 * label)
            pattern = np.sin(wave * (x * math.sin(angle) + y * math.cos(angle)) + phase)
        elif label == 4:
            pattern = np.sign(np.sin(wave * x + phase) * np.sin(wave * y + phase))
        elif label == 5:
            pattern = np.sin(wave * radius + phase)
        elif label == 6:
            pattern = 2 * np.exp(-0.5 * (radius / (extent / 2)) ** 2) - 1
        elif label == 7:
            pattern = np.where((np.minimum(abs(x), abs(y)) < thick)
                               & (np.maximum(abs(x), abs(y)) < extent), 1, -1)
        elif label == 8:
            pattern = np.where(abs(np.maximum(abs(x), abs(y)) - extent) < thick / 2, 1, -1)
        else:
            pattern = np.sin(6 * np.arctan2(y, x) + phase)
        contrast = draw(0.1, 0.35) * rng.choice([-1, 1], (count, 1, 1))
        drawn[label] = draw(0.4, 0.6) + contrast * pattern
    drawn += rng.normal(0, noise, drawn.shape)
    return _stand_in("patterns", PATTERNS, np.rint(255 * drawn.clip(0, 1)).astype(np.uint8), train)


def digits(train=1000, test=100, size=28):
    """Draw the digits 0 .. 9, white on black, in the fonts that come with Matplotlib.

    Each is moved, rotated, sheared and scaled at random. `train` and `test` are images per class.
    """
    import matplotlib
    rng = np.random.default_rng(10)
    folder = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = [ImageFont.truetype(str(folder / f"{name}.ttf"), 22) for name in
             ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono",
              "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral",
              "STIXGeneralBol", "cmr10")]
    glyphs = []  # one picture a font and digit, the digit in its middle
    for font in fonts:
        for digit in range(10):
            glyph = Image.new("L", (size, size))
            ImageDraw.Draw(glyph).text((size / 2, size / 2), str(digit), fill=255, font=font,
                                       anchor="mm")
            glyphs.append(glyph)
    drawn = np.empty((10, train + test, size, size), np.uint8)
    centre = np.full(2, (size - 1) / 2)
    for digit in range(10):
        for i in range(train + test):
            angle, shear = rng.uniform(-0.25, 0.25, 2)
            turn = np.array([[math.cos(angle), -math.sin(angle)],
                             [math.sin(angle), math.cos(angle)]])
            matrix = turn @ [[1, shear], [0, 1]] / rng.uniform(0.7, 1.15, (2, 1))
            offset = centre - matrix @ (centre + rng.uniform(-2, 2, 2))
            coefficients = np.column_stack([matrix, offset]).ravel()  # output to input pixels
            glyph = glyphs[10 * rng.integers(len(fonts)) + digit]
            drawn[digit, i] = glyph.transform((size, size), Image.Transform.AFFINE, coefficients,
                                               Image.Resampling.BILINEAR)
    return _stand_in("digits", "0123456789", drawn, train)


def _stand_in(kind, classes, drawn, train):
    """Return Images of an array (class, image, height, width), the first `train` for training."""
    count, size = drawn.shape[1], drawn.shape[2:]
    labels = np.repeat(np.arange(len(drawn), dtype=np.int32), count).reshape(-1, count)
    arrays = (drawn[:, :train].reshape(-1, *size, 1), labels[:, :train].ravel(),
              drawn[:, train:].reshape(-1, *size, 1), labels[:, train:].ravel())
    return Images.titled("synthetic", f"SYNTHETIC stand-in, drawn {kind}", classes, arrays)
