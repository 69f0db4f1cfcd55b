"""Turn picture files into pixels: whatever Pillow reads, upright, opaque, 8 bits a channel."""
import collections
import functools
import io
import itertools
import logging
import re
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from system import machine
from system.command_line import InputError, first_line

JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
BACKGROUNDS = {"white": 255, "black": 0}
ORIENTATION = 0x0112  # EXIF's tag of how the camera was held
CHUNK = 500  # pictures that are decoded at a time, on one core
logging.getLogger("PIL").setLevel("CRITICAL")  # what a decoder says of damage beside its exception
STUBS = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF", "EPS"}  # formats Pillow only knows the name of


@functools.cache
def endings():
    """Return the endings of file names that Pillow reads, in small letters: ".png" ..."""
    Image.init()
    return {ending for ending, kind in Image.registered_extensions().items()
            if kind in Image.OPEN and kind not in STUBS}


def is_picture(name):
    """Return whether a file's name ends like a picture's."""
    return "." + name.rpartition(".")[2].lower() in endings()


def fit(image, size):
    """Return a Pillow image resized, its aspect kept, to cover (height, width), and cut to that
    about its centre; antialiased."""
    return ImageOps.fit(image, size[::-1], method=Image.Resampling.BICUBIC)


def resize(images, size):
    """Return images, uint8 (n, height, width, channels), fitted to (height, width)."""
    if not len(images):
        return np.zeros((0, *size, images.shape[3]), np.uint8)
    from system.progress import Progress  # tqdm takes a while, and --help imports this module
    return np.stack([np.asarray(fit(Image.fromarray(image.squeeze(-1) if image.shape[2] == 1
                                                    else image), size)).reshape(*size, -1)
                     for image in Progress(images, "resizing", unit="image")])


def decode(content, size=None, background="white"):
    """Return pixels, uint8 (height, width, 1 if they are grey, else 3), and their bits a channel.

    The picture is turned upright as its EXIF data says; what is transparent shows `background`;
    size: (height, width) to fit, or None; 16 bits become 8. Raises what Pillow raises, or
    ValueError for pixels in floating point or of 32 bits, whose range is unknown.
    """
    with Image.open(io.BytesIO(content)) as image:
        if size and image.format == "JPEG":  # decodes at a half, quarter or eighth of the size
            image.draft(None, (4 * max(size), 4 * max(size)))
        bits, kind = 8, image.format
        if image.getexif().get(ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16") or image.mode == "I" and kind in ("PNG", "PPM"):
            levels, bits = np.asarray(image).astype(np.uint16), 16
            image = Image.fromarray(np.rint(levels / 257).astype(np.uint8))
        elif image.mode in ("I", "F"):
            raise ValueError("its pixels have 32 bits; save it with 8 or 16")
        elif image.has_transparency_data:
            canvas = Image.new("RGBA", image.size, background)
            image = Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")
        elif image.mode not in ("L", "RGB"):
            image = image.convert("L" if image.mode == "1" else "RGB")
        pixels = np.asarray(fit(image, size) if size else image)
    if pixels.ndim == 3 and _is_grey(pixels[len(pixels) // 2]) and _is_grey(pixels):
        pixels = pixels[..., 0]
    return pixels.reshape(*pixels.shape[:2], -1), bits


def _is_grey(pixels):
    """Return whether red, green and blue, in the last dimension, are equal everywhere."""
    return (pixels == pixels[..., :1]).all()


def trouble(content, error):
    """Return in few words why a file's content is no picture."""
    start = content[:200].lstrip().lower()
    if not content:
        return "empty"
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer in place of the picture"
    if isinstance(error, UnidentifiedImageError):
        return "no picture that Pillow knows"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return "too many pixels"
    if re.search("truncated|incomplete|broken|unexpected end", str(error).lower()):
        return "cut off"
    return first_line(error)


def decode_all(files, size, background):
    """Return [(pixels, bits)] of files [(content, None or why it could not be read)]; in place of
    the pixels of an unreadable one None, in place of its bits the reason."""
    decoded = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a decoder
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for content, reason in files:
            try:
                decoded.append((None, reason) if reason else decode(content, size, background))
            except Exception as error:  # whatever a decoder says of a damaged file
                decoded.append((None, trouble(content, error)))
    return decoded


def _read(tree, name):
    try:
        return tree.read(name), None
    except InputError as error:
        return b"", first_line(error.__cause__ or error)


def decode_files(tree, names, how):
    """Decode files of a Tree on all cores: return (images (n, height, width, channels), which of
    the names these are, notes).

    names: in the order wanted; how: a sources.images.Reading. Images are colour if any is. Raises
    InputError, before anything is decoded, if they would not fit into memory; if any is unreadable,
    naming all of these, unless how.skip_unreadable; if their sizes differ and how.image_size is not
    given.
    """
    import joblib

    from system.progress import Progress
    position = {name: i for i, name in enumerate(names)}
    ordered = [name for name in tree.files if name in position]  # a tar is read from end to end
    _check_memory(tree, ordered, how)
    chunks = list(itertools.batched(ordered, CHUNK)) if hasattr(itertools, "batched") else [
        ordered[i:i + CHUNK] for i in range(0, len(ordered), CHUNK)]
    cores = machine.cores() if len(chunks) > 4 else 1
    results = joblib.Parallel(cores, return_as="generator", pre_dispatch="2*n_jobs", batch_size=1)(
        joblib.delayed(decode_all)([_read(tree, name) for name in chunk], how.size_of_files,
                                    how.background)
        for chunk in chunks)
    pixels, bad, sizes, deep = None, {}, collections.defaultdict(list), []
    with Progress(desc=f"decoding {tree.path.name}", total=len(ordered)) as bar:
        for chunk, decoded in zip(chunks, results):
            for name, (own, bits) in zip(chunk, decoded):
                if own is None:
                    bad[name] = bits
                    continue
                deep += [own.max()] * (bits == 16)
                sizes[own.shape[:2]].append(name)
                if len(sizes) > 1:
                    continue
                if pixels is None:
                    pixels = np.zeros((len(names), *own.shape), np.uint8)
                elif own.shape[2] > pixels.shape[3]:
                    pixels = np.repeat(pixels, 3, 3)
                pixels[position[name]] = own
            bar.update(len(chunk))
    if cores > 1:
        joblib.externals.loky.get_reusable_executor().shutdown()
    _check(tree, bad, sizes, how)
    kept = np.array([name not in bad for name in names])
    notes = [f"{len(deep):,} pictures have 16 bits a channel, scaled to 8"] * bool(deep)
    if deep and (most := max(deep)) < 128:
        notes[0] += (f"; the largest pixel is then {most} of 255: if that is as bright as can be, "
                     "detail is lost, and the pixels should be spread over all 16 bits")
    notes += [f"{len(bad):,} unreadable left out: {_listed(bad)}"] * bool(bad)
    return pixels if kept.all() else pixels[kept], kept, notes


def _listed(bad, most=30):
    """Return unreadable files with what they are: "a.png (empty), b.png (an HTML page)"."""
    said = [f"{name} ({reason})" for name, reason in itertools.islice(bad.items(), most)]
    return ", ".join(said) + f" and {len(bad) - most:,} more" * (len(bad) > most)


def _check(tree, bad, sizes, how):
    """Refuse unreadable pictures and mixed sizes."""
    if bad and (not how.skip_unreadable or not sizes):
        s = "s are" if len(bad) > 1 else " is"
        raise InputError(f"{tree.path}: {len(bad):,} picture{s} not readable: {_listed(bad)}; mend "
                         "or delete them" + "; or --skip-unreadable" * bool(sizes))
    if len(sizes) > 1:
        common = sorted(sizes.items(), key=lambda item: -len(item[1]))
        said = [f"{h}x{w} ({len(names):,}" + (f", like {names[0]})" if i else ")")
                for i, ((h, w), names) in enumerate(common[:4])]
        height, width = common[0][0][::-1] if how.transpose else common[0][0]
        raise InputError(
            f"{tree.path}: pictures of {len(sizes):,} sizes, height x width: {', '.join(said)}"
            f"{' ...' * (len(sizes) > 4)}; --image-size {height}x{width} makes them one")


def _check_memory(tree, names, how):
    """Refuse what would not fit, as far as --image-size and the first picture that can be read
    show."""
    def check(height, width, channels):
        machine.check_memory(3 * len(names) * height * width * channels, f"{tree.path}: "
                             f"{len(names):,} pictures of {height}x{width} pixels",
                             f"{'a smaller ' * bool(how.size)}--image-size makes them smaller",
                             how.force)
    if how.size:
        check(*how.size, 1)  # one of them alone may be too large
    for name in names[:20]:
        (pixels, _), = decode_all([_read(tree, name)], how.size_of_files, how.background)
        if pixels is not None:
            return check(*pixels.shape)
