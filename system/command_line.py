"""Turn an experiment's options, a frozen dataclass, into command-line flags, and errors into one
line and an exit status.

A script ends with exit status 0, 2 (bad input: one line on stderr), 3 (the loss stopped being
finite), or 130 / 143 (Ctrl-C / SIGTERM, after saving a checkpoint).
"""
import argparse
import dataclasses
import functools
import importlib.util
import logging
import os
import pathlib
import re
import signal
import sys
import unicodedata

for _stream in (sys.stdout, sys.stderr):
    if hasattr(_stream, "reconfigure"):  # what a locale has no letter for is written out: "\\xb1"
        _stream.reconfigure(errors="backslashreplace")
logging.getLogger("matplotlib").setLevel("ERROR")  # else it tells where it keeps its fonts' cache


def in_one_line(text):
    """Return text with what would end its line, move the cursor or not be printed written out, as
    names of files may have it: "a\\nb"."""
    return "".join(repr(c)[1:-1] if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c
                   for c in text)


class InputError(Exception):
    """Something the user gave cannot be used; the message says what and what to do, in one line."""

    def __str__(self):
        return in_one_line(super().__str__())


class NotDrawn(InputError):
    """A figure that this network or this log does not allow; the message says why."""


class Diverged(Exception):
    """The loss is no longer finite."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the script to stop; args are a message, which says what is kept, and its
    number."""


def first_line(error):
    """Return the first line of an exception's message, or its type if it has none."""
    return (str(getattr(error, "reason", error)).splitlines() or [""])[0] or type(error).__name__


def main(function, *arguments):
    """Call a script's function; turn what can go wrong, and Ctrl-C or SIGTERM, into one line and an
    exit status."""
    def stop(number, _):
        raise Interrupted("stopped; what was finished before is kept", number)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        return function(*arguments) or 0
    except InputError as error:
        return _say(error, 2)
    except Diverged as error:
        return _say(error, 3)
    except Interrupted as error:
        return _say(error.args[0], 128 + error.args[1])
    except OSError as error:
        return _say(f"{error.filename or 'writing'}: {error.strerror or error}", 2)


def _say(message, status):
    print(f"{pathlib.Path(sys.argv[0]).name}: {message}", file=sys.stderr, flush=True)
    return status


def import_script(name):
    """Import a script by its path or name, looked for here and beside the others."""
    here, beside = pathlib.Path.cwd(), pathlib.Path(__file__).resolve().parent.parent
    name = name if name.endswith(".py") else f"{name}.py"
    for path in (here / name, beside / name):
        if path.is_file():
            break
    else:
        raise InputError(f"{name}: no such script, here or in {beside}")
    module = sys.modules.get(path.stem)
    if module is None:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    elif pathlib.Path(getattr(module, "__file__", None) or "").resolve() != path.resolve():
        raise InputError(f"{path}: another module is called {path.stem}; rename the script")
    return module


def exit_on_signals():
    """Let Ctrl-C and SIGTERM end the process at once, while there is nothing to save yet."""
    stderr = os.dup(2)  # which the import of TensorFlow hides

    def leave(number, _):
        name = pathlib.Path(sys.argv[0]).name
        os.write(stderr, f"{name}: stopped before anything was begun\n".encode())
        os._exit(128 + number)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)


# ------------------------------------------------------------------------------------ options

def check_values(config):
    """Raise TypeError if a Config holds what its command line would not take."""
    for own in options_of(type(config)):
        value = getattr(config, own.name)
        values, kind = (value, type(own.default[0])) if isinstance(own.default, tuple) else (
            (value,), type(own.default))
        if type(value) is not type(own.default) or not all(
                type(one) is kind and (not own.choices or one in own.choices)
                and not is_huge(one) and (own.low is None or one >= own.low)
                and (own.high is None or one <= own.high) for one in values):
            raise TypeError(f"{own.name} = {value!r}")


def option(default, help, choices=None, low=None, high=None, names_run=True, clears=None,
           positional=False, off=None, needs=None):
    """Declare a field of a Config: its default, meaning and allowed values (bounds inclusive).

    `names_run` is False where the option says where or how to work, not what is computed; `clears`
    names one that becomes 0 when this is given, so that both cannot be; `positional` ones have no
    flag; `off` is the flag of False in place of --no-name; `needs`: (another option, its values
    with which this one counts), else it is refused. A class derived from a Config gives an option
    another default by `name: type = default`.
    """
    return dataclasses.field(default=default, metadata=dict(
        help=help, choices=choices, low=low, high=high, names_run=names_run, clears=clears,
        positional=positional, off=off, needs=needs))


@dataclasses.dataclass(frozen=True)
class Option:
    """A field of a Config: `group` is the first sentence of the class that declares it."""
    name: str
    default: object
    group: str
    help: str
    choices: tuple
    low: float
    high: float
    names_run: bool
    clears: str
    positional: bool
    off: str
    needs: tuple

    @property
    def flag(self):
        return "--" + self.name.replace("_", "-")


@functools.cache
def options_of(config_class):
    """Return the Options of a Config class, in their order."""
    found = []
    for field in dataclasses.fields(config_class):
        owners = [c for c in config_class.__mro__ if field.name in c.__dict__.get(
            "__dataclass_fields__", {}) and c.__dataclass_fields__[field.name].metadata]
        if not owners:
            raise InputError(f"{config_class.__name__}.{field.name}: declare it as {field.name}: "
                             f"{getattr(field.type, '__name__', field.type)} = option(default, "
                             "help)")
        declared = owners[0].__dataclass_fields__[field.name].metadata
        owner = [c for c in owners if field.name in c.__dict__.get("__annotations__", {})][-1]
        group = (owner.__doc__ or owner.__name__).split(".")[0]
        found.append(Option(field.name, field.default, group, **declared))
    return found


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, and which takes _ for - in flags and -1e-3 for a
    number."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._negative_number_matcher = re.compile(r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$", re.I)

    def error(self, message):
        self.exit(2, in_one_line(f"{self.prog}: {message}; see --help") + "\n")

    def parse_known_args(self, args=None, namespace=None):
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args([_with_hyphens(word) for word in words], namespace)


def _with_hyphens(word):
    flag, equals, value = word.partition("=")
    is_flag = re.fullmatch(r"--[a-z][a-z0-9_-]*", flag)
    return (flag.replace("_", "-") if is_flag else flag) + equals + value


def is_huge(value):
    """Return whether a whole number is beyond what TensorFlow computes with."""
    return isinstance(value, int) and abs(value) >= 1 << 63


def converter(default, low=None, high=None):
    """Return a function: text -> value of the type of `default` within the bounds.

    Its ArgumentTypeError says what is allowed.
    """
    kind = type(default[0]) if isinstance(default, tuple) else type(default)

    def convert(text):
        allowed = {int: "a whole number", float: "a number"}.get(kind, "text")
        if low is not None or high is not None:
            allowed += "".join(f" {word} {bound:g}" for word, bound in
                               (("of at least", low), ("up to", high)) if bound is not None)
        try:
            value = kind(text)
        except ValueError:
            value = None
        if is_huge(value):
            allowed += " of at most 18 digits"
        if value is None or is_huge(value) or (low is not None and not value >= low) or (
                high is not None and not value <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not {allowed}")
        return value
    return convert


def add_option(parser, own, help):
    """Add an Option to a parser or group; the default stays out of the result."""
    if own.positional:
        parser.add_argument(own.name, help=help)
        return
    how = dict(help=help.replace("%", "%%"))
    if own.off:
        how["action"] = "store_true"
        parser.add_argument(f"--{own.off}", f"--no-{own.flag[2:]}", action="store_false",
                            dest=own.name, help=f"not {own.flag}")
    elif isinstance(own.default, bool):
        how["action"] = argparse.BooleanOptionalAction
    else:
        how.update(type=converter(own.default, own.low, own.high), metavar=own.name.upper(),
                   choices=own.choices)
        if isinstance(own.default, tuple):
            how["nargs"] = "+"
    parser.add_argument(own.flag, **how)


def parse(config_class, recipes, argv=None):
    """Return the Config that a command line asks for; bad options exit 2 with one line.

    Flags are the dataclass's fields, in groups; `recipes` {name: {field: value}} are named sets of
    defaults, of which any single flag overrides a value. A recipe "best rnn" adds to "best" where
    an option with choices is "rnn". The run's name is config_class.NAME, a format string, and every
    other option that was given.
    """
    if argv is None:
        exit_on_signals()
    module = sys.modules[config_class.__module__]
    parser = Parser(prog=pathlib.Path(getattr(module, "__file__", sys.argv[0])).name,
                    description=module.__doc__, allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter,
                    argument_default=argparse.SUPPRESS)
    try:
        options, groups = options_of(config_class), {}
    except InputError as error:
        parser.error(str(error))
    for own in options:
        if not own.positional and own.group not in groups:
            groups[own.group] = parser.add_argument_group(own.group.lower())
        add_option(parser if own.positional else groups[own.group], own, _help(own, recipes))
    given = {name: tuple(value) if isinstance(value, list) else value
             for name, value in vars(parser.parse_args(argv)).items()}
    base = config_class()
    recipe = given.get("recipe", getattr(base, "recipe", ""))
    if recipes and recipe not in _names(recipes):
        parser.error(f"argument --recipe: {recipe!r} is none of {', '.join(_names(recipes))}")
    base = _with_recipe(base, recipe, recipes, parser)
    for value in [given.get(own.name, getattr(base, own.name)) for own in options if own.choices]:
        base = _with_recipe(base, f"{recipe} {value}", recipes, parser)
    if hasattr(base, "fitting_data"):
        base = dataclasses.replace(base, **dataclasses.replace(base, **given).fitting_data())
    both = [own.flag for own in options if own.clears and given.get(own.name)
            and given.get(own.clears)]
    if both:
        parser.error(f"{' and '.join(both)} cannot both be given; leave one of them out")
    cleared = {own.clears for own in options if own.name in given and own.clears}
    zeros = {own.name: type(own.default)(0) for own in options if own.name in cleared}
    config = dataclasses.replace(base, **{**zeros, **given})
    for own in [own for own in options if own.needs and own.name in given]:
        (other, counts), usual = own.needs, getattr(base, own.name)
        if getattr(config, other) not in counts and given[own.name] != usual:
            parser.error(f"{own.flag} changes nothing with {other.replace('_', '-')} "
                         f"{getattr(config, other)}, only with {' or '.join(counts)}")
    if not config.name:
        config = dataclasses.replace(config, name=_run_name(base, config, given))
    if not is_plain(config.name):
        parser.error(f"argument --name: {config.name!r} must be a plain folder name")
    if config.group and not is_plain(config.group):
        parser.error(f"argument --group: {config.group!r} must be a plain folder name")
    return config


def _with_recipe(base, name, recipes, parser):
    """Return a Config with the values of a recipe, if there is one of this name; exit 2 if they are
    none that its command line would take. A whole number may stand for one with a point."""
    values = {key: float(x) if type(x) is int and type(getattr(base, key, x)) is float else x
              for key, x in recipes.get(name, {}).items()}
    try:
        base = dataclasses.replace(base, **values)
        check_values(base)
    except TypeError as error:
        parser.error(f"recipe {name!r}: {error}")
    return base


def _names(recipes):
    """Return the names of recipes without those that only add to another."""
    return [name for name in recipes if " " not in name]


def _help(own, recipes):
    """Return an option's meaning, choices and defaults."""
    words = [own.help]
    choices = own.choices or (_names(recipes) if own.name == "recipe" else ())
    if choices:
        words.append("{" + ", ".join(choices) + "}")
    defaults = {name: values[own.name] for name, values in recipes.items() if own.name in values}
    said = [shown(own.default)] * (len(defaults) < len(recipes) or not recipes)
    said += [f"{name} {shown(value)}" for name, value in defaults.items()]
    words.append(f"(default: {'; '.join(said)})" if said != [""] else "")
    return words[0] if own.positional else " ".join(words)


def is_plain(name):
    """Return whether a name is that of a folder inside another: no path, not ".."."""
    return name not in ("", "..") and pathlib.PurePath(name).name == name


def as_text(value):
    """Return a value as on the command line, the parts of a tuple joined by commas."""
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def shown(value):
    """Return a default as --help shows it: of a number with a point four digits."""
    parts = value if isinstance(value, tuple) else (value,)
    return ",".join(f"{part:.4g}" if isinstance(part, float) else str(part) for part in parts)


def _run_name(base, config, given):
    """Fill in NAME and add every other given option that differs: "best-kernel-size=7"."""
    values = {name: pathlib.Path(value).name if isinstance(value, str) else value
              for name, value in vars(config).items()}
    words = [config.NAME.format_map(values)]
    for own in options_of(type(config)):
        value, flag = getattr(config, own.name), own.flag[2:]
        if (own.name not in given or not own.names_run or f"{{{own.name}}}" in config.NAME
                or value == getattr(base, own.name)):
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"no-{flag}")
        else:
            path = pathlib.Path(as_text(value))
            words.append(f"{flag}={path.stem if own.name == 'data' else path.name}")
    return "-".join(words).replace(os.sep, "_")
