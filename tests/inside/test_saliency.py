"""Each attribution method by hand, against calculus, against the deconvnet, and against captum."""
import functools
import importlib.util
import itertools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import lacking
from small_networks import L, network_of

from inside import saliency
from inside.deconvnet import project
from inside.occlusion import occlusion
from inside.saliency import METHODS, importance, pull_back
from system.command_line import NotDrawn
from training import graph

SIZE = 12, 14


def noise(count, *shape, seed=1):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


@functools.cache  # and so are the graphs that inside.saliency makes of it
def small(fused=False, leaky=0.0, channels=2, classes=3):
    """conv-pool-relu-dense-relu-dense; fused: conv-relu-pool, activations a part of layers."""
    keras.utils.set_random_seed(0)
    activation = "relu" if fused else None
    x = images = keras.Input((*SIZE, channels))
    x = L.Conv2D(4, 3, padding="same", activation=activation, name="conv1")(x)
    x = L.MaxPooling2D(2, name="pool1")(x)
    x = x if fused else L.ReLU(negative_slope=leaky, name="relu1")(x)
    x = L.Conv2D(5, 3, activation=activation, name="conv2")(x)
    x = x if fused else L.ReLU(negative_slope=leaky, name="relu2")(x)
    x = L.Dense(16, activation=activation, name="hidden")(L.Flatten(name="flatten")(x))
    x = x if fused else L.ReLU(negative_slope=leaky, name="relu_hidden")(x)
    model = keras.Model(images, L.Dense(classes, name="logits")(x))
    rng = np.random.default_rng(0)
    model.set_weights([2 * w if w.ndim > 1 else rng.normal(0, 0.3, w.shape)
                       for w in model.get_weights()])
    return model


@functools.cache
def residual():
    """relu(conv(x)) + x, then relu: the last feature maps are beside what goes on."""
    keras.utils.set_random_seed(0)
    images = keras.Input((*SIZE, 2))
    x = L.ReLU(name="relu1")(L.Conv2D(4, 3, padding="same", name="conv1")(images))
    x = L.Add(name="sum")([x, L.ReLU(name="relu2")(L.Conv2D(4, 3, padding="same", name="conv2")(x))
                           ])
    return keras.Model(images, L.Dense(3, name="logits")(L.GlobalAveragePooling2D()(x)))


def network(model, grey=128):
    """A Network whose training pixels are all of one grey, 0.502 as network input."""
    pixels = np.full((4, *model.input.shape[1:]), grey)
    return network_of(model, pixels, [0, 1, 2, 0])


MODELS = {"separate": small, "fused": functools.partial(small, fused=True),
          "leaky": functools.partial(small, leaky=0.2), "residual": residual}


def each(*kinds):
    """Try these of MODELS, all but the first slowly."""
    return pytest.mark.parametrize("kind", [
        kinds[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in kinds[1:])])


def calculus(model, images, classes):
    """Gradient of each image's own logit."""
    x = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = model(x, training=False)
        own = sum(logits[i, c] for i, c in enumerate(classes))
    return tape.gradient(own, x).numpy()


@each(*MODELS)
def test_gradient_is_that_of_calculus(kind):
    model = MODELS[kind]()
    images, classes = noise(3, *SIZE, 2), np.array([2, 0, 1])
    expected = calculus(model, images, classes)
    np.testing.assert_allclose(saliency.gradient(network(model), images, classes), expected,
                               atol=1e-6)
    np.testing.assert_allclose(saliency.gradient_times_input(network(model), images, classes),
                               expected * images, atol=1e-6)


@tf.custom_gradient
def guided_relu(x):
    return tf.nn.relu(x), lambda dy: tf.nn.relu(dy) * tf.cast(x > 0, tf.float32)


@tf.custom_gradient
def deconvnet_relu(x):
    return tf.nn.relu(x), tf.nn.relu


@each("separate", "fused", "residual")
@pytest.mark.parametrize("rule, relu", [("guided", guided_relu), ("deconvnet", deconvnet_relu)])
def test_rules_equal_a_network_with_that_rectifier(kind, rule, relu):
    """The same network built anew with a rectifier of another gradient; its forward pass is the
    same, and the network that was asked still has its own activations."""
    model = MODELS[kind]()
    images, classes = noise(3, *SIZE, 2), np.array([2, 0, 1])
    before = graph.describe(model)
    found = pull_back(model, images, classes, rule)

    def changed(layer):
        if isinstance(layer, L.ReLU):
            return L.Activation(relu, name=layer.name)
        if getattr(layer, "activation", keras.activations.linear) is keras.activations.relu:
            return type(layer).from_config(layer.get_config() | {"activation": relu})
        return layer.__class__.from_config(layer.get_config())
    other = keras.models.clone_model(model, clone_function=changed)
    other.set_weights(model.get_weights())
    np.testing.assert_allclose(other(images), model(images), atol=1e-6)
    expected = calculus(other, images, classes)
    assert np.abs(found - calculus(model, images, classes)).max() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert graph.describe(model) == before


@each("separate", "fused", "leaky")
def test_deconvnet_is_the_projection_of_the_logit(kind):
    """inside.deconvnet.project from a seed of 1 at the class and 0 at the others."""
    model = MODELS[kind]()
    images, classes = noise(3, *SIZE, 2), np.array([2, 0, 1])
    expected = project(model, "logits", images, np.eye(3, dtype=np.float32)[classes])
    np.testing.assert_allclose(saliency.deconvnet(network(model), images, classes), expected,
                               atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("kind", [L.SeparableConv2D, L.Conv2DTranspose])
def test_rectifiers_within_other_layers(kind):
    """Whatever the layer calls its kernels, a rectifier in it is as one after it."""
    keras.utils.set_random_seed(0)
    images = keras.Input((6, 6, 2))
    head = L.Dense(3, name="logits")
    fused = keras.Model(images, head(L.Flatten()(kind(4, 3, activation="relu", name="a")(images))))
    apart = keras.Model(images, head(L.Flatten()(L.ReLU()(kind(4, 3, name="a")(images)))))
    apart.set_weights(fused.get_weights())
    x = noise(2, 6, 6, 2)
    for rule in ("guided", "deconvnet"):
        np.testing.assert_allclose(pull_back(fused, x, np.array([0, 2]), rule),
                                   pull_back(apart, x, np.array([0, 2]), rule), atol=1e-6)


def two_units(slope=0.0):
    """Pixels (a, b) -> relu(a - b), relu(b - a) -> logits of (1, -2) and (-1, 3)."""
    images = keras.Input((1, 2, 1))
    x = L.Dense(2, use_bias=False, name="hidden")(L.Flatten()(images))
    logits = L.Dense(2, use_bias=False, name="logits")(L.ReLU(negative_slope=slope)(x))
    model = keras.Model(images, logits)
    model.set_weights([np.float32([[1, -1], [-1, 1]]), np.float32([[1, -1], [-2, 3]])])
    return model


@pytest.mark.parametrize("slope, rule, expected", [
    # at (3, 1) the first unit is on; of class 0 come back 1 and -2, of class 1 come back -1 and 3
    (0.0, "gradient", [[1, -1], [-1, 1]]), (0.0, "guided", [[1, -1], [0, 0]]),
    (0.0, "deconvnet", [[1, -1], [-3, 3]]), (0.5, "gradient", [[2, -2], [-2.5, 2.5]]),
    (0.5, "guided", [[1, -1], [-1.5, 1.5]]), (0.5, "deconvnet", [[1, -1], [-3, 3]])])
def test_rules_by_hand(slope, rule, expected):
    image = np.float32([3, 1]).reshape(1, 1, 2, 1).repeat(2, 0)
    found = pull_back(two_units(slope), image, np.array([0, 1]), rule)
    np.testing.assert_allclose(found.reshape(2, 2), expected, atol=1e-6)


def test_a_rectifier_may_be_called_by_keyword():
    images = keras.Input((1, 2, 1))
    model = keras.Model(images, L.Flatten()(L.ReLU()(inputs=images)))
    ones = np.float32([3, -1]).reshape(1, 1, 2, 1)
    for rule in saliency.RULES:
        assert pull_back(model, ones, np.array([0]), rule).ravel().tolist() == [1, 0]


def test_integrated_gradients_by_hand():
    """From 0 to (3, 1) the first unit is on: (3, -1), the logit. From 1 / 2: (2.5, -0.5)."""
    image, own = np.float32([3, 1]).reshape(1, 1, 2, 1), network_of(two_units(), np.full(
        (2, 1, 2, 1), 255), [0, 1])
    for baseline, expected in ((0.0, [3, -1]), (0.5, [2.5, -0.5]), (None, [2, 0])):
        found = saliency.integrated_gradients(own, image, np.array([0]), baseline=baseline)
        np.testing.assert_allclose(found.ravel(), expected, atol=1e-6)


@each("separate", "leaky", "residual")
def test_integrated_gradients_are_complete(kind):
    """They sum to the logit less that of the grey image, within 1 % of the largest difference."""
    model = MODELS[kind]()
    own, images, classes = network(model), noise(8, *SIZE, 2), np.arange(8) % 3
    found = saliency.integrated_gradients(own, images, classes, steps=300).sum((1, 2, 3))
    grey = np.full_like(images, own.grey)
    difference = (model(images).numpy() - model(grey).numpy())[np.arange(8), classes]
    assert np.abs(difference).max() > 0.3
    np.testing.assert_allclose(found, difference, atol=0.01 * np.abs(difference).max())


@pytest.mark.parametrize("rule", saliency.RULES)
def test_of_a_linear_network_all_are_its_weights(rule):
    images = keras.Input((*SIZE, 2))
    model = keras.Model(images, L.Dense(3, name="logits")(L.Flatten()(images)))
    inputs, classes = noise(2, *SIZE, 2), np.array([2, 0])
    weights = model.get_weights()[0].T.reshape(3, *SIZE, 2)[classes]
    np.testing.assert_allclose(pull_back(model, inputs, classes, rule), weights, atol=1e-6)
    own = network(model)
    np.testing.assert_allclose(saliency.smoothgrad(own, inputs, classes, samples=3), weights,
                               atol=1e-6)
    np.testing.assert_allclose(saliency.integrated_gradients(own, inputs, classes, steps=2),
                               weights * (inputs - own.grey), atol=1e-5)


def test_smoothgrad_is_the_mean_of_gradients_at_noisy_images():
    """Noise of 0.15 of each image's own range; the same each time; without noise the gradient."""
    model, images, classes = small(), noise(2, *SIZE, 2), np.array([1, 2])
    images[1] *= 10
    own, seen = network(model), []

    def remember(network, inputs, classes):
        seen.append(inputs)
        return np.zeros_like(inputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saliency, "gradient", remember)
        saliency.smoothgrad(own, images, classes, samples=50)
    spread = (np.stack(seen) - images).std((0, 2, 3, 4))
    np.testing.assert_allclose(spread, 0.15 * np.ptp(images, axis=(1, 2, 3)), rtol=0.02)
    found = saliency.smoothgrad(own, images, classes, samples=50)
    expected = np.mean([saliency.gradient(own, x, classes) for x in seen], 0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(saliency.smoothgrad(own, images, classes, noise=0),
                               saliency.gradient(own, images, classes), atol=1e-6)


def test_grad_cam_by_hand():
    """Two 2x2 maps of 1x1 kernels; the logit is 3 times the total of one, less the other's."""
    images = keras.Input((2, 2, 1))
    maps = L.Conv2D(2, 1, activation="relu", use_bias=False, name="conv")(images)
    model = keras.Model(images, L.Dense(2, use_bias=False, name="logits")(L.Flatten()(maps)))
    model.set_weights([np.float32([[[[1, 2]]]]), np.float32([[3, -3], [-1, 1]] * 4)])
    image = np.float32([[1, 2], [-1, 4]]).reshape(1, 2, 2, 1)
    found = saliency.grad_cam(network_of(model, image, [0]), image.repeat(2, 0), np.array([0, 1]))
    assert found.shape == (2, 2, 2, 1)
    # maps (1, 2, 0, 4) and twice that, weights 3 and -1: the sum is 1 time that; or less than 0
    np.testing.assert_allclose(found[0, ..., 0], [[1, 2], [0, 4]], atol=1e-6)
    np.testing.assert_allclose(found[1], 0, atol=1e-6)


def test_grad_cam_of_maps_beside_the_sum():
    """The last maps need not be all that the logits depend on: by hand, as they are averaged."""
    model, images, classes = residual(), noise(2, *SIZE, 2), np.array([1, 2])
    found = saliency.grad_cam(network(model), images, classes)
    maps = keras.Model(model.input, model.get_layer("relu2").output)(images).numpy()
    head = model.get_layer("logits").get_weights()[0].T[classes]
    expected = np.maximum((maps * head[:, None, None] / np.prod(SIZE)).sum(-1), 0)
    np.testing.assert_allclose(found[..., 0], expected, atol=1e-6)


def middle_detector(size):
    """A network whose first class is evidence in the 2x2 pixels right and below of the middle."""
    images = keras.Input((*size, 1))
    x = L.Conv2D(1, 1, activation="relu", use_bias=False, name="conv")(images)
    model = keras.Model(images, L.Dense(2, use_bias=False, name="logits")(L.Flatten()(x)))
    head = np.zeros((*size, 2), np.float32)
    head[size[0] // 2:size[0] // 2 + 2, size[1] // 2:size[1] // 2 + 2, 0] = 1
    model.set_weights([np.ones((1, 1, 1, 1), np.float32), head.reshape(-1, 2)])
    return model


def test_occlusion_by_hand():
    """Squares of 5 of 18 pixels, centred 3 apart and at the last pixel; between them linear."""
    model, image = middle_detector((18, 18)), np.ones((1, 18, 18, 1), np.float32)
    found = saliency.hide_squares(network_of(model, np.zeros((2, 18, 18, 1)), [0, 1]), image,
                                  np.array([0]))[0, ..., 0]
    places = [*range(0, 18, 3), 17]
    hidden = np.repeat(image, len(places) ** 2, 0)
    for k, (row, column) in enumerate(itertools.product(places, places)):
        hidden[k, max(row - 2, 0):row + 3, max(column - 2, 0):column + 3] = 0
    whole, *others = tf.nn.softmax(model(np.concatenate([image, hidden]))).numpy()[:, 0]
    expected = (whole - others).reshape(7, 7)
    assert (expected > 0.01).sum() >= 4
    np.testing.assert_allclose(found[np.ix_(places, places)], expected, atol=1e-6)
    np.testing.assert_allclose(found[4, places], expected[1] * 2 / 3 + expected[2] / 3, atol=1e-6)


@pytest.mark.parametrize("size", [(14, 14), (28, 28), (32, 20)])
def test_occlusion_is_where_the_evidence_is(size):
    """The middle of the probability lost is the middle of the evidence, to half a pixel or so."""
    own = network_of(middle_detector(size), np.zeros((2, *size, 1)), [0, 1])
    found = saliency.hide_squares(own, np.ones((1, *size, 1), np.float32), np.array([0]))[0]
    middle = [float((found[..., 0] * x).sum() / found.sum()) for x in np.indices(size)]
    assert middle == pytest.approx([size[0] // 2 + 0.5, size[1] // 2 + 0.5], abs=0.6)


@pytest.mark.parametrize("method", ["integrated gradients", "Grad-CAM", "occlusion"])
def test_images_together_or_alone(method):
    """A map is a function of its own image and class."""
    own, images, classes = network(small()), noise(3, *SIZE, 2), np.array([0, 1, 2])
    together = METHODS[method](own, images, classes)
    assert together.shape == (3, *SIZE, 2 if method == "integrated gradients" else 1)
    np.testing.assert_allclose(METHODS[method](own, images[1:2], classes[1:2])[0], together[1],
                               atol=1e-6)


def test_importance_by_hand():
    assert importance(np.array([[[[1, -2], [0, 0]]]])).tolist() == [[[3, 0]]]


def test_what_has_no_rule_is_refused():
    inner = keras.Sequential([L.Conv2D(2, 3), L.ReLU()], name="inner")
    images = keras.Input((*SIZE, 2))
    model = keras.Model(images, L.Dense(2)(L.Flatten()(inner(images))))
    x, classes = noise(1, *SIZE, 2), np.array([0])
    with pytest.raises(NotDrawn, match="inner is a network within"):
        pull_back(model, x, classes, "guided")
    assert pull_back(model, x, classes).shape == x.shape
    with pytest.raises(ValueError, match="no rule 'nothing'"):
        pull_back(model, x, classes, "nothing")


def test_many_images_in_parts(monkeypatch):
    model, images = small(), noise(7, *SIZE, 2)
    classes = np.arange(7) % 3
    whole = [f(network(model), images, classes) for f in (saliency.gradient, saliency.grad_cam)]
    monkeypatch.setattr(saliency, "images_at_a_time", lambda model, most: 30)
    for function, expected in zip((saliency.gradient, saliency.grad_cam), whole):
        np.testing.assert_allclose(function(network(model), images, classes), expected, atol=1e-6)
    sizes = []  # an eighth of what a forward pass takes, for the way back and for two at once
    saliency._part_by_part(lambda x, c: sizes.append(len(x)) or x, model, images, classes)
    assert sizes == [3, 3, 1]


# ------------------------------------------------------------------------------------- captum

@pytest.fixture(scope="module")
def both():
    """The small network here and in PyTorch, images for both, classes; captum."""
    if not importlib.util.find_spec("captum"):
        lacking("needs captum, of benchmarks/requirements.txt")
    import captum.attr
    import torch
    model = small()
    w = [torch.tensor(x) for x in model.get_weights()]
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 5, 3)
            self.pool = nn.MaxPool2d(2)
            self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
            self.hidden, self.logits = nn.Linear(w[4].shape[0], 16), nn.Linear(16, 3)

        def forward(self, x):
            x = self.relu2(self.conv2(self.relu1(self.pool(self.conv1(x)))))
            return self.logits(self.relu3(self.hidden(x.permute(0, 2, 3, 1).flatten(1))))
    net = Net().eval()
    with torch.no_grad():
        for layer, kernel, bias in zip((net.conv1, net.conv2, net.hidden, net.logits),
                                       w[::2], w[1::2]):
            layer.weight.copy_(kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T)
            layer.bias.copy_(bias)
    images, classes = noise(4, *SIZE, 2), np.array([0, 2, 1, 1])

    def tensor(x):
        return torch.tensor(np.float32(x)).permute(0, 3, 1, 2)
    with torch.no_grad():
        np.testing.assert_allclose(net(tensor(images)), model(images), atol=1e-5)
    return types.SimpleNamespace(
        network=network(model), net=net, images=images, classes=classes, torch=torch,
        attr=captum.attr, x=tensor(images), tensor=tensor, target=torch.tensor(classes))


def captum_maps(both, method):
    """The maps that captum makes, laid out as here."""
    attr, target, net, x = both.attr, both.target, both.net, both.x.clone().requires_grad_()
    grey = both.network.grey
    if method == "SmoothGrad":
        spread = 0.15 * np.ptp(both.images, axis=(1, 2, 3), keepdims=True)
        rng, found = np.random.default_rng(0), []
        for _ in range(20):
            noisy = both.tensor(both.images + spread * rng.standard_normal(both.images.shape))
            found.append(attr.Saliency(net).attribute(noisy.requires_grad_(), target, abs=False))
        maps = sum(found) / 20
    elif method == "Grad-CAM":
        small = attr.LayerGradCam(net, net.relu2).attribute(x, target, relu_attributions=True)
        maps = both.torch.nn.functional.interpolate(small, SIZE, mode="bilinear",
                                                    align_corners=False)
    elif method == "integrated gradients":
        maps = attr.IntegratedGradients(net).attribute(
            x, both.torch.full_like(x, grey), target, n_steps=20, method="riemann_middle")
    else:
        maps = {"gradient": lambda: attr.Saliency(net).attribute(x, target, abs=False),
                "gradient x input": lambda: attr.InputXGradient(net).attribute(x, target),
                "guided backprop": lambda: attr.GuidedBackprop(net).attribute(x, target),
                "deconvnet": lambda: attr.Deconvolution(net).attribute(x, target)}[method]()
    return maps.detach().permute(0, 2, 3, 1).numpy()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # that captum sets hooks
@pytest.mark.parametrize("method", [name for name in METHODS if name != "occlusion"])
def test_equals_captum(both, method):
    expected = captum_maps(both, method)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(METHODS[method](both.network, both.images, both.classes), expected,
                               atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.slow
def test_occlusion_equals_captum(both):
    """captum hides a square of 3 at every second pixel and gives each pixel the mean of what the
    squares over it cost; the same is made of our squares at every pixel."""
    found = occlusion(both.network.model, "relu2", both.images, both.classes, 3, 1,
                      both.network.grey)["probability"]

    def probability(x):
        return both.torch.softmax(both.net(x), 1)
    with both.torch.no_grad():
        whole = probability(both.x).numpy()[np.arange(4), both.classes]
        expected = both.attr.Occlusion(probability).attribute(
            both.x, (2, 3, 3), (2, 2, 2), both.network.grey, both.target)
    total, count = np.zeros((2, 4, *SIZE))
    for i, j in itertools.product(range(1, SIZE[0], 2), range(1, SIZE[1], 2)):
        own = ..., slice(i - 1, i + 2), slice(j - 1, j + 2)
        total[own] += (whole - found[:, i, j])[:, None, None]
        count[own] += 1
    np.testing.assert_allclose(total / count, expected[:, 0].numpy(), atol=1e-5)


class AddsWhatItRectifies(L.Conv2D):
    """x + relu(conv(x)), which relu(x + conv(x)) is not."""

    def call(self, x):
        return x + self.activation(keras.ops.conv(x, self.kernel, padding="same"))


def test_a_layer_of_ones_own_keeps_its_rectifier_within():
    """Its gradient is calculus's; what another rule does inside it is not known."""
    images = keras.Input((4, 4, 1))
    own = AddsWhatItRectifies(1, 1, use_bias=False, activation="relu", kernel_initializer=
                              keras.initializers.Constant(-2.0))
    model = keras.Model(images, L.Flatten()(own(images)))
    ones, classes = np.ones((1, 4, 4, 1), np.float32), np.array([5])
    assert saliency.pull_back(model, ones, classes).sum() == 1
    with pytest.raises(NotDrawn, match="layer of one's own"):
        saliency.pull_back(model, ones, classes, "guided")


@pytest.mark.slow
def test_hidden_squares_equal_captum(both):
    """At their centres: captum hides squares of 3 that do not overlap, begun at every pixel of the
    first 3x3, by as many pixels before the image that the network does not see."""
    torch, found = both.torch, saliency.hide_squares(both.network, both.images, both.classes)
    rows, columns = [0, 2, 4, 6, 8, 10, 11], [0, 2, 4, 6, 8, 10, 12, 13]
    lost = np.empty((4, *SIZE))
    for top, left in itertools.product(range(3), range(3)):
        with torch.no_grad():
            maps = both.attr.Occlusion(
                lambda x, top=top, left=left: torch.softmax(both.net(x[..., top:, left:]), 1)
            ).attribute(torch.nn.functional.pad(both.x, (left, 0, top, 0)), (2, 3, 3), (2, 3, 3),
                        both.network.grey, both.target)[:, 0, top:, left:].numpy()
        first = (1 - top) % 3, (1 - left) % 3  # the centres of these squares
        lost[:, first[0]::3, first[1]::3] = maps[:, first[0]::3, first[1]::3]
    assert np.abs(lost).max() > 0.01
    np.testing.assert_allclose(found[:, rows][:, :, columns, 0], lost[:, rows][:, :, columns],
                               atol=1e-5)
