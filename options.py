"""An experiment's options: a frozen dataclass becomes command-line flags, and a recipe their
defaults."""
import argparse
import dataclasses
import os
import pathlib
import signal
import sys


def option(default, help, choices=None, low=None, high=None, names_run=True, clears=None,
           positional=False):
    """A field of a Config: its default, its meaning, its allowed values (bounds are inclusive).

    `names_run` is False where the option says where or how to work, not what is computed; `clears`
    names an option that is 0 when this one is given; `positional` ones are given without a flag.
    """
    return dataclasses.field(default=default, metadata=dict(
        help=help, choices=choices, low=low, high=high, names_run=names_run, clears=clears,
        positional=positional))


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def _flag(field):
    return "--" + field.name.replace("_", "-")


def _converter(field):
    """Text -> value of the field's type within its bounds, with a message that says what is
    allowed."""
    kind = type(field.default[0]) if isinstance(field.default, tuple) else type(field.default)
    low, high = field.metadata["low"], field.metadata["high"]

    def convert(text):
        allowed = {int: "a whole number", float: "a number"}.get(kind, "text")
        if low is not None or high is not None:
            allowed += "".join(f" {word} {bound:g}" for word, bound in
                               (("of at least", low), ("up to", high)) if bound is not None)
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or (low is not None and not value >= low) or (
                high is not None and not value <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not {allowed}")
        return value
    return convert


def parse(config_class, recipes, argv=None):
    """Command line -> Config, nothing heavy imported. Bad options exit 2 with one line.

    Flags are the dataclass's fields; `recipes` {name: {field: value}} are named sets of defaults,
    of which any single flag overrides a value. A recipe "best rnn" adds to "best" where an option
    with choices is "rnn". The run's name is config_class.NAME, a format string, and every other
    option that was given.
    """
    if argv is None:  # a script starts; while there is nothing to save yet, a signal just ends it
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os._exit(128 + number))
    parser = Parser(description=sys.modules[config_class.__module__].__doc__, allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter,
                    argument_default=argparse.SUPPRESS)
    for field in dataclasses.fields(config_class):
        words, meta = [field.metadata["help"]], field.metadata
        if meta["positional"]:
            parser.add_argument(field.name, help=words[0])
            continue
        if meta["choices"]:
            words.append("{" + ", ".join(meta["choices"]) + "}")
        defaults = {name: values[field.name] for name, values in recipes.items()
                    if field.name in values}
        words.append("(default: " + "; ".join(
            [as_text(field.default)] * (len(defaults) < len(recipes))
            + [f"{name} {as_text(value)}" for name, value in defaults.items()]) + ")")
        how = dict(help=" ".join(words).replace("%", "%%"))
        if isinstance(field.default, bool):
            how["action"] = argparse.BooleanOptionalAction
        else:
            how.update(type=_converter(field), metavar=field.name.upper(), choices=meta["choices"])
            if isinstance(field.default, tuple):
                how["nargs"] = "+"
        parser.add_argument(_flag(field), **how)
    given = {name: tuple(value) if isinstance(value, list) else value
             for name, value in vars(parser.parse_args(argv)).items()}
    base = config_class()
    recipe = given.get("recipe", getattr(base, "recipe", ""))
    base = dataclasses.replace(base, **recipes.get(recipe, {}))
    fields = dataclasses.fields(config_class)
    chosen = [f.name for f in fields if f.metadata["choices"]]
    for value in [given.get(name, getattr(base, name)) for name in chosen]:
        base = dataclasses.replace(base, **recipes.get(f"{recipe} {value}", {}))
    other = {f.metadata["clears"] for f in fields if f.name in given and f.metadata["clears"]}
    cleared = {f.name: type(f.default)(0) for f in fields if f.name in other}
    config = dataclasses.replace(base, **{**cleared, **given})
    if not config.name:
        config = dataclasses.replace(config, name=_run_name(base, config, given))
    if not is_plain(config.name):
        parser.error(f"argument --name: {config.name!r} must be a plain folder name")
    return config


def is_plain(name):
    """Whether a name is that of a folder inside another: no path, not ".."."""
    return name not in ("", "..") and pathlib.PurePath(name).name == name


def as_text(value):
    """A value as on the command line, the parts of a tuple joined by commas."""
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def _run_name(base, config, given):
    """NAME filled in, and every other given option that differs: "best-kernel-size=7"."""
    values = {name: pathlib.Path(value).name if isinstance(value, str) else value
              for name, value in vars(config).items()}
    words = [config.NAME.format_map(values)]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if (field.name not in given or not field.metadata["names_run"]
                or f"{{{field.name}}}" in config.NAME or value == getattr(base, field.name)):
            continue
        flag = _flag(field)[2:]
        if isinstance(value, bool):
            words.append(flag if value else f"no-{flag}")
        else:
            text = pathlib.Path(value).stem if field.name == "data" else as_text(value)
            words.append(f"{flag}={text}")
    return "-".join(words).replace(os.sep, "_")
