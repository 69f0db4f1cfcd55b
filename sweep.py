"""Make every run of a study, or of all combinations of some options, several seeds each.

    python sweep.py ten-points               the runs that studies/ten-points.csv does not have yet
    python sweep.py ten-points --verify 1    train one of its runs again, and compare
    python sweep.py cifar_lenet5.py --grid kernel-size=5,7,9 horizontal-flip=yes,no --seeds 0 1 2
    python sweep.py mnist_rnn.py --list runs.txt --seeds 0 1 2 3 4 -- --steps 3000

A study lies in studies/NAME.toml; its runs become logs/NAME/<configuration>-seed<k>, rows of
studies/NAME.csv and curves in studies/NAME.npz. Rows of runs made elsewhere stay as they are.

Of a script, options after -- go to all runs, as on its own command line. A grid's values are
separated by commas, the parts of one value by spaces ("filters=32 64,16 32"); a flag's are yes and
no. A list has the options of one configuration a line; # begins a comment. What was found stands in
logs/sweeps/<name>/: results.csv, one row a run, and the varied options with the final metrics for
TensorBoard's HParams tab.

Each run is a process of its own. Finished runs are skipped and interrupted ones resumed, so the
same command goes on after a stop.

Exit status: 0, 1 if runs failed or differ (they are listed), 2 for bad input, 130 / 143 if stopped.
"""
import argparse
import dataclasses
import itertools
import os
import pathlib
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from system import machine
from system.command_line import (
    InputError,
    Interrupted,
    Parser,
    as_text,
    exit_on_signals,
    first_line,
    import_script,
    is_plain,
    main,
    options_of,
    parse,
)
from system.files import read_json, write_json


def command_line(words):
    """Return a sweep's options; bad ones exit 2 with one line. What follows -- is options.common.
    """
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", metavar="STUDY or SCRIPT.py", help="what to run")
    study, grid = parser.add_argument_group("of a study"), parser.add_argument_group("of a script")
    study.add_argument("--again", action="store_true", help="make all runs anew, also those "
                       "that its CSV has, and replace their folders")
    study.add_argument("--verify", type=int, default=0, metavar="N", help="train N runs of its CSV "
                       "again, chosen at random, and compare; change nothing")
    grid.add_argument("--grid", nargs="+", default=[], metavar="OPTION=VALUES",
                      help="options to combine, each with its values")
    grid.add_argument("--list", type=pathlib.Path, metavar="FILE",
                      help="file with one configuration a line, each combined with the grid")
    grid.add_argument("--seeds", nargs="+", type=int, help="(default: 0)")
    grid.add_argument("--name", help="folder of the results, which replace those of an earlier "
                      "sweep of this name (default: the varied options)")
    parser.add_argument("--logdir", default="logs", help="folder of all runs (default: logs)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default: 1)")
    parser.add_argument("--cores", type=int, help="cores of each run (default: this machine's, "
                        "divided by --jobs)")
    parser.add_argument("--retries", type=int, default=0, help="how often a run that failed or was "
                        "killed is tried again (default: 0)")
    parser.add_argument("--backend", choices=("local", "dask"), default="local",
                        help="local: this machine; dask: a running cluster whose machines share "
                        "this folder (default: local)")
    parser.add_argument("--address", help="of dask's scheduler")
    cut = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:cut])
    options.common = words[cut + 1:]
    if options.cores is None:
        options.cores = max(1, machine.cores() // max(1, options.jobs))
    for name, low in (("jobs", 1), ("retries", 0), ("cores", 1), ("verify", 0)):
        if getattr(options, name) < low:
            parser.error(f"--{name} must be at least {low}")
    of_script = [name for name in ("grid", "list", "seeds", "name", "common")
                 if getattr(options, name)]
    if not options.what.endswith(".py") and of_script:
        parser.error(f"a study says itself what its runs are, without {', '.join(of_script)}; a "
                     "script's name ends in .py")
    if options.what.endswith(".py") and (options.again or options.verify):
        parser.error("--again and --verify are of studies; move away the folders of runs to be "
                     "made anew")
    if options.name is not None and not is_plain(options.name):
        parser.error("--name must be a plain folder name")
    if options.backend == "dask" and not options.address:
        parser.error("--backend dask needs the --address of its scheduler")
    try:
        options.lines = (options.list.read_text(encoding="utf-8").splitlines()
                         if options.list else [])
    except (OSError, ValueError) as error:
        parser.error(f"--list {options.list}: {first_line(error)}")
    given = [*options.common, *(f"--{axis}" for axis in options.grid),
             *(word for line in options.lines for word in line.partition("#")[0].split())]
    for flag, instead in (("--seed", "say --seeds"), ("--logdir", "say it before --"),
                          ("--resume", "interrupted runs are, leave it out"),
                          ("--overwrite", "move away the folders of runs to be made anew")):
        if any(word.partition("=")[0] == flag for word in given):
            parser.error(f"{flag} is not for single runs of a sweep: {instead}")
    return options


if __name__ == "__main__":  # --help answers before the slow imports below
    exit_on_signals()
    options = command_line(sys.argv[1:])

import filelock
import tensorflow as tf

from comparisons import stored
from comparisons.names import check_alike
from comparisons.study import collect, compare
from system.jobs import connect, run_all
from training.run import folder_of


@dataclasses.dataclass(frozen=True)
class Job:
    """Hold one run to be made: its options as parsed, its folder, its command line, which row of a
    study it is, and which version of its config.json is that of a run to be replaced."""
    config: object
    folder: pathlib.Path
    words: list
    row: tuple = ()
    old: int = 0

    @property
    def begun(self):
        return version_of(self.folder) not in (0, self.old)

    @property
    def finished(self):
        return (self.folder / "result.json").exists() and self.begun


def version_of(folder):
    """Return when the config.json of a run was written (ns), which tells it from that of another;
    0 if there is none."""
    file = folder / "config.json"
    return file.stat().st_mtime_ns if file.exists() else 0


def combinations(grid, lines):
    """Return the option words of every configuration: each line combined with each point of a grid.

    combinations(["kernel-size=5,7"], ["--grey"]) = [["--grey", "--kernel-size", "5"], ...]
    """
    try:
        axes = [[shlex.split(line) for line in lines] or [[]]]
        for axis in grid:
            name, _, values = axis.partition("=")
            if not name or not values:
                raise InputError(f"--grid {axis!r} is not OPTION=VALUE,VALUE,...")
            axes.append([{"yes": [f"--{name}"], "no": [f"--no-{name}"]}.get(
                value, [f"--{name}", *shlex.split(value)]) for value in values.split(",")])
    except ValueError as error:
        raise InputError(f"--list or --grid: {error}") from error
    return [sum(point, []) for point in itertools.product(*axes)]


def make_job(script, words, row=(), replaced=()):
    """Return the job of a script's command line; InputError or exit 2 if an option is not right."""
    experiment = import_script(script)
    for own in options_of(experiment.Config):  # a positional comes first, before lists of values
        if own.positional and own.flag in words:
            i = words.index(own.flag)
            words = [*words[i + 1:i + 2], *words[:i], *words[i + 2:]]
    config = parse(experiment.Config, getattr(experiment, "RECIPES", {}), words)
    folder = folder_of(experiment.__name__, config)
    job = Job(config, folder, [str(pathlib.Path(experiment.__file__).resolve()), *words], row,
              dict(replaced).get(folder.name, 0))
    if job.begun:
        made = read_json(folder / "config.json").get("options")
        for name, value in made.items() if isinstance(made, dict) else ():
            asked = getattr(config, name, value)
            if name != "threads" and value != (list(asked) if isinstance(asked, tuple) else asked):
                raise InputError(f"{folder} was made with {name}={value!r}, not {asked!r}; move it "
                                 "away, or give this configuration another --name")
    return job


def plan(options):
    """Return the jobs of a grid, in order."""
    lines, jobs = [line.partition("#")[0].strip() for line in options.lines], {}
    for words in combinations(options.grid, filter(None, lines)):
        for seed in options.seeds or [0]:
            job = make_job(options.what, [*options.common, "--logdir", options.logdir, "--seed",
                                          str(seed), *words])
            if jobs.setdefault(job.folder.name, job).config != job.config:
                raise InputError(f"two configurations share the name {job.folder.name}; vary "
                                 "options that it states, or give each a --name")
    return list(jobs.values())


def plan_study(study, logdir, chosen, replaced=()):
    """Return the jobs of a study's runs {(configuration, seed): threads, or None for any}; those
    `replaced` {name of the folder: version} are to be made anew."""
    jobs = []
    for one, seed in [(own, k) for own in study.made_here for k in own.seeds
                      if (own.name, k) in chosen]:
        words = ["--group", study.name, "--name", one.slug, "--seed", str(seed), "--logdir", logdir,
                 *one.words(seed)]
        threads = chosen[one.name, seed]
        jobs.append(make_job(one.script, [*words, *(["--threads", str(threads)] * bool(threads))],
                             (one.name, seed), replaced))
    return jobs


def attempt(run, words, output, folder, environment, stop):
    """Run a script in `folder` to its end, what it says into the file `output`; return (run, exit
    status, or what kept it from starting). It is asked to stop once the file `stop` is there."""
    try:
        with open(output, "wb") as stream:
            process = subprocess.Popen(
                [sys.executable, *words], stdin=subprocess.DEVNULL, stdout=stream, cwd=folder,
                stderr=subprocess.STDOUT, env={**os.environ, **environment})
    except OSError as error:
        return run, str(error)
    try:
        while process.poll() is None and not os.path.exists(stop):
            time.sleep(0.2)
    finally:  # it has ended, or the sweep is being stopped: then it saves
        process.terminate()
        process.wait()
    return run, process.returncode


# ------------------------------------------------------------------------------------ collecting

def status_of(job, failed):
    """Return "finished", "diverged", "failed" or "unfinished"."""
    return "finished" if job.finished else {None: "unfinished", 3: "diverged"}.get(
        failed.get(job.folder.name), "failed")


def varied(jobs, grid):
    """Return the names of the options that a grid names, or that are not the same in all jobs."""
    named = {axis.partition("=")[0].replace("-", "_") for axis in grid}
    names = [f.name for f in dataclasses.fields(jobs[0].config) if f.name not in ("name", "seed")]
    return [n for n in names if n in named or len({getattr(job.config, n) for job in jobs}) > 1]


def write_results(jobs, names, failed, out):
    """Write results.csv, one row a run, and the finished ones for TensorBoard's HParams tab, all
    with the same columns. names: the options shown."""
    rows = []
    for job in jobs:
        row = {"run": job.folder.name, "seed": job.config.seed, "status": status_of(job, failed)}
        row |= {name: as_text(getattr(job.config, name)) for name in names}
        if job.finished:
            try:
                row |= {"data": read_json(job.folder / "config.json")["data"]["title"]}
                row |= read_json(job.folder / "result.json")
            except (InputError, KeyError, TypeError):
                row["status"] = "damaged"  # the others are written
        rows.append(row)
    stored.write_csv(out / "results.csv", rows, ["run", "seed", *names])
    for folder in out.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    metrics = sorted({name for row in rows for name in row if isinstance(row[name], float)})
    for job, row in zip(jobs, rows):
        if row["status"] == "finished":
            log_hparams(out / row["run"], {n: row[n] if isinstance(getattr(job.config, n), tuple)
                                           else getattr(job.config, n) for n in names}
                        | {"seed": row["seed"]}, {name: row.get(name) for name in metrics})


def log_hparams(folder, values, metrics):
    """Log a run's hyper-parameters and final metrics for TensorBoard."""
    from tensorboard.plugins.hparams import api as hparams
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        hparams.hparams_config([hparams.HParam(name) for name in values],
                               [hparams.Metric(f"result/{name}") for name in metrics])
        hparams.hparams(values, trial_id=folder.name)
        for name, value in metrics.items():
            if value is not None:
                tf.summary.scalar(f"result/{name}", value, step=0)
    writer.close()


def verify(study, options):
    """Train some of a study's runs again, in a folder of their own; exit status 1 if one differs.
    """
    here = {one.name for one in study.made_here}
    rows = {(row["configuration"], row["seed"]): row for row in stored.rows(study, own=True)
            if row["configuration"] in here}
    chosen = random.sample(sorted(rows), min(options.verify, len(rows)))
    if not chosen:
        raise InputError(f"{study.file('.csv')} has no runs to verify")
    pathlib.Path(options.logdir).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.logdir) as folder:
        jobs = plan_study(study, folder, {key: rows[key].get("threads") for key in chosen})
        failed, status = run_jobs(jobs, options, pathlib.Path(folder)), 0
        for job in jobs:
            row, state = rows[job.row], status_of(job, failed)
            right, said = state == row["status"], f"{row['status']} there, {state} now"
            if right and job.finished:
                right, said = compare(row, job.folder, [
                    other for key, other in rows.items() if key[0] == job.row[0]])
            print(f"{'ok     ' if right else 'differs'}  {job.folder.name}: {said}")
            status = max(status, not right)
    return int(status)


def run_jobs(jobs, options, out, collect=lambda failed: None):
    """Run jobs and collect what they gave, also when stopped; return {run: what went wrong}."""
    def stop(number, _):
        raise Interrupted("stopped; the same command goes on", number)
    out.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise InputError(f"{out} is being filled by another process; wait for it, or choose "
                         "another --name or --logdir") from None
    connect(options)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    print(f"{len(jobs)} runs, {sum(job.finished for job in jobs)} of them finished", flush=True)
    failed = {}
    try:
        run_all(attempt, jobs, options, out, failed)
    finally:
        for run, status in failed.items():
            if not (status == 3 and jobs[0].row):  # to diverge is what a study may find
                reason = f"exit status {status}" if isinstance(status, int) else status
                print(f"sweep.py: {run} failed: {reason}; see {out / run}.txt", file=sys.stderr)
        try:
            check_alike([job.folder for job in jobs if job.finished])
            collect(failed)
        finally:
            lock.release()
    return failed


def sweep_study(study, options):
    """Make a study's runs and write them into its CSV and NPZ; exit status 1 if some failed."""
    there = {(row["configuration"], row["seed"]) for row in stored.rows(study, own=True)}
    wanted = {(one.name, seed): None for one in study.made_here for seed in one.seeds
              if options.again or (one.name, seed) not in there}
    wrong = [] if options.again else [*stored.contradictions(study)]
    if wrong:
        raise InputError(f"{study.file('.csv')}: {wrong[0]}; --again makes all runs anew")
    out = pathlib.Path(options.logdir) / "sweeps" / study.name
    again, replaced = out / "again", {}
    if options.again:  # the file, of what is to be replaced, lies there until all is made anew
        out.mkdir(parents=True, exist_ok=True)
        names = [one.runs()[seed] for one in study.made_here for seed in one.seeds]
        replaced = {name: version_of(out.parents[1] / study.name / name) for name in names}
        if again.exists():
            print(f"goes on with the --again that was stopped; without {again} it begins anew")
            replaced |= read_json(again)
        write_json(again, replaced)
    jobs = plan_study(study, options.logdir, wanted, replaced)
    print(f"{study.question}\n{len(there)} runs stand in {study.file('.csv')}")
    for one in study.own:
        if one.commit and (lost := sum((one.name, seed) not in there for seed in one.seeds)):
            print(f"note     {lost} of {one.name} need the code of commit {one.commit}")

    def write(failed):
        collect(study, {job.row: job.folder for job in jobs if job.finished},
                {job.row: job.folder for job in jobs if status_of(job, failed) == "diverged"})
        print(f"results  {study.file('.csv')}: python visualize.py study {study.name}")
    failed = run_jobs(jobs, options, out, write) if jobs else {}
    wrong = any(status != 3 for status in failed.values())
    if options.again and not wrong:
        again.unlink(missing_ok=True)
    return int(wrong)


def sweep(options):
    """Plan, run, collect: exit status 0, or 1 if runs failed. Raises InputError or Interrupted."""
    if not options.what.endswith(".py"):
        study = stored.load(options.what)
        return verify(study, options) if options.verify else sweep_study(study, options)
    jobs = plan(options)
    axes = [axis.partition("=")[0] for axis in options.grid]
    axes += [options.list.stem] if options.list else []
    name = options.name or "-".join([pathlib.Path(options.what).stem, *axes])
    out = pathlib.Path(options.logdir) / "sweeps" / name

    def write(failed):
        write_results(jobs, varied(jobs, options.grid), failed, out)
        print(f"results  {out / 'results.csv'}: {sum(job.finished for job in jobs)} of {len(jobs)} "
              f"runs finished\nhparams  tensorboard --logdir {out}")
    return int(bool(run_jobs(jobs, options, out, write)))


if __name__ == "__main__":
    sys.exit(main(sweep, options))
