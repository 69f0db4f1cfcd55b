"""Images made to excite a map or a class: they do, within black and white, the same each time."""
import matplotlib.pyplot as plt
import numpy as np
import pytest
from small_networks import L, as_record, keras, network_of

from inside import ascent, maximize
from inside.ascent import correlation, excitation
from inside.trained import Record
from system.command_line import import_script


@pytest.fixture(scope="module")
def network():
    """A 5x5 kernel that likes upright stripes, one that likes level ones, and logits of both."""
    images = keras.Input((12, 12, 1))
    maps = L.Conv2D(2, 5, padding="same", use_bias=False, activation="relu", name="conv")(images)
    model = keras.Model(images, L.Dense(2, use_bias=False, name="logits")(L.Flatten()(maps)))
    upright = np.tile([-1, 1.5, -1, 1.5, -1], (5, 1))
    model.set_weights([np.stack([upright, upright.T], -1)[:, :, None].astype(np.float32),
                       np.tile(np.float32([[1, -1], [-1, 1]]), (144, 1))])
    pixels = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 1))
    return network_of(model, pixels, np.arange(20) % 2, mean=0.5, std=0.25)


def test_made_images_excite_more_than_noise(network):
    """More than the strongest of 144 places of black and white noise does, though stripes as fine
    as these suffer most from jitter and blur; and each map has its own stripes."""
    made = ascent.maximize(network, "conv", [0, 1])
    assert made.shape == (2, 12, 12, 1)
    reached = excitation(network, "conv", made, [0, 1])
    noise = network.inputs(np.random.default_rng(1).choice(np.uint8([0, 255]), (200, 12, 12, 1)))
    for m in (0, 1):
        assert reached[m] > np.median(excitation(network, "conv", noise, [m] * 200))
    middle = made[:, 4:8, 4:8, 0]
    along, across = middle.std(1).mean(1), middle.std(2).mean(1)
    assert along[0] < 0.3 * across[0] and across[1] < 0.3 * along[1]


@pytest.mark.parametrize("within", [True, False])
def test_a_unit_that_is_off_at_grey_is_excited(within):
    """Nine pixels of grey, 0.5, are below its threshold of 6.5; made brighter they are above it,
    though a ReLU that is off passes no gradient."""
    x = keras.Input((9, 9, 1))
    y = L.Conv2D(1, 3, padding="same", activation="relu" if within else None, name="conv")(x)
    y = y if within else L.ReLU(name="own")(y)
    model = keras.Model(x, L.Dense(2, name="logits")(L.Flatten()(y)))
    model.get_layer("conv").set_weights([np.ones((3, 3, 1, 1)), np.array([-6.5])])
    pixels = np.random.default_rng(0).integers(0, 256, (20, 9, 9, 1))
    off = network_of(model, pixels, np.arange(20) % 2)
    layer, = off.layers
    made = ascent.maximize(off, layer, [0], steps=60)
    assert excitation(off, layer, np.full((1, 9, 9, 1), off.grey, np.float32), [0]) == 0
    assert excitation(off, layer, made, [0]) > 1.5 and made[0, 4, 4] > 0.9


def test_they_stay_within_black_and_white(network):
    black, white = network.inputs(np.uint8([0, 255]).reshape(1, 2, 1, 1)).ravel()
    made = ascent.maximize(network, "conv", [0, 1])
    assert black - 1e-6 <= made.min() < made.max() <= white + 1e-6
    assert np.ptp(made) > 0.8 * (white - black)  # and use what is between


def test_classes_are_raised_against_noise(network):
    made = ascent.maximize(network, "logits", [0, 1], steps=40)
    logits = network.model(made).numpy()
    noise = network.model(network.inputs(network.data.test_images)).numpy()
    assert (logits.argmax(1) == [0, 1]).all() and (logits.max(1) > noise.max(0)).all()


def test_the_same_seed_makes_the_same_image(network):
    one, again, other = (ascent.maximize(network, "conv", [0], steps=5, seed=seed)
                         for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.1


def test_without_steps_it_is_noise_about_grey(network):
    made = ascent.maximize(network, "conv", [0] * 50, steps=0)
    low, high = (float(x) for x in network.inputs(np.uint8([0, 255]).reshape(1, 2, 1, 1)).ravel())
    assert made.mean() == pytest.approx(network.grey, abs=0.02)
    assert made.std() == pytest.approx(0.1 * (high - low), rel=0.05)


def test_excitation_by_hand(network):
    """The largest value of an image's own map: a white stripe on black, in its middle."""
    pixels = np.zeros((2, 12, 12, 1), np.uint8)
    pixels[0, :, 5] = pixels[1, 5] = 255
    found = excitation(network, "conv", network.inputs(pixels), [0, 1])
    assert found == pytest.approx([5 * (1.5 * 2 + (1 - 1.5 + 1 + 1) * 2)] * 2, rel=0.5)
    crossed = excitation(network, "conv", network.inputs(pixels), [1, 0])
    assert (found > crossed).all()


def test_correlations_by_hand():
    """Of stripes with themselves, reversed, turned and nothing; moved by a pixel they are reversed.
    """
    stripes = np.tile([0.0, 1, 0, 1, 0, 1], (6, 1))
    others = stripes, 3 - 2 * stripes, stripes.T, 0 * stripes
    assert [correlation([(stripes, x)]) for x in others] == pytest.approx([1, -1, 0, 0])
    assert [correlation([(stripes, x)], 1) for x in others] == pytest.approx([1, 1, 0, 0])
    assert correlation((stripes, x) for x in others[1:3]) == pytest.approx(-0.5)
    assert np.isnan(correlation([]))


def test_one_map_has_no_other_to_be_compared_with(network, quick_figures):
    figure, numbers = maximize.draw_maps(network, "conv", [1], ascent.maximize(
        network, "conv", [1], steps=2)[None])
    plt.close(figure)
    assert np.isnan(numbers["alike"][0, 2]) and np.isfinite(numbers["alike"][0, 1])


@pytest.mark.slow
def test_a_run_is_drawn(small_run, quick_figures):
    """Each layer and the classes once; real excitations are those of the test images."""
    record = Record(small_run, import_script)
    network = record.network
    drawn = {name: (figure, numbers)
             for name, figure, numbers in maximize.draw(record, maps=2, seeds=2, steps=15)}
    plt.close("all")
    assert [*drawn] == ["maximize_relu1", "maximize_relu2", "maximize_classes"]
    for layer, count in (("relu1", 3), ("relu2", 4)):
        figure, numbers = drawn[f"maximize_{layer}"]
        said = f"beside the nine test patches that do, 2 of {count} maps;\n"
        assert said in figure.get_suptitle()
        assert numbers["maps"].tolist() == [0, count - 1]
        assert numbers["images"].shape == (2, 2, 28, 28, 1)
        images = network.inputs(network.data.test_images)
        for m, real, made, own in zip(*(numbers[k] for k in ("maps", "real", "made", "images"))):
            every = excitation(network, layer, images, [m] * len(images))
            assert real == pytest.approx(every.max(), rel=1e-4)
            assert made == pytest.approx(excitation(network, layer, own, [m, m]).mean(), rel=1e-4)
            assert made > every.mean()
        assert numbers["alike"].shape == (2, 3) and np.nanmax(np.abs(numbers["alike"])) <= 1 + 1e-6
        assert len([*maximize.table(numbers)]) == 3
    assert drawn["maximize_classes"][1]["images"].shape == (2, 2, 28, 28, 1)
    assert "2 random beginnings, 2 of 4 classes\n" in drawn["maximize_classes"][0].get_suptitle()


@pytest.mark.slow
def test_the_middle_units_field_need_not_be_the_largest():
    """Nor the logits the first use of the layer that gives them."""
    images = keras.Input((28, 28, 1))
    x, pool = images, L.GlobalAveragePooling2D(name="pool")
    for i, (filters, strides) in enumerate(((2, 2), (2, 1), (2, 1)), 1):
        x = L.Conv2D(filters, 3, strides, padding="same", activation="relu", name=f"conv{i}")(x)
        x = L.MaxPooling2D(padding="same")(x) if i < 3 else x
    gate = L.Reshape((1, 1, 2))(pool(x))
    model = keras.Model(images, pool(L.Conv2D(3, 1, name="last")(L.Multiply()([x, gate]))))
    pixels = np.random.default_rng(0).integers(0, 256, (12, 28, 28, 1))
    own = as_record(network_of(model, pixels, np.arange(12) % 3))
    *_, (name, figure, numbers) = maximize.draw(own, 3, seeds=1, steps=2)
    plt.close("all")
    assert name == "maximize_classes" and numbers["images"].shape == (3, 1, 28, 28, 1)
    assert figure.get_suptitle().count("\n") == 1 and " of " not in figure.get_suptitle()
