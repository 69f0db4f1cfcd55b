"""Read your own pictures: a folder, zip or tar archive with a folder for each class."""
import re

import numpy as np

from sources.cache import cached
from sources.images import Images, form
from sources.pictures import JPEG, decode_files, is_picture
from system.command_line import InputError

ROLES = {"train": "train", "training": "train", "test": "test", "testing": "test",
         "val": "validation", "valid": "validation", "validation": "validation",
         "dev": "validation"}
BEGINNING = re.compile("|".join(sorted(ROLES, key=len, reverse=True)), re.I)


def role_of(name):
    """Return the role that a word of a name says, and the rest of the name without digits:
    ("train", "seg_/") of "seg_train2"; or (None, the rest)."""
    words = re.split(r"([\W_\d]+)", name.lower())
    said = next((i for i, word in enumerate(words) if word in ROLES), None)
    rest = "".join("/" if i == said else word for i, word in enumerate(words))
    return (None if said is None else ROLES[words[said]]), re.sub(r"\d", "", rest)


def has_pictures(tree):
    """Return whether a picture lies in a folder, which may be its class."""
    return any("/" in name and is_picture(name) for name in tree.files)


@form("folders of pictures", has_pictures)
def read_class_folders(tree, how):
    """Return Images of train/<class>/*, test/<class>/* and valid/<class>/*.

    See data/README.md for what else is understood. Classes are in order of their names, numbers by
    value. Raises InputError that names the file and what is wrong.
    """
    listing, classes, notes = list_pictures(tree)
    names = [file for _, _, file in listing]

    def decode():
        pixels, kept, notes = decode_files(tree, names, how)
        return pixels, kept, np.array(notes, str)
    key = f"{tree.key(names)} {how.size_of_files} {how.background} {how.skip_unreadable} {names}"
    pixels, kept, said = cached(tree.path.stem, key, decode)
    listing = [row for row, there in zip(listing, kept) if there]
    roles = np.array([role for role, _, _ in listing])
    labels = np.int32([classes.index(label) for _, label, _ in listing])
    _check_classes(tree, {role: set(labels[roles == role]) for role in set(roles)}, classes)
    parts = {role: (_rows(pixels, roles == role), labels[roles == role])
             for role in ("train", "test", "validation")}
    return Images.titled(
        tree.path.stem, tree.path.name, classes, (*parts["train"], *parts["test"]),
        lossy=any(file.lower().endswith(JPEG) for file in names), mirrors=True,
        notes=(*notes, *map(str, said)),
        validation=parts["validation"] if "validation" in roles else None)


def _rows(pixels, chosen):
    """Return the chosen rows, without a copy where they are beside each other."""
    first, count = int(chosen.argmax()), int(chosen.sum())
    beside = chosen[first:first + count].all()
    return pixels[first:first + count] if beside else pixels[chosen]


def list_pictures(tree):
    """Return ([(role, class, file)], class names, notes) of a Tree's pictures.

    A role is "train", "test" or "validation". Training pictures come first, then test, then
    validation pictures, each class after class.
    """
    pictures = [name for name in tree.files if is_picture(name)]
    splits, notes = _splits(tree, pictures)
    rows, others = [], []
    for name in pictures:
        for role, folder in splits.items():
            label, _, below = name.removeprefix(folder).lstrip("/").partition("/")
            if below and name.startswith(f"{folder}/".lstrip("/")):
                rows.append((role, label, name))
                break
        else:
            others.append(name)
    _refuse_empty(tree, splits, rows)
    names = _match_case(tree, rows)
    rows = [(role, names[role, label], name) for role, label, name in rows]
    classes = sorted({label for _, label, _ in rows}, key=_natural)
    order = {"train": 0, "test": 1, "validation": 2}
    place = {label: i for i, label in enumerate(classes)}
    rows.sort(key=lambda row: (order[row[0]], place[row[1]], row[2]))
    strange = [name for name in tree.files if not is_picture(name)]
    if strange:
        kinds = sorted({"." + n.rpartition(".")[2] if "." in n.rpartition("/")[2] else "no ending"
                        for n in strange})
        notes.append(f"{len(strange):,} files passed over that are no pictures "
                     f"({', '.join(kinds[:6])}{' ...' * (len(kinds) > 6)})")
    if others:
        where = " or ".join(f"{folder}/" for folder in splits.values())
        notes.append(f"{len(others):,} pictures passed over that are in no class's folder in "
                     f"{where}, like {others[0]}")
    return rows, classes, notes


def _refuse_empty(tree, splits, rows):
    """Refuse a class's folder without a picture, for training or the test; where there is no split,
    so that other folders may lie beside those of classes, one without any file."""
    filled = {(role, label) for role, label, _ in rows}
    for folder in sorted(tree.folders):
        parent, _, label = folder.rpartition("/")
        for role in ("train", "test"):
            if splits.get(role) == parent and (role, label) not in filled and (
                    len(splits) > 1 or not any(n.startswith(f"{folder}/") for n in tree.files)):
                raise InputError(f"{tree.path}: class {label!r} has no picture in {folder}/")


def _splits(tree, pictures):
    """Return {role: folder}, folders of classes, and notes; {"train": folder} where all pictures
    are in class folders without a split.

    The topmost folder that holds such a train/ counts; none below it does.
    """
    holders = {}  # {folder: {role: [folders of that role in it, which hold folders of pictures]}}
    for folder in sorted({"/".join(parts[:i]) for parts in (p.split("/") for p in pictures)
                          for i in range(1, len(parts) - 1)}):
        parent, _, name = folder.rpartition("/")
        if name.lower() in ROLES:
            holders.setdefault(parent, {}).setdefault(ROLES[name.lower()], []).append(folder)
    depth = {f: f.count("/") + bool(f) for f, roles in holders.items() if "train" in roles}
    top = sorted(f for f in depth if depth[f] == min(depth.values()))
    if len(top) > 1:
        raise InputError(f"{tree.path}: {', '.join(f'{f}/' for f in top[:4])} each hold a train/; "
                         "give one of them")
    if not top:
        if holders:
            found = next(iter(next(iter(holders.values())).values()))[0]
            raise InputError(f"{tree.path}: {found}/ but no train/ with a folder for each class")
        base = _base(tree, pictures)
        roles = _named_alike(tree, pictures, base)
        if not roles:
            return {"train": base}, []
        notes = [f"{own[0]}/ is taken for {role}/" for role, own in roles.items()]
    else:
        roles, notes = holders[top[0]], []
    for own in roles.values():
        if len(own) > 1:
            raise InputError(f"{tree.path}: {own[0]}/ and {own[1]}/ are both there; keep one")
    splits = {role: _inside(own[0], pictures) for role, own in roles.items()}
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
        notes.append(f"{splits['test']}/ is the test set, as there is no test/")
    return splits, notes


def _named_alike(tree, pictures, base):
    """Return {role: [folders of that role]} of folders in `base` that are named alike but for a
    word that says a role, like training_set/ and test_set/, or {}.

    Raises InputError for a split in another layout, which would become classes.
    """
    prefix, inside = f"{base}/".lstrip("/"), {}  # {folder in base: those in it that hold pictures}
    for picture in pictures:
        folder, *more = picture.removeprefix(prefix).split("/")[:-1] or [""]
        inside.setdefault(folder, set()).update(more[:1])
    wanted = "wanted are train/<class>/* and test/<class>/*"
    alike = _alike(filter(None, sorted(inside)))
    for roles in alike:
        if not any(inside[name] for name in roles["train"]):
            raise InputError(f"{tree.path}: {prefix}{roles['train'][0]}/ has no folder for each "
                             f"class; {wanted}")
        return {role: [prefix + name for name in names] for role, names in roles.items()}
    said = {name: role_of(name)[0] for name in inside if name}
    if "train" in said.values() and len({*said.values()}) > 1 and None not in said.values():
        raise InputError(f"{tree.path}: {' and '.join(f'{prefix}{n}/' for n in sorted(said)[:4])} "
                         f"look like a split; {wanted}")
    if pair := _paired({name: own for name, own in inside.items() if name}):
        raise InputError(f"{tree.path}: {' and '.join(f'{prefix}{n}/' for n in pair)} look like a "
                         f"split; rename them {' and '.join(f'{r}/' for r in pair.values())}")
    for name, folders in inside.items():
        if _alike(folders) or _paired(dict.fromkeys(folders, set())):
            raise InputError(f"{tree.path}: {prefix}{name}/ holds a split of its own; {wanted}")
    return {}


def _alike(names):
    """Return [{role: names}] of names that differ only in a word that says their role, one of them
    for training."""
    found = {}
    for name in names:
        role, rest = role_of(name)
        if role:
            found.setdefault(rest, {}).setdefault(role, []).append(name)
    return [roles for roles in found.values() if "train" in roles and len(roles) > 1]


def _paired(inside):
    """Return {name: role} of names that differ only in how they begin, trainA and testA, if all do,
    or if these hold two folders of the same names; else {}."""
    found = {}
    for name in sorted(inside):
        if begins := BEGINNING.match(name):
            rest = name[begins.end():].lower()
            found.setdefault(rest, {})[name] = ROLES[begins[0].lower()]
    pairs = [own for own in found.values() if len(own) > 1]
    every = sum(map(len, pairs)) == len(inside)
    return next((own for own in pairs if every or len(
        set.intersection(*(inside[name] for name in own))) > 1), {})


def _inside(folder, pictures):
    """Return train/train/ for a train/ in which there is nothing else, as Kaggle's zips have it."""
    name = folder.rpartition("/")[2]
    below = {p[len(folder) + 1:].partition("/")[0] for p in pictures if p.startswith(folder + "/")}
    inner = f"{folder}/{name}/"
    deep = any(p.startswith(inner) and "/" in p[len(inner):] for p in pictures)
    return _inside(inner[:-1], pictures) if below == {name} and deep else folder


def _base(tree, pictures):
    """Return the folder that holds the folders of classes, where there is no train/."""
    parents = [p.split("/")[:-1] for p in pictures]
    base = []
    while True:
        below = {tuple(p[:len(base) + 1]) for p in parents}
        if len(below) == 1 and len(next(iter(below))) > len(base) and any(
                len(p) > len(base) + 1 for p in parents):
            base = list(next(iter(below)))
        else:
            break
    if not any(len(p) > len(base) for p in parents):
        raise InputError(f"{tree.path}: pictures, but no folder for each class; wanted are "
                         "train/<class>/* and test/<class>/*")
    return "/".join(base)


def _match_case(tree, rows):
    """Return {(role, label): name}: a test class's name is as in training, if it differs in the
    case of its letters only. Raises InputError if a test class is not in training, or lacks."""
    own = {label for role, label, _ in rows if role == "train"}
    lower = {}
    for label in own:
        lower.setdefault(label.lower(), []).append(label)
    names = {("train", label): label for label in own}
    for role, label, _ in rows:
        if (role, label) not in names:
            same = [label] if label in own else lower.get(label.lower(), [])
            if len(same) != 1:
                raise InputError(f"{tree.path}: class {label!r} has no picture for training, but "
                                 f"has for {role}")
            names[role, label] = same[0]
    return names


def _check_classes(tree, found, classes):
    """Refuse a class without pictures for training or, where there are tests, for the test."""
    for role in ("train", "test") if "test" in found else ("train",):
        for c, name in enumerate(classes):
            if c not in found.get(role, ()):
                raise InputError(f"{tree.path}: class {name!r} has no picture for "
                                 f"{'training' if role == 'train' else 'the test'}")


def _natural(name):
    """Return a sort key: numbers by value and before words ("2" < "10" < "cat")."""
    return (0, int(name), name) if name.isdecimal() and len(name) < 99 else (1, 0, name)
