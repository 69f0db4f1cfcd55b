"""Damage what the scripts read and are told: each must be taken, or refused in one line.

    TMPDIR=/dev/shm python tests/fuzz.py --count 1000 --of events words   # keeps what is not

Wrong are another exception, ten seconds of computing or a minute of waiting, more than 4 GB of
memory, and what is written or removed outside the input's own folder.
"""
import argparse
import collections
import contextlib
import copy
import csv
import dataclasses
import functools
import gzip
import io
import json
import os
import pathlib
import random
import re
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "sources"))
import numpy as np
from sklearn import datasets
from written import PICTURES, folder, forms, packed, saved

import sweep
import utils
import visualize
from comparisons import measures, names, report, stored, study, table
from inside import diagnosis, trained
from sources import cache
from sources.images import Reading
from system import jobs
from system.command_line import import_script, main, parse
from system.files import ROOT
from training import checkpoints, graph, plain

HOWS = Reading(), Reading(skip_unreadable=True), Reading(image_size="5x7", test_split=0.3)
ARCHIVES = ".zip", ".zip", ".npz", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz"
METHODS = 0, 8, 12, 14  # of a zip: stored, deflated, bzip2, LZMA
ODD = (None, True, False, -1, 0, 1, 3, 2 ** 31, 10 ** 400, -0.5, 1e-9, 1e308, float("inf"),
       float("nan"), "", "a", "a\nb", "0", "-1", "nan", "1e9", "..", "/", "ü", "x" * 5000,
       "9" * 5000, "{seed}", "%s{0}", [], [0], [1, "a"], [[]], {}, {"name": "a"})
ARRAYS_OF = (np.zeros(0), np.array(3), np.array("a"), np.arange(4) > 1, np.ones((2, 2), complex),
             np.full(3, np.nan), np.zeros((1, 0, 2), np.float32), np.array([2 ** 63], np.uint64))
COMMANDS = [shlex.split(line) for line in (
    "cifar_lenet5 --recipe original --steps 20 --learning-rate 0.1 --filters 3 4 --units 8",
    "cifar_lenet5 --schedule exponential --decay-rate 0.9 --warmup 0.1 --classes 0-4 --seed 3",
    "cifar_lenet5 --image-size 8x8 --epochs 2 --kernel-size 3 --dropout 0.2 --clipnorm 1 --grey",
    "mnist_rnn --cell gru --units 4 --layers 2 --batch-size 16 --name a --per-class 3",
    "mnist_rnn --recipe original --schedule cosine --order columns --threads 2 --steps 9",
    "transfer run --per-class 1 2 --strengths 0.1 1 --scratch-steps 5 --classes 5-9",
    "sweep cifar_lenet5.py --grid kernel-size=5,7 horizontal-flip=yes,no --seeds 0 1 -- --steps 5",
    "sweep mnist_rnn.py --list runs.txt --seeds 0 --jobs 2 --cores 1 --retries 1 --name b",
    "sweep ten-points --verify 1 --backend dask --address 127.0.0.1:1",
    "visualize strongest run --maps 3 --out figures --dpi 100 --format svg",
    "visualize table run --columns test_accuracy:1,steps", "visualize all run --data digits",
    "visualize occlusion run --side 3 --count 2", "visualize maximize run --steps 3 --seeds 2")]


# ------------------------------------------------------------------------------------- damage

def damaged(content, other, rng):
    """Return the bytes after some flips, cuts, insertions, copies and splices; what is gzipped
    mostly within."""
    if content[:2] == b"\x1f\x8b" and rng.random() < 0.6:
        return gzip.compress(damaged(gzip.decompress(content), other, rng), 1)
    content = bytearray(content)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4, 16))):
        at, span = rng.randrange(1 + rng.choice((64, len(content)))), int(2 ** rng.uniform(0, 8))
        start, own, mark = rng.randrange(len(other) + 1), content[at:at + span], rng.randrange(256)
        content[at:at + rng.choice((0, span, span, 1 << 30 if rng.random() < 0.2 else 1))] = (
            rng.choice((b"", own, own * 2, rng.randbytes(span), other[start:start + span],
                        bytes([rng.choice((0, 1, 127, 255, mark))]) * min(span, 8))))
        for _ in range(rng.randrange(3) if content else 0):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def changed_json(content, rng):
    """Return JSON in which a value somewhere is odd or gone."""
    root = [json.loads(content)]
    inside, key = root, 0
    while isinstance(inside[key], (dict, list)) and inside[key] and rng.random() < 0.95:
        inside = inside[key]
        key = rng.choice([*inside] if isinstance(inside, dict) else range(len(inside)))
    inside[key] = copy.deepcopy(rng.choice(ODD))
    if rng.random() < 0.2 and inside is not root:
        del inside[key]
    text = json.dumps(root[0])
    return (text.replace("null", "[" * 99999) if rng.random() < 0.02 else text).encode()


def changed_toml(content, rng):
    """Return TOML of which a value is odd, or a line gone, doubled or moved."""
    lines = content.decode().splitlines()
    i = rng.randrange(len(lines))
    odd = json.dumps(rng.choice(ODD[1:]))
    odd = odd.replace("NaN", "nan").replace("Infinity", "inf").replace('": ', '" = ')
    values = [*re.finditer(r'"[^"]*"|[\w.+-]+', lines[i])]
    start, end = rng.choice(values).span() if values else (0, 0)
    lines[i] = rng.choice((
        f"{lines[i].partition(' = ')[0]} = {odd}", lines[i][:start] + odd + lines[i][end:],
        rng.choice((rng.choice(lines), "", f"{lines[i]}\n{lines[i]}", "a = " + "[" * 99999))))
    return "\n".join(lines).encode()


def changed_csv(content, rng):
    """Return CSV of which a cell is odd, gone or doubled, or a row doubled."""
    rows = [*csv.reader(io.StringIO(content.decode()))]
    row = rng.choice((rows[0], rng.choice(rows)))
    i, odd = rng.randrange(len(row)), str(rng.choice(ODD))
    row[i:i + 1] = rng.choice(([odd], [odd], [odd], [], row[i:i + 1] * 2, [rng.choice(row)]))
    rows.insert(rng.randrange(len(rows)), [*rng.choice((row, rows[0]))]) if i % 9 == 0 else None
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def unpacked(content):
    """Return {name: content} of a zip archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def changed_npz(content, rng):
    """Return a whole .npz, of forty arrays at most, of which some are damaged, gone or another."""
    files, stream = sorted(unpacked(content).items()), io.BytesIO()
    first = rng.randrange(max(1, len(files) - 40))
    files = dict(files[first:first + 40])
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        name, other = rng.choices(list(files), k=2)
        files[name] = rng.choice((files[other], b"", *[damaged(files[name], files[other], rng)] * 6,
                                  saved(np.save, rng.choice(ARRAYS_OF))))
        files[rng.choice((name, name, name, "/".join(name.split("/")[1:]) or "a.npy"))] = files.pop(
            name)
    with zipfile.ZipFile(stream, "w") as archive:
        for name, own in files.items():
            archive.writestr(zipfile.ZipInfo(name), own)
    return stream.getvalue()


def changed_words(words, rng):
    """Return words of a command line, some odd, another's, gone or doubled."""
    words = [*words]
    for _ in range(rng.choice((1, 1, 2, 4))):
        i, other = rng.randrange(len(words)), rng.choice(rng.choice(COMMANDS)[1:])
        odd = str(rng.choice(ODD))
        words[i:i + 1] = rng.choice(([odd], [odd], [words[i], odd], [other], [words[i], other], [],
                                     [f"--{odd}"], [f"{words[i]}={odd}"], [words[i]] * 2)) or ["-"]
    return words


# ------------------------------------------------------------------------------ what is read

forms = functools.cache(forms)
datasets.load_digits = functools.cache(datasets.load_digits)
remembered = functools.cache(utils.load_images)
made = functools.lru_cache(9)(trained.make_model)


@functools.cache
def small_run():
    """Return the folder of a small finished run that looks as if it had begun anew once."""
    place, experiment = pathlib.Path(tempfile.mkdtemp("-run")), import_script("cifar_lenet5")
    words = ("--data digits --filters 1 2 --units 3 --batch-size 16 --steps 4 --evaluations 1 "
             f"--snapshots 2 --name a --logdir {place}")
    with contextlib.redirect_stdout(io.StringIO()):
        experiment.train(parse(experiment.Config, experiment.RECIPES, words.split()))
    return place / "cifar_lenet5" / "a-seed0"


@functools.cache
def network():
    """Return the network of that run."""
    return trained.Record(small_run(), import_script).network


@functools.cache
def files_of_run():
    """Return {relative path: file} of that run; its weights also as what is read faster."""
    own = graph.name_weights(network().model.weights)
    checkpoints.save_weights(small_run().parent, {name: v.numpy() for name, v in own.items()})
    files = [file for file in sorted(small_run().rglob("*")) if file.is_file()]
    return {file.relative_to(small_run()): file for file in files} | {
        pathlib.Path("weights.npz"): small_run().parent / "weights.npz"}


@functools.cache
def studies():
    """Return a copy of the studies."""
    place = pathlib.Path(tempfile.mkdtemp("-studies")) / "studies"
    return shutil.copytree(ROOT / "studies", place)


def images(pattern, packs=("", "", "", "file")):
    """Return a maker of damaged images in the forms of a pattern, as --data takes them."""
    def make(own, rng):
        own /= "set"
        form, pack = rng.choice([x for x in forms() if re.match(pattern, x)]), rng.choice(packs)
        files, other = dict(forms()[form]), rng.choice([*rng.choice([*forms().values()]).values()])
        name, whole = rng.choice(list(files)), pack.startswith(".") and rng.random() < 0.6
        if not whole:
            files[name] = damaged(files[name], other, rng)
        if pack.startswith("."):
            path = packed(own.with_name(f"set{pack}"), files, rng.choice(METHODS))
            if whole:
                path.write_bytes(damaged(path.read_bytes(), other, rng))
        else:
            path = folder(own, files) / (name if pack == "file" else "")
        return [functools.partial(load, str(path), rng.choice(HOWS))]
    return make


def load(path, how):
    """Load images; what is loaded is as it should be."""
    data = utils.load_images(path, how=how)
    for x, y in (data.arrays[:2], data.arrays[2:], *filter(None, [data.validation])):
        assert x.dtype == "uint8" and x.shape[3] in (1, 3) and len(x) == len(y), x.shape
        assert set(y) <= set(range(len(data.classes))), y
    assert all(len(x.encode().splitlines()) == 1 for x in (data.title, *data.notes))


def of_run(pattern, change, *readers, beside=()):
    """Return a maker of a run with a damaged file; beside: patterns of the other files that its
    readers look at; readers: functions of its folder."""
    def make(own, rng):
        run, damaging = own / small_run().name, rng.choice(
            [path for path in files_of_run() if path.match(pattern)])
        for path, file in files_of_run().items():
            if any(map(path.match, (pattern, *beside))):
                (run / path).parent.mkdir(parents=True, exist_ok=True)
                os.link(file, run / path)
        file, content = run / damaging, files_of_run()[damaging].read_bytes()
        file.unlink()  # the link
        changed = content
        while changed == content:
            changed = (change(content, rng) if change and rng.random() < 0.8 else
                       damaged(content, content, rng))
        file.write_bytes(changed)
        return [functools.partial(reader, run) for reader in readers]
    return make


def read_network(run):
    """Build the network that a run's config.json speaks of; what is built once is remembered."""
    with mock.patch.object(trained, "make_model", made):
        return trained.Record(run, import_script).network


def look(run):
    """Look at all events of a run, as figures and tables do."""
    events = trained.Record(run, import_script).events
    measures.measures_of(events), measures.seconds_to(events, 0.98, 1.0)


def resume(run):
    """Do what sweep.py and a script do with the config.json of a run that is to go on."""
    jobs.command(sweep.make_job("cifar_lenet5", [
        "--name", "a", "--data", "digits", "--logdir", str(run.parent.parent)]), 1)


ARRAYS = {"conv/kernel": np.arange(60, dtype=np.float32), "seconds": np.zeros(())}


@functools.cache
def two_checkpoints():
    """Return {name: bytes} of two checkpoints' files."""
    place = pathlib.Path(tempfile.mkdtemp("-run"))
    for step in (3, 7):
        checkpoints.save(place, step, ARRAYS, {"train/events.out.tfevents.1": 9})
    return {f"checkpoints/{file.name}": file.read_bytes()
            for file in checkpoints.checkpoints(place)}


def checkpoint(own, rng):
    """Damage one of two checkpoints."""
    folder(own, two_checkpoints())
    file = rng.choice(checkpoints.checkpoints(own))
    if rng.random() < 0.3:
        file.write_bytes(saved(np.savez_compressed, **np.load(file)))
    file.write_bytes(damaged(file.read_bytes(), file.read_bytes(), rng))

    def restore():
        step, state, _ = checkpoints.restore(own)
        assert step in (3, 7), step  # one of them is whole
        assert all(np.array_equal(state.get(name), x) for name, x in ARRAYS.items()), "changed"
    return [functools.partial(checkpoints.load_weights, own), restore]


def of_study(suffix, change, *readers):
    """Return a maker of a study of which a file is damaged; readers: functions of a folder."""
    def make(own, rng):
        stored.FOLDER = studies()
        original = rng.choice(sorted(studies().glob(f"[!a]*{suffix}")))
        for end in (".toml", ".csv", ".npz"):
            (studies() / f"a{end}").unlink(missing_ok=True)
            if end in (".toml", ".csv", suffix) and original.with_suffix(end).exists():
                content = original.with_suffix(end).read_bytes()
                if end == ".csv":  # twelve of its rows
                    first, *rows = content.splitlines(True)
                    content = b"".join([first, *rng.sample(rows, min(12, len(rows)))])
                (studies() / f"a{end}").write_bytes(content)
        content = (studies() / f"a{suffix}").read_bytes()
        content = change(content, rng) if rng.random() < 0.8 else damaged(content, content, rng)
        (studies() / f"a{suffix}").write_bytes(content)
        (own / f"a{suffix}").write_bytes(content)  # to be kept
        return [read_study, lambda: table.table(["a"], "steps,seeds,test_accuracy:1,test_loss"),
                *(functools.partial(reader, str(own)) for reader in readers)]
    return make


def read_study():
    """Read what a study says and has."""
    one = stored.load("a")
    study.table_of(one), [*study.figures_of(one)], [*stored.contradictions(one)]


def read_series(_):
    """Read a study's series, and what its rows say of them."""
    stored._arrays.cache_clear()
    for own in stored.series("a").values():
        measures.measures_of(own), measures.seconds_to(own, 0.98, 1.0)
    [*report.disagreements(stored.load("a"))]


def plan_study(logdir):
    """Plan the first run of three configurations of a study."""
    one = stored.load("a")
    some = [own for own in one.own if own.seeds][::max(1, len(one.own) // 3)]
    sweep.plan_study(one, logdir, {(own.name, own.seeds[0]): None for own in some})


def command(own, rng):
    """Change a command line, to be parsed; what an experiment's asks for is looked at."""
    script, *words = rng.choice(COMMANDS)
    words = changed_words(words, rng)
    (own / "words").write_text(shlex.join([script, *words]), errors="backslashreplace")

    def read():
        module = import_script(script)
        if script == "visualize":
            return visualize.parse(words)
        if script == "sweep":
            options = sweep.command_line(words)
            return stored.load(options.what) if not options.what.endswith(".py") else sweep.plan(
                options)
        config = parse(module.Config, getattr(module, "RECIPES", {}), words)
        remembered("digits", how=Reading.of(config))
        for step in (0, 9, 10 ** 5) if script != "transfer" else ():
            utils.learning_rate(step, 10 ** 5, config)
    return [read]


def listed(own, rng):
    """Write a --list of changed words."""
    lines = [rng.choice(COMMANDS[:3])[1:] for _ in range(3)]
    lines = [shlex.join(rng.choice((line, line, changed_words(line, rng)))) for line in lines]
    content = "\n".join(lines).encode(errors="surrogateescape")
    (own / "list").write_bytes(damaged(content, content, rng) if rng.random() < 0.3 else content)
    return [lambda: sweep.plan(sweep.command_line(
        ["cifar_lenet5.py", "--list", str(own / "list"), "--logdir", str(own)]))]


def shown(own, rng):
    """Damage a picture that a network is to see."""
    files = rng.choice([files for form, files in forms().items() if form.split()[0] in PICTURES])
    file, content = own / "a.png", rng.choice([*files.values()])
    file.write_bytes(damaged(content, content, rng))
    return [lambda: trained.read_pictures(network(), [file])]


def decoded(own, rng):
    """Damage what was decoded once: it is decoded anew, or is what it was."""
    arrays = np.arange(99, dtype=np.uint8), np.array(["a note"])

    def read():
        with mock.patch.object(cache, "CACHE", own):
            found = cache.cached("a", "key", lambda: arrays)
        assert all(map(np.array_equal, found, arrays)) and len(found) == 2, "changed"
    read()
    file, = own.iterdir()
    file.write_bytes(damaged(file.read_bytes(), file.read_bytes(), rng))
    return [read]


def owner(own, rng):
    """Damage what says whose figures a folder holds."""
    content = f"{small_run()}\n".encode()
    folder(own / small_run().name, {"run.txt": damaged(content, content, rng)})
    return [lambda: visualize.own_folder(own, small_run())]


def read_snapshots(run):
    """Read a run's snapshots, as figures of training do."""
    for _ in trained.read_snapshots(checkpoints.snapshots(run), network().model):
        pass
    names = [name for name, x in network().stages.items() if len(x.shape) == 2]
    diagnosis.unused_over_time(dataclasses.replace(network(), folder=run), names, 9)


def keras_model(own, rng):
    """Damage a Keras model, or the description within it."""
    content, file = (small_run() / "model.keras").read_bytes(), own / "m.keras"
    if rng.random() < 0.7:
        files = unpacked(content)
        files["config.json"] = changed_json(files["config.json"], rng)
        packed(file.with_suffix(".zip"), files).rename(file)
    else:
        file.write_bytes(damaged(content, content, rng))
    return [lambda: trained.load_keras(file, "digits", "data", 255)]


KINDS = {
    "pictures": images("png|jpeg|gif|webp|tiff|bmp|ppm"), "idx": images("idx"),
    "tables": images("npy|csv"), "cifar": images("cifar"), "parquet": images("parquet"),
    "archives": images("", ARCHIVES), "checkpoint": checkpoint,
    "config": of_run("config.json", changed_json, lambda run: names.labels([run]),
                     lambda run: table.table([run]), resume, read_network,
                     beside=("result.json", "weights.npz")),
    "result": of_run("result.json", changed_json, lambda run: table.table([run]),
                     beside=["config.json"]),
    "events": of_run("events*", None, look),
    "weights": of_run("model.keras", None, lambda run: plain.load(run, network().model)),
    "kept": of_run("weights.npz", changed_npz, read_network, beside=["config.json"]),
    "snapshots": of_run("snapshots/*", changed_npz, read_snapshots),
    "series": of_study(".npz", changed_npz, read_series), "list": listed, "shown": shown,
    "cache": decoded, "owner": owner, "keras": keras_model,
    "toml": of_study(".toml", changed_toml, plan_study),
    "csv": of_study(".csv", changed_csv), "words": command}


# ------------------------------------------------------------------------------------ outcomes

MEMORY, WAIT = 4_000_000, 60  # kilobytes, seconds


class Slow(BaseException):
    """Ten seconds of computing or a minute have passed; no reader catches this."""


def outcome(read, own):
    """Return "read", "refused", or what is wrong with how a function takes its input, whose folder
    is `own`."""
    def alarm(number, _):
        if number == signal.SIGALRM or time.thread_time() - began >= 10:  # not of other threads
            raise Slow
        signal.setitimer(signal.ITIMER_PROF, 10)
    timers = {signal.SIGPROF: (signal.ITIMER_PROF, 10), signal.SIGALRM: (signal.ITIMER_REAL, WAIT)}
    before = {number: signal.signal(number, alarm) for number in timers}
    said, began, peak = io.StringIO(), time.thread_time(), memory()
    for timer in timers.values():
        signal.setitimer(*timer)
    OWN.append(own)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            status = main(lambda: [read()] and 0)
    except SystemExit as error:
        status = error.code
    except (Exception, Slow) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        OWN.clear()
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])
    said = said.getvalue()
    if memory() > max(peak, MEMORY):
        return f"{memory() / 1e6:.1f} GB of memory"
    if not status:
        return "read"
    return "refused" if (status, said.count("\n")) == (2, 1) else f"status {status}: {said}"


def memory():
    """Return the most memory that this process ever had, in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def fuzz(kind, seed, count, kept):
    """Return {outcome: how many} of `count` inputs; what is wrong is printed, and its files stay in
    the folder `kept`, as do those of what ends the process."""
    counts = collections.Counter()
    small_run(), network(), studies(), watch()
    for number in range(count):
        rng, own = random.Random(f"{seed} {number}"), kept / f"{kind}-{seed}-{number}"
        own.mkdir(parents=True)
        outcomes = [outcome(read, own) for read in KINDS[kind](own, rng)] + WRITTEN
        wrong = [x for x in outcomes if x not in ("read", "refused")]
        counts["fault" if wrong else max(outcomes)] += 1
        if not wrong:
            shutil.rmtree(own)
        for what in wrong:
            print(f"{own}: {what[:500]}", flush=True)
        WRITTEN.clear()
    return counts


OWN, WRITTEN = [], []  # the folder of the input that is being read; what it had written elsewhere
CHANGES = {"open": 1, "os.mkdir": 1, "os.remove": 1, "os.rmdir": 1, "os.truncate": 1,
           "os.rename": 2, "os.link": 2, "os.symlink": 2}  # how many paths each names first


@functools.cache
def watch():
    """Fill WRITTEN, for as long as the process lives."""
    def hook(event, arguments):
        if not OWN or event not in CHANGES or event == "open" and not arguments[2] & (
                os.O_WRONLY | os.O_RDWR):
            return
        for path in arguments[event == "os.symlink":CHANGES[event]]:  # a link's target is text
            where = path if isinstance(path, int) else arguments[-1] if event not in (
                "open", "os.truncate") else -1  # an open folder or file
            place = os.readlink(f"/proc/self/fd/{where}") if where >= 0 else ""
            path = place if isinstance(path, int) else os.path.abspath(
                os.path.join(place, os.fsdecode(path)))
            if "/__pycache__/" not in path and not f"{path}/".startswith(
                    (f"{OWN[0]}/", "/dev/null/")):
                WRITTEN.append(f"{event} {path}")
    sys.addaudithook(hook)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--of", nargs="+", choices=KINDS, default=list(KINDS),
                        help="kinds of input")
    parser.add_argument("--count", type=int, default=1000, help="inputs of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    options = parser.parse_args()
    cache.CACHE = pathlib.Path("/dev/null/none")  # nothing is kept
    found = collections.Counter()
    place = pathlib.Path(tempfile.mkdtemp("-fuzz"))
    os.chdir(place)
    for kind in options.of:
        began = time.monotonic()
        found += (counts := fuzz(kind, options.seed, options.count, place))
        print(f"{kind:11}" + "".join(f"{counts[x]:8,} {x}" for x in ("read", "refused", "fault"))
              + f"  {(time.monotonic() - began) / options.count * 1000:5.1f} ms each, memory up to "
              f"{memory() / 1e6:.1f} GB", flush=True)
    sys.exit(bool(found["fault"]))
