"""The page to explore a network with, in a real browser, and TensorBoard's projector."""
import json
import re
import shutil

import numpy as np
import pytest
from conftest import lacking, run_script, write_images
from PIL import Image
from small_networks import L, keras, network_of, output

from inside import explore, projector, units
from inside.ascent import maximize
from inside.explore import choose
from inside.trained import Record
from inside.units import describe_kernels, share, signed
from system.command_line import NotDrawn, import_script

CLASSES = "<script>", "a & b", "猫"


def test_bytes_of_values():
    assert share(np.array([-1, 0, 0.5, 1, 2])).tolist() == [0, 0, 128, 255, 255]
    assert signed(np.array([-2.0, -1, 0, 1]), 1.0).tolist() == [1, 1, 128, 255]


def test_half_of_the_images_are_mistakes_as_far_as_there_are_any():
    right = np.array([True] * 6 + [False] * 2)
    assert choose(right, 4).tolist() == [0, 5, 6, 7]
    assert choose(right, 6).tolist() == [0, 1, 3, 5, 6, 7]
    assert choose(np.ones(4, bool), 2).tolist() == [0, 3]
    assert choose(np.zeros(4, bool), 2).tolist() == [0, 3]
    assert choose(np.zeros(4, bool), 1).tolist() == [0]
    assert len(choose(np.arange(9) == 4, 6)) == 6  # few are right


def test_kernels_of_every_layer_as_far_as_there_is_room():
    """Signs by hand, a map's largest weight being one full colour; of what is joined none, and a
    line says so."""
    images = keras.Input((4, 4, 1))
    x = L.Conv2D(1, 1, name="a", activation="relu")(images)
    y = L.Conv2D(2, 1, name="b", activation="relu")(x)
    z = L.ReLU(name="sum")(L.Concatenate()([x, y]))
    network = network_of(keras.Model(images, L.Dense(2)(L.Flatten()(z))), np.zeros((2, 4, 4, 1)),
                         [0, 1])
    network.model.get_layer("a").kernel.assign([[[[-2]]]])
    network.model.get_layer("b").kernel.assign([[[[1, -3]]]])
    facts, arrays = describe_kernels(network, "a", [0], 0)
    assert facts == dict(kernel=[1, 1, 1, 1], slices="kernel")
    assert arrays["a/kernel"].ravel().tolist() == [1]
    facts, arrays = describe_kernels(network, "b", [0, 1], 2)
    assert facts["kernel"] == [1, 1, 1, 1] and "each map below" in facts["slices"]
    assert arrays["b/kernel"].ravel().tolist() == [255, 1]
    for layer, room, word in (("b", 1, "too much"), ("sum", 9, "no single convolution")):
        facts, arrays = describe_kernels(network, layer, [0, 1], room)
        assert word in facts["without"] and not arrays


def test_a_page_has_as_many_maps_as_there_is_room_for(monkeypatch):
    """Of 8x8 pixels: a map's field is 3x3 and 5x5, in 19 pictures, its values are 4 times 6x6 and
    4x4: 315 and 539 bytes."""
    images = keras.Input((8, 8, 1))
    x = L.Conv2D(3, 3, name="a", activation="relu")(images)
    x = L.Conv2D(6, 3, name="b", activation="relu")(x)
    network = network_of(keras.Model(images, L.Dense(2)(L.Flatten()(x))), np.zeros((2, 8, 8, 1)),
                         [0, 1])
    for room, most in ((3 * 315 + 6 * 539, 6), (3 * 315 + 6 * 539 - 1, 5), (3 * 315 + 4 * 539, 4),
                       (2 * 315 + 2 * 539, 2), (315 + 539, 1)):
        monkeypatch.setattr(units, "PICTURES", room)
        assert units.most_maps(network) == most
    facts, arrays = explore.describe(network, 2)
    assert [layer["maps"] for layer in facts["layers"]] == [[0], [0]]
    assert [layer["count"] for layer in facts["layers"]] == [3, 6]
    assert arrays["b"].shape == (2, 1, 4, 4) and arrays["b/kernel"].shape == (1, 3, 11, 1)
    monkeypatch.setattr(units, "PICTURES", 315 + 538)
    with pytest.raises(NotDrawn, match="page larger than 6 MB"):
        units.most_maps(network)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Two networks' pages, of images, classes and files whose names must be escaped: {script:
    path}."""
    folder = tmp_path_factory.mktemp("explore")
    data = folder / "own <script>"
    for split, count in (("train", 6), ("test", 4)):
        for c, name in enumerate(CLASSES):
            (data / split / name).mkdir(parents=True)
            for i in range(count):
                noise = np.random.default_rng([c, i, count]).integers(0, 90, (12, 12))
                Image.fromarray((80 * c + noise).astype(np.uint8)).save(
                    data / split / name / f"<script>{i}.png")
    found = {}
    for script, options in (("cifar_lenet5", ("--filters", 2, 3)), ("mnist_rnn", ("--layers", 1))):
        status, _, err = run_script(script, "--data", data, "--steps", 30, "--units", 8,
                                    "--batch-size", 6, "--evaluations", 1, "--threads", 1, "--name",
                                    "a", *options, cwd=folder)
        assert status == 0, err
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(units, "maximize", lambda *what, steps: maximize(*what, steps=5))
            status, out, err = run_script("visualize", "explore", f"logs/{script}/a-seed0",
                                          "--count", 8, "--out", script, cwd=folder)
        assert status == 0 and "explore.html" in out, err
        found[script] = folder / script / "a-seed0" / "explore.html"
    return found


@pytest.mark.slow
def test_the_page_holds_everything_and_names_are_escaped(pages):
    for script, page in pages.items():
        text = page.read_text()
        assert len(text) < 6_000_000 and not re.search(r"(?:src|href)=|https?://", text)
        assert text.count("<script") == 2  # its own, and none of the names
        model = json.loads(re.search(r'id="model">(.*?)</script>', text, re.S)[1])
        assert tuple(model["classes"]) == CLASSES and len(model["labels"]) == 8
        assert ("steps" in model) == (script == "mnist_rnn")


@pytest.mark.slow
def test_vgg16_is_drawn_and_its_page_has_some_maps_or_is_refused(tmp_path, bare_figures):
    """At 32 pixels four maps of each of 13 layers; at 224 one patch of the last is 196x196."""
    def vgg16(size):
        base = keras.applications.VGG16(weights=None, include_top=False,
                                        input_shape=(size, size, 3))
        return keras.Model(base.input, L.Dense(2)(L.Flatten()(base.output)))
    small = vgg16(32)
    assert units.most_maps(network_of(small, np.zeros((2, 32, 32, 3)), [0, 1])) == 4
    with pytest.raises(NotDrawn, match="one map of each of this network's 13 layers would make"):
        units.most_maps(network_of(vgg16(224), np.zeros((2, 224, 224, 3)), [0, 1]))
    small.save(tmp_path / "vgg16.keras")
    status, out, err = run_script("visualize", "activations", tmp_path / "vgg16.keras", "--data",
                                  write_images(tmp_path / "own"), "--out", tmp_path / "f")
    assert status == 0 and "activations_all.png" in out, err


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver as driver
    chromium, service = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and service):
        lacking("needs chromium and chromedriver")
    options = driver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--window-size=1280,1000"):
        options.add_argument(word)
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    window = driver.Chrome(options=options, service=driver.ChromeService(service))
    yield window
    window.quit()


def labels(browser, selector):
    return [element.get_attribute("aria-label")
            for element in browser.find_elements("css selector", selector)]


def choose_in(browser, menu, value=None, text=None):
    from selenium.webdriver.support.ui import Select
    own = Select(browser.find_element("id", menu))
    own.select_by_value(value) if text is None else own.select_by_visible_text(text)


def texts(browser, selector):
    return [element.text for element in browser.find_elements("css selector", selector)]


@pytest.mark.slow
def test_clicks_keys_and_the_grey_square(pages, browser):
    browser.get(pages["cifar_lenet5"].as_uri())
    assert texts(browser, "#count") == ["8 images"]
    assert {*texts(browser, "#class option")} == {"any", *CLASSES}
    before = texts(browser, "#bars")
    assert "<script>" in before[0]
    image = browser.find_element("id", "image")
    image.send_keys("\ue013")  # arrow up: the square appears
    assert "a grey square" in image.get_attribute("aria-label")
    assert texts(browser, "#bars") != before
    image.send_keys("\ue00c")  # Escape
    assert "a grey square" not in image.get_attribute("aria-label")
    assert texts(browser, "#bars") == before
    maps = browser.find_elements("css selector", ".maps button")
    assert len(maps) == 2 + 3
    maps[1].click()
    assert texts(browser, "#detail h2") == ["relu1, map 1"]
    assert texts(browser, "#detail figcaption")[0].startswith("kernel")
    assert len(browser.find_elements("css selector", "#detail canvas")) == 1 + 9 + 9 + 1
    maps[4].click()  # of the second layer
    assert texts(browser, "#detail h2") == ["relu2, map 2"]
    assert texts(browser, "#detail figcaption")[0].startswith("kernel, a slice for each map")
    width, height = 2 * (5 + 1) - 1, 5
    assert (width, height) == tuple(browser.execute_script(
        "const c = document.querySelector('#detail canvas'); return [c.width, c.height]"))
    browser.execute_script("""
        M.arrays["b/kernel"] = Uint8Array.of(255, 128, 1);
        detail({ name: "b", maps: [7], said: ["seen"], kernel: [1, 1, 1, 3], slices: "k",
                 without: ["no patches"] }, 0);""")
    assert texts(browser, "#detail p") == ["seen", "no patches"]
    assert texts(browser, "#detail figcaption") == ["k: grey is 0"]
    assert texts(browser, "#detail h2") == ["b, map 7"]
    browser.find_elements("css selector", "#thumbs button")[3].click()
    assert texts(browser, "#bars") != before
    for value, text in ("right", "any"), ("wrong", "any"), ("all", "any"), ("all", "a & b"):
        choose_in(browser, "kind", value=value)
        choose_in(browser, "class", text=text)
        shown = labels(browser, "#thumbs button")
        assert f"{len(shown)} image" in texts(browser, "#count")[0]
        assert all("taken for" not in label for label in shown) or value != "right"
        assert all("taken for" in label for label in shown) or value != "wrong"
        assert all(label.startswith("a & b") for label in shown) or text == "any"
    assert shown and texts(browser, "#name") == labels(browser, "#thumbs [aria-pressed=true]")
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_the_mouse_moves_the_grey_square(pages, browser):
    """Over 12x12 pixels of 25 screen pixels each, at 2 of each from the top left corner."""
    from selenium.webdriver import ActionChains
    browser.get(pages["cifar_lenet5"].as_uri())
    before, image = texts(browser, "#bars"), browser.find_element("id", "image")
    ActionChains(browser).move_to_element_with_offset(image, -100, -100).perform()
    assert image.get_attribute("aria-label").endswith("a grey square at row 2, column 2")
    pixel, grey = browser.execute_script(
        "const i = document.getElementById('image');"
        "return [i.getContext('2d').getImageData(2, 2, 1, 1).data[0], M.grey]")
    assert pixel == grey and texts(browser, "#bars") != before
    ActionChains(browser).move_to_element(browser.find_element("id", "title")).perform()
    assert "a grey square" not in image.get_attribute("aria-label")
    assert texts(browser, "#bars") == before and browser.get_log("browser") == []


@pytest.mark.slow
def test_rows_are_read_by_the_slider(pages, browser):
    browser.get(pages["mnist_rnn"].as_uri())
    slider, last = browser.find_element("id", "rows"), texts(browser, "#bars")
    assert texts(browser, "#read") == ["12 of 12"]
    for _ in range(11):
        slider.send_keys("\ue012")  # arrow left
    assert texts(browser, "#read") == ["1 of 12"] and texts(browser, "#bars") != last
    assert browser.execute_script("return M.when") == [i for i in range(12) for _ in range(12)]
    canvas = "document.getElementById('image')"  # the rows read, and the darker others
    seen = np.reshape(browser.execute_script(
        f"return [...{canvas}.getContext('2d').getImageData(0, 0, {canvas}.width, {canvas}.height)"
        ".data]"), (12, -1, 12, 4))[:, 0, :, 0]
    assert seen[0].max() > 31 >= seen[1:].max()
    assert browser.get_log("browser") == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(pages, browser, width):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", dict(
        width=width, height=900, deviceScaleFactor=1, mobile=width < 700))
    for page in pages.values():
        browser.get(page.as_uri())
        inside, wide = browser.execute_script(
            "return [innerWidth, document.documentElement.scrollWidth]")
        assert wide <= inside == width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.slow
def test_in_the_dark_a_click_on_a_narrow_page_brings_what_it_shows_into_view(pages, browser):
    """It is light on dark then, and its lowest map is clicked where the window is at its end."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", dict(
        width=390, height=700, deviceScaleFactor=1, mobile=True))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dict(
        features=[dict(name="prefers-color-scheme", value="dark")]))
    browser.get(pages["cifar_lenet5"].as_uri())
    text, back = browser.execute_script("""
        const style = getComputedStyle(document.body);
        return [style.color, style.backgroundColor].map(c => +c.match(/\\d+/)[0])""")
    assert back < 50 and text > 200
    top, bottom, inside, wide = browser.execute_script("""
        scrollTo(0, document.documentElement.scrollHeight);
        [...document.querySelectorAll(".maps button")].at(-1).click();
        const box = document.getElementById("detail").getBoundingClientRect();
        return [box.top, box.bottom, innerHeight, document.documentElement.scrollWidth]""")
    assert 0 <= top < bottom <= inside + 1 and wide == 390
    assert texts(browser, "#detail h2") == ["relu2, map 2"]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dict(features=[]))
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_features_labels_and_thumbnails_lie_where_tensorboard_looks(small_run, tmp_path, capsys):
    """The same test images in all three, in one order."""
    run = shutil.copytree(small_run, tmp_path / "run")
    record = Record(run, import_script)
    assert projector.draw(record, count=10) == [] and "projector" in capsys.readouterr().out
    folder, network = run / "result" / "projector", record.network
    chosen = np.linspace(0, 399, 10).astype(int)
    features = np.fromfile(folder / "features.bytes", np.float32).reshape(10, 16)
    images = network.data.test_images[chosen]
    np.testing.assert_allclose(
        features, output(network.model, "relu_hidden", network.inputs(images)), atol=1e-5)
    assert (folder / "labels.tsv").read_text().split("\n") == [
        *(network.data.classes[label] for label in network.data.test_labels[chosen]), ""]
    picture = np.asarray(Image.open(folder / "images.png"))  # grey images in a grey file
    assert picture.shape == (3 * 28, 4 * 28)
    np.testing.assert_allclose(picture[28:56, :28], images[4, ..., 0], atol=1)
    config = (run / "result" / "projector_config.pbtxt").read_text()
    assert "projector/features.bytes" in config and "tensor_shape: 10" in config
