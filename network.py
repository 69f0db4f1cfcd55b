"""A trained network, read back from its run's folder."""
import dataclasses
import pathlib

import cifar_lenet5
import graph
import mnist_rnn
import runs
import utils
from preprocessing import prepare

EXPERIMENTS = {"cifar_lenet5": (cifar_lenet5, utils.load_images),
               "mnist_rnn": (mnist_rnn, utils.load_digits)}


@dataclasses.dataclass(frozen=True)
class Network:
    """A run's network as it was last saved, in float32, and the images it was made for."""
    name: str
    folder: pathlib.Path
    config: object
    build_model: object  # of its script
    model: object
    data: utils.Images
    mean: float
    std: float

    def inputs(self, images):
        """uint8 images -> network input (n, height, width, channels)."""
        return prepare(images, self.mean, self.std).numpy()

    @property
    def stages(self):
        """{name: Keras tensor} of the activations, convolutional or dense, in their order."""
        return graph.stages(self.model)

    @property
    def layers(self):
        """Names of those that give feature maps."""
        return [name for name, x in self.stages.items() if len(x.shape) == 4]


def load_network(folder, data_dir):
    """The Network of a run's folder; InputError if it has none, or its data is not there."""
    folder = pathlib.Path(folder)
    config = runs.read_json(folder / "config.json")
    script = folder.resolve().parent.name
    if script not in EXPERIMENTS:
        raise runs.InputError(f"{folder} does not lie in a folder named after a script "
                              f"({', '.join(EXPERIMENTS)})")
    experiment, load = EXPERIMENTS[script]
    try:
        options = experiment.Config(**{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in config["options"].items()})
        for field in dataclasses.fields(options):
            if type(getattr(options, field.name)) is not type(field.default):
                raise TypeError(f"{field.name} = {getattr(options, field.name)!r}")
        about = config["data"]
        mean, std, checksum = float(about["mean"]), float(about["std"]), about["checksum"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise runs.InputError(f"{folder}/config.json is not a {script} run's: {error}") from error
    data = utils.restrict(load(options.data, data_dir), options.classes, options.grey)
    if data.checksum != checksum:
        raise runs.InputError(f"{folder} was trained on other data ({about.get('title')}) than is "
                              f"found now ({data.title}); set --data-dir")
    model = cifar_lenet5.make_model(
        experiment.build_model, data.train_images.shape[1:], len(data.classes),
        dataclasses.replace(options, precision="float32"))
    if "network" in config:
        runs.compare(f"{folder} was trained with another build_model: in", config["network"],
                     graph.describe(model), "undo the change, or train again")
    files = runs.checkpoints(folder)
    if not files:
        raise runs.NoCheckpoint(f"{folder} has no checkpoint; train it first")
    set_weights(model, runs.load_arrays(files[-1]))
    return Network(folder.name, folder, options, experiment.build_model, model, data, mean, std)


def set_weights(model, arrays):
    """Give a model the weights of a checkpoint or snapshot {path: array}."""
    variables = graph.name_weights(model.weights)
    graph.assign(variables, {name: array for name, array in arrays.items() if name in variables},
                 "the checkpoint")
