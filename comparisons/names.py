"""Name runs by what they are, not by their folders: "best, kernel-size=7", "GRU 128, original"."""
import dataclasses
import pathlib
import re
from collections import Counter

from comparisons import stored
from sources.images import Reading
from system.command_line import InputError, as_text, options_of
from system.files import read_json
from training.config import Experiment

READING = ("data", *(own.name for own in dataclasses.fields(Reading)))
UNNAMED = {own.name for own in options_of(Experiment) if not own.names_run}


def options_in(folder):
    """Return the options of a run's config.json; {} of what is no run of ours."""
    try:
        options = read_json(folder / "config.json")["options"]
        texts = options["name"], options.get("data", ""), options.get("cell", "")
        return options if all(isinstance(text, str) for text in texts) else {}
    except (InputError, LookupError, TypeError):
        return {}


def check_alike(folders):
    """Raise InputError if runs that name one data set, read in one way, did not get the same
    images, or runs of one name and of equal options have other networks: changed meanwhile."""
    first = {}
    for folder in folders:
        own = options_in(folder)
        config = read_json(folder / "config.json") if own else {}
        data = config.get("data") if isinstance(config.get("data"), dict) else {}
        title, name = data.get("title"), folder.resolve().name.rpartition("-seed")[0]
        options = [(option, value) for option, value in own.items() if option not in UNNAMED]
        for its, key, said in (
                (data.get("checksum"), [title, *map(own.get, READING)],
                 f"did not get the same images, though both name {title}: it was"),
                (config.get("network"), [title, name, options, config.get("versions")],
                 f"do not have the same network, though both are {name}: the script was")):
            other, known = first.setdefault(str(key), (folder, its)) if its else (folder, its)
            if its != known:
                raise InputError(f"{folder} and {other} {said} changed meanwhile; train the "
                                 "older of them again, or look at each by itself")


def name_of(options, study=""):
    """Return the name of a run's options: its configuration's in a study of that name, or its
    recipe and, after commas, the options that its own name says."""
    name, more = options["name"], []
    if study in stored.names():
        for one in stored.load(study).own:
            if one.slug == name:
                return one.name
    if name.startswith(cell := f"{options.get('cell')}-{options.get('units')}-"):
        name = f"{options['cell'].upper()} {options['units']}, {name.removeprefix(cell)}"
    for option, value in options.items():
        flag = option.replace("_", "-")
        text = pathlib.Path(value).stem if option == "data" else as_text(value)
        part = {"True": flag, "False": f"no-{flag}"}.get(text, f"{flag}={text}")
        if f"-{part}-" in f"{name}-":
            name, more = f"{name}-".replace(f"-{part}-", "-").removesuffix("-"), [*more, part]
    return ", ".join([name, *more])


def of_runs(folders):
    """Return [(configuration, seed or None)] of runs' folders, or of others' logs and models. A
    folder that was given another name is called by that. Of runs of one name that are not of the
    same options each says those that differ. Raises InputError as check_alike does."""
    check_alike(folders)
    every, names, found = [options_in(folder) for folder in folders], [], []
    for folder, own in zip([folder.resolve() for folder in folders], every):
        name, seed = re.fullmatch(r"(?s)(.*?)(?:-seed(\d+))?(?:\.keras)?", folder.name).groups()
        kept = own and folder.name == f"{own['name']}-seed{own.get('seed')}"
        names.append(name_of(own, folder.parent.name) if kept else name)
        own.setdefault("seed", seed)
    for name, own in zip(names, every):
        alike = [other for its, other in zip(names, every) if its == name]
        more = [f"{option.replace('_', '-')}={as_text(value)}" for option, value in own.items()
                if option not in UNNAMED and any(other.get(option, value) != value
                                                 for other in alike)]
        found.append((", ".join([name, *more]), own["seed"]))
    return found


def told_apart(found):
    """Return what to call each of (study, or "" of single runs, name): the study's name stands
    before a name that is found in others, too."""
    found = [*found]
    places = Counter(name for _, name in {*found})
    return [f"{study}: {name}" if study and places[name] > 1 else name for study, name in found]


def without_shared(names, of=""):
    """Return names without the parts, those with `of` in them, that all have; and these parts. The
    first part of each stays."""
    parts = [name.split(", ") for name in names]
    shared = [part for part in (parts or [[]])[0][1:] if of in part and len(names) > 1
              and all(part in own[1:] for own in parts)]
    return [", ".join([own[0], *(part for part in own[1:] if part not in shared)])
            for own in parts], shared


def labels(folders):
    """Return (a label for each of some runs, what all of them share); InputError if two runs would
    have the same."""
    names = [name if seed is None else f"{name}, seed {seed}" for name, seed in of_runs(folders)]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"several of these runs share a name, {name}")
    return without_shared(names)
