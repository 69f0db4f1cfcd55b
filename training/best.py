"""Keep the weights that were best on validation images, and know when to stop looking for better
ones (Prechelt 1998, "Early stopping - but when?")."""
import numpy as np

from system.command_line import InputError


class Best:
    """The best evaluation so far, of a run with --early-stopping or --weights best.

    step, accuracy: of the first evaluation that no later one surpassed; weights {name: array}.
    Raises InputError if there are no validation images to choose by.
    """

    def __init__(self, config, has_validation):
        self.patience = config.early_stopping
        self.is_wanted = bool(self.patience) or config.weights == "best"
        self.step, self.accuracy, self.weights = 0, -1.0, {}
        if self.is_wanted and not has_validation:
            raise InputError("--early-stopping and --weights best choose by validation images, of "
                             "which there are none; give --validation-split above 0")

    def observe(self, step, accuracy, weights):
        """Compare an evaluation with the best; weights: {name: variable}, copied if it is better.
        """
        if self.is_wanted and accuracy > self.accuracy:
            copied = {name: variable.numpy() for name, variable in weights.items()}
            self.step, self.accuracy, self.weights = step, accuracy, copied  # a signal may come

    def is_over(self, step, evaluations):
        """Return whether the last --early-stopping of `evaluations` (steps), up to `step`, brought
        nothing better."""
        return 0 < self.patience <= sum(self.step < other <= step for other in evaluations)

    def state(self):
        """Return what a checkpoint needs of it, {name: array}."""
        if not self.is_wanted:
            return {}
        return {"best": np.array([self.step, self.accuracy]),
                **{f"best//{name}": array for name, array in self.weights.items()}}

    def restore(self, state):
        """Take out of a checkpoint's state {name: array} what state() put there."""
        if self.is_wanted:
            step, self.accuracy = state.pop("best").tolist()
            self.step = int(step)
            self.weights = {name.removeprefix("best//"): state.pop(name)
                            for name in list(state) if name.startswith("best//")}
