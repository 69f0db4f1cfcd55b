"""Pixels of picture files, by hand."""
import numpy as np
import pytest
import written
from PIL import Image
from written import TWO, encoded, folder, grey, png, read, seen, values

from sources import pictures
from sources.images import Reading
from sources.pictures import decode
from system import machine
from system.command_line import InputError

cache = written.cache


def pixels(content, *size, **how):
    """The pixels of a picture as nested lists: of a grey one (height, width)."""
    found, _ = decode(content, *size, **how)
    assert found.dtype == np.uint8
    return (found[..., 0] if found.shape[2] == 1 else found).tolist()


# ------------------------------------------------------------------------------------ one picture

def test_transparent_pixels_show_the_background():
    """200 at half opacity (128 of 255) is 200 * 128/255 + background * 127/255."""
    content = png([[[200, 100, 0, 128], [9, 8, 7, 255], [1, 2, 3, 0]]])
    assert pixels(content) == [[[227, 177, 127], [9, 8, 7], [255, 255, 255]]]
    assert pixels(content, background="black") == [[[100, 50, 0], [9, 8, 7], [0, 0, 0]]]
    drawn = encoded(Image.fromarray(np.uint8([[[50, 0], [50, 255]]]), "LA"), "png")
    assert pixels(drawn) == [[255, 50]] and pixels(drawn, background="black") == [[0, 50]]


def test_a_palette_with_transparency():
    image = Image.fromarray(np.uint8([[0, 1, 2]]), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 7, 7, 7])
    content = encoded(image, "png", transparency=1)
    assert pixels(content) == [[[10, 20, 30], [255, 255, 255], [7, 7, 7]]]
    assert pixels(content, background="black") == [[[10, 20, 30], [0, 0, 0], [7, 7, 7]]]
    assert pixels(encoded(image, "gif")) == [[[10, 20, 30], [40, 50, 60], [7, 7, 7]]]


@pytest.mark.parametrize("kind", ["png", "tiff", "ppm"])
def test_16_bits_are_scaled(kind):
    """65,535 = 255 * 257; 384 / 257 is nearest to 1, 386 / 257 to 2."""
    image = Image.fromarray(np.uint16([[0, 257, 384], [386, 32896, 65535]]))
    found, bits = decode(encoded(image, kind))
    assert bits == 16 and found[..., 0].tolist() == [[0, 1, 1], [2, 128, 255]]
    assert decode(grey(1))[1] == 8


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_32_bits_are_refused(kind, tmp_path):
    content = encoded(Image.fromarray(np.ones((2, 2), kind)), "tiff")
    with pytest.raises(InputError, match=r"0.tiff \(its pixels have 32 bits; save it with 8 or 16"):
        read(folder(tmp_path / "set", values(**TWO) | {"train/cat/0.tiff": content}))


def test_other_modes():
    cmyk = Image.fromarray(np.uint8([[[0, 255, 255, 0], [0, 0, 0, 255], [255, 0, 0, 0]]]), "CMYK")
    assert pixels(encoded(cmyk, "tiff")) == [[[255, 0, 0], [0, 0, 0], [0, 255, 255]]]
    assert pixels(encoded(Image.fromarray(np.array([[True, False, True]])), "png")) == [
        [255, 0, 255]]
    palette = Image.fromarray(np.uint8([[0, 1], [1, 0]]), "P")
    palette.putpalette([30, 30, 30, 90, 90, 90])
    assert pixels(encoded(palette, "png")) == [[30, 90], [90, 30]]  # greys: one channel
    equal = np.repeat(np.uint8([[1, 2, 3], [4, 5, 6]])[..., None], 3, 2)
    assert pixels(png(equal)) == [[1, 2, 3], [4, 5, 6]]
    equal[1, 0] = [4, 5, 4]  # one pixel in colour
    assert pixels(png(equal))[1][0] == [4, 5, 4] and pixels(png(equal))[0][0] == [1, 1, 1]


def test_a_picture_is_turned_upright():
    """Orientation 6: the camera lay on its side, so that the left column is to be the top row."""
    content = png([[1, 2, 3], [4, 5, 6]], exif=written.TURNED)
    assert pixels(content) == [[4, 1], [5, 2], [6, 3]]
    assert pixels(content, (3, 2)) == [[4, 1], [5, 2], [6, 3]]


@pytest.mark.parametrize("kind, off", [("webp", 0), ("bmp", 0), ("gif", 0), ("tiff", 0), ("ppm", 0),
                                       ("tga", 0), ("jpeg", 2)])
def test_formats(tmp_path, kind, off):
    """Named as they may be, by the format's other endings too and in capitals."""
    colours = np.uint8([[200, 40, 90], [30, 160, 20]])
    options = {"webp": dict(lossless=True), "jpeg": dict(quality=98, subsampling=0)}.get(kind, {})
    files = {}
    endings = {"jpeg": ("jpg", "JPEG", "jfif", "jpe"), "tiff": ("tif", "TIFF")}.get(kind, (kind,))
    for part in ("train", "test"):
        for c, colour in enumerate(colours):
            content = encoded(Image.new("RGB", (8, 9), tuple(map(int, colour))), kind, **options)
            files |= {f"{part}/{c}/{i}.{end}": content for i, end in enumerate(endings)}
    data = read(folder(tmp_path / "set", files))
    assert data.train_images.shape == (2 * len(endings), 9, 8, 3)
    wanted = colours[data.train_labels][:, None, None].astype(int)
    assert np.abs(data.train_images - wanted).max() <= off
    assert data.lossy == (kind == "jpeg") == ("lossy" in data.title)


# --------------------------------------------------------------------------------- --image-size

def test_image_size_keeps_the_aspect_and_cuts_about_the_centre():
    wide = png(np.repeat(np.uint8([[0, 0, 100, 100, 100, 100, 250, 250]]), 4, 0))
    assert pixels(wide, (4, 4)) == [[100] * 4] * 4
    assert np.shape(pixels(wide, (2, 4))) == (2, 4)  # the same aspect: nothing is cut
    assert np.array(pixels(wide, (2, 4)))[0, [0, -1]].tolist() != [100, 100]
    assert pixels(grey(77), (5, 7)) == [[77] * 7] * 5
    assert pixels(png([[[9, 8, 7]]]), (2, 3)) == [[[9, 8, 7]] * 3] * 2


@pytest.mark.parametrize("text, size", [("4", (4, 4)), ("4x5", (4, 5)), ("05x1", (5, 1))])
def test_image_size_of_folders_and_of_arrays(tmp_path, text, size):
    mixed = values(**TWO) | {"train/cat/0.png": grey(9, 7), "test/dog/0.png": png([[5, 5]])}
    data = read(folder(tmp_path / "set", mixed), image_size=text)
    assert data.train_images.shape == (4, *size, 1) and data.test_images.shape == (2, *size, 1)
    assert seen(data)["train"]["cat"] == [9, 11] and f"{size[0]}x{size[1]} grey" in data.title
    arrays = read(written.idx_folder(tmp_path / "idx"), image_size=text)
    assert arrays.train_images.shape == (3, *size, 1)
    assert ("resized" in arrays.title) == (size != (4, 5))


def test_resizing_says_how_far_it_is(progress_at_once, capsys):
    """As it takes many seconds of tens of thousands of images."""
    assert pictures.resize(np.full((3, 2, 2, 1), 7, np.uint8), (4, 5)).tolist() == [
        [[[7]] * 5] * 4] * 3
    assert "resizing:  67%" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "axb", "3x", "x3", "1x2x3", "-3", "0x5", "5x0", "3.5", " 3",
                                  "123456"])
def test_image_sizes_that_are_refused(tmp_path, text):
    with pytest.raises(InputError, match="--image-size .*: give height x width in pixels"):
        read(folder(tmp_path / "set", values(**TWO)), image_size=text)


def test_mixed_sizes_are_refused_with_the_way_out(tmp_path):
    files = values(**TWO) | {"train/cat/0.png": png(np.zeros((4, 5))), "test/dog/0.png": grey(1, 2)}
    with pytest.raises(InputError) as caught:
        read(folder(tmp_path / "set", files))
    for word in ("3 sizes", "3x3 (4)", "4x5 (1, like train/cat/0.png)",
                 "2x2 (1, like test/dog/0.png)", "--image-size 3x3 makes them one"):
        assert word in str(caught.value)


def test_mixed_sizes_that_are_to_be_transposed(tmp_path):
    """Of pictures that lie on their side in 4x5 pixels, 5x4 are seen."""
    files = {name: png(np.full((4, 5), i)) for i, name in enumerate(values(**TWO))}
    path = folder(tmp_path / "set", files | {"train/cat/0.png": grey(9, 8)})
    with pytest.raises(InputError, match="4x5 .5., .*; --image-size 5x4 makes them one"):
        read(path, transpose=True)
    assert read(path, transpose=True, image_size="5x4").train_images.shape == (4, 5, 4, 1)


# --------------------------------------------------------------------------------- many pictures

def test_grey_pictures_among_coloured_ones(tmp_path):
    for name, at in (("first", "train/cat/0.png"), ("later", "test/dog/0.png")):
        files = values(**TWO) | {at: png(np.tile(np.uint8([9, 8, 7]), (3, 3, 1)))}
        data = read(folder(tmp_path / name, files))
        assert data.train_images.shape == (4, 3, 3, 3) and "3x3 colour" in data.title
        every = np.concatenate([data.train_images, data.test_images])[:, 1, 1].tolist()
        wanted = [[value] * 3 for value in (10, 11, 20, 21, 12, 22)]
        wanted[0 if name == "first" else 5] = [9, 8, 7]
        assert every == wanted
    assert read(tmp_path / "first", grey=True).train_images.shape == (4, 3, 3, 1)


def test_16_bits_are_noted(tmp_path):
    deep = encoded(Image.fromarray(np.full((3, 3), 257 * 50, np.uint16)), "png")
    data = read(folder(tmp_path / "set", values(**TWO) | {
        "train/cat/0.png": deep, "test/dog/0.png": deep}))
    assert data.notes[0].startswith("2 pictures have 16 bits a channel, scaled to 8")
    assert seen(data)["train"]["cat"] == [50, 11]


@pytest.mark.parametrize("value, most", [(4095, 16), (32767, 127), (32896, 128), (65535, 255)])
def test_16_bits_of_which_few_are_used_are_said(tmp_path, value, most):
    """The brightest of 12 bits is nearly black: 4,095 / 257 = 15.9."""
    deep, dark = (encoded(Image.fromarray(np.full((3, 3), x, np.uint16)), "png")
                  for x in (value, 300))
    data = read(folder(tmp_path / "set", values(**TWO) | {
        "train/cat/0.png": deep, "test/dog/0.png": dark, "train/dog/0.png": grey(255)}))
    said = f"; the largest pixel is then {most} of 255: if that is as bright as can be, detail is"
    assert seen(data)["train"]["cat"][0] == most and (said in data.notes[0]) == (most < 128)


NOISE = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
BAD = {"empty.png": (b"", "empty"), "page.jpg": (b"\n<!DOCTYPE html><html>", "an HTML page"),
       "half.png": (png(NOISE)[:-900], "cut off"),
       "half.jpg": (encoded(Image.fromarray(NOISE), "jpeg")[:-900], "cut off"),
       "lfs.png": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
                   "a Git LFS pointer in place of the picture"),
       "text.gif": (b"hello", "no picture that Pillow knows"),
       "noise.png": (b"\x89PNG\r\n\x1a\n" + bytes(50), "no picture|broken|cut off")}


def test_all_unreadable_pictures_are_listed_or_skipped(tmp_path):
    files = values(**TWO) | {f"train/cat/{name}": content for name, (content, _) in BAD.items()}
    with pytest.raises(InputError, match="7 pictures are not readable.*; or --skip-unr") as error:
        read(folder(tmp_path / "set", files))
    data = read(tmp_path / "set", skip_unreadable=True)
    assert seen(data) == TWO and data.notes[0].startswith("7 unreadable left out: ")
    for name, (_, reason) in list(BAD.items())[:-1]:
        for said in (str(error.value), data.notes[0]):
            assert f"train/cat/{name} ({reason})" in said
    assert "train/cat/noise.png (" in data.notes[0]


def test_pillow_logs_nothing_of_what_it_cannot_decode(tmp_path, caplog):
    """A TIFF that promises more values a pixel than there can be: one line is to name it."""
    content = encoded(Image.new("RGB", (2, 2)), "tiff")
    said = b"\x15\x01\x03\0\x01\0\0\0"  # the tag SamplesPerPixel, a short, one of them
    files = {f"{part}/{c}/1.tiff": content.replace(said + b"\3\0", said + b"\1\x40")
             for part in ("train", "test") for c in "ab"}
    assert content not in files.values()
    with pytest.raises(InputError, match="4 pictures are not readable"):
        read(folder(tmp_path / "set", files))
    assert not caplog.records


def test_a_class_or_a_set_of_which_nothing_can_be_read(tmp_path):
    files = values(**TWO) | {"train/cat/0.png": b"", "train/cat/1.png": b""}
    with pytest.raises(InputError, match="class 'cat' has no picture for training"):
        read(folder(tmp_path / "set", files), skip_unreadable=True)
    files = dict.fromkeys(files, b"x") | {f"train/cat/{i}.png": b"x" for i in range(40)}
    with pytest.raises(InputError, match="44 pictures are not.*and 14 more; mend or delete them$"):
        read(folder(tmp_path / "set", files), skip_unreadable=True)


@pytest.mark.parametrize("side", [4, 5])  # Pillow warns above MAX_IMAGE_PIXELS, refuses the double
def test_pictures_of_too_many_pixels_are_refused(tmp_path, monkeypatch, side):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12)
    files = values(**TWO) | {"train/dog/5.png": grey(1, side)}
    with pytest.raises(InputError, match=r"train/dog/5.png \(too many pixels\)"):
        read(folder(tmp_path / "set", files))


def test_many_pictures_are_decoded_on_all_cores_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "CHUNK", 2)
    many = dict(train=dict(a=[*range(9)], b=[*range(20, 29)]), test=dict(a=[50, 51], b=[60]))
    assert seen(read(folder(tmp_path / "set", values(**many)))) == many


# -------------------------------------------------------------------------------- memory, cache

def test_what_does_not_fit_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    """Six pictures of 3x3 grey pixels, three bytes each for all that is held on the way."""
    calls, free = [], [0]
    monkeypatch.setattr(pictures, "decode", lambda *given: calls.append(1) or decode(*given))
    monkeypatch.setattr(machine, "free_memory", lambda: free[0])
    path, needed = folder(tmp_path / "set", values(**TWO)), 3 * 6 * 9
    for free[0], size in ((needed - 1, ""), (3 * 6 * 25 - 1, "5")):
        calls.clear()
        with pytest.raises(InputError, match="6 pictures of .x. pixels would.*--image-size ma"):
            read(path, image_size=size)
        assert len(calls) == (0 if size else 1)
    free[0] = needed - 1
    assert seen(read(path, force=True)) == TWO
    (cache_file,) = written.cache_of_arrays.CACHE.iterdir()
    cache_file.unlink()
    free[0] = needed
    assert seen(read(path)) == TWO


def test_arrays_are_not_enlarged_beyond_memory(tmp_path, monkeypatch):
    """Five images of 99,999 x 99,999 pixels, and the list of them that becomes one array."""
    monkeypatch.setattr(machine, "free_memory", lambda: 99e9)
    with pytest.raises(InputError, match="5 images of 99999 pixels would take 100.0 GB of memory"):
        read(written.idx_folder(tmp_path / "set"), image_size="99999")


def test_the_cache_knows_size_background_and_what_is_skipped(tmp_path):
    glass = png(np.full((3, 3, 4), [40, 40, 40, 0]))
    path = folder(tmp_path / "set", values(**TWO) | {"train/cat/0.png": glass})
    for _ in range(2):
        for background, value in (("white", 255), ("black", 0)):
            for size in ("", "2", "2x5"):
                data = read(path, background=background, image_size=size)
                assert seen(data)["train"]["cat"] == [value, 11]
                assert data.train_images.shape[1:3] == (Reading(image_size=size).size or (3, 3))
    folder(path, {"train/cat/2.png": b""})
    assert "1 unreadable" in read(path, skip_unreadable=True).notes[0]
    assert "1 unreadable" in read(path, skip_unreadable=True).notes[0]  # from the cache
    with pytest.raises(InputError, match="train/cat/2.png"):
        read(path)


def test_the_cache_knows_how_pictures_lie_in_their_files(tmp_path):
    """Of 2x4 pixels that are to be transposed the middle 2x1 are seen as 1x2."""
    wide = png(np.uint8([[10, 20, 20, 30], [50, 60, 60, 70]]))
    path = folder(tmp_path / "set", values(**TWO) | {"train/cat/0.png": wide})
    plain, turned = (read(path, image_size="1x2", transpose=how).train_images[0, ..., 0].tolist()
                     for how in (False, True))
    assert turned == [[20, 60]] != plain


def test_every_form_is_read(tmp_path):
    """What the fuzzer damages, undamaged."""
    for i, (form, files) in enumerate(written.forms().items()):
        data = read(folder(tmp_path / str(i), files))
        assert len(data.test_labels) == 4 and len(data.classes) == 2, form
        assert ("16 bits" in str(data.notes)) == ("16" in form)
