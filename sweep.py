"""Many runs of one experiment: every combination of some options, several seeds each.

    python sweep.py cifar_lenet5.py --grid kernel-size=5,7,9 flip=yes,no --seeds 0 1 2
    python sweep.py mnist_rnn.py --list runs.txt --seeds 0 1 2 3 4 -- --samples 300000

Options after -- go to all runs, as on the experiment's own command line. A grid's values are
separated by commas, the parts of one value by spaces ("filters=32 64,16 32"); a flag's are yes and
no. A list has the options of one configuration a line; # begins a comment.

Each run is a process of its own. Finished runs are skipped and interrupted ones resumed, so the
same command goes on after a stop. What was found stands in logs/sweeps/<name>/: results.csv, one
row a run, and the varied options with the final metrics for TensorBoard's HParams tab.

Exit status: 0, 1 if runs failed (they are listed), 2 for bad input, 130 / 143 if stopped.
"""
import argparse
import collections
import csv
import dataclasses
import importlib
import io
import itertools
import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

import machine
import runs
from options import Parser, as_text, is_plain, parse

EXPERIMENTS = ("cifar_lenet5.py", "mnist_rnn.py", "transfer.py")


def command_line(words):
    """The options of a sweep; bad ones exit 2 with one line. What follows -- is options.common."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--grid", nargs="+", default=[], metavar="OPTION=VALUES",
                        help="options to combine, each with its values")
    parser.add_argument("--list", type=pathlib.Path, metavar="FILE",
                        help="file with one configuration a line, each combined with the grid")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="(default: 0)")
    parser.add_argument("--name", help="folder of the results, which replace those of an earlier "
                        "sweep of this name (default: the varied options)")
    parser.add_argument("--logs", default="logs", help="folder of all runs (default: logs)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default: 1)")
    parser.add_argument("--cores", type=int, help="cores of each run (default: this machine's, "
                        "divided by --jobs)")
    parser.add_argument("--retries", type=int, default=0, help="how often a run that failed or was "
                        "killed is tried again (default: 0)")
    parser.add_argument("--backend", choices=("loky", "dask", "ray"), default="loky",
                        help="loky: this machine; dask, ray: a running cluster whose machines "
                        "share this folder (default: loky)")
    parser.add_argument("--address", help="of the cluster: dask's scheduler, ray's head")
    cut = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:cut])
    options.common = words[cut + 1:]
    if options.cores is None:
        options.cores = max(1, machine.cores() // max(1, options.jobs))
    for name, low in (("jobs", 1), ("retries", 0), ("cores", 1)):
        if getattr(options, name) < low:
            parser.error(f"--{name} must be at least {low}")
    if options.name is not None and not is_plain(options.name):
        parser.error("--name must be a plain folder name")
    if options.backend == "ray" and options.jobs < 2:
        parser.error("--backend ray needs --jobs of at least 2")
    if options.backend == "dask" and not options.address:
        parser.error("--backend dask needs the --address of its scheduler")
    try:
        options.lines = options.list.read_text().splitlines() if options.list else []
    except (OSError, ValueError) as error:
        parser.error(f"--list {options.list}: {runs.first_line(error)}")
    return options


if __name__ == "__main__":  # --help answers before the slow imports below
    for number in (signal.SIGINT, signal.SIGTERM):  # while there is nothing to stop yet
        signal.signal(number, lambda number, _: os._exit(128 + number))
    options = command_line(sys.argv[1:])

with machine.quiet_import():
    import joblib
    import tensorflow as tf
    from tensorboard.plugins.hparams import api as hparams
    from tqdm import tqdm


@dataclasses.dataclass(frozen=True)
class Job:
    """One run to be made: its options as parsed, its folder, its command line."""
    config: object
    folder: pathlib.Path
    words: list

    @property
    def finished(self):
        return (self.folder / "result.json").exists()


def combinations(grid, lines):
    """The option words of every configuration: each line combined with each point of the grid.

    combinations(["kernel-size=5,7"], ["--no-flip"]) = [["--no-flip", "--kernel-size", "5"], ...]
    """
    try:
        axes = [[shlex.split(line) for line in lines] or [[]]]
        for axis in grid:
            name, _, values = axis.partition("=")
            if not name or not values:
                raise runs.InputError(f"--grid {axis!r} is not OPTION=VALUE,VALUE,...")
            axes.append([{"yes": [f"--{name}"], "no": [f"--no-{name}"]}.get(
                value, [f"--{name}", *shlex.split(value)]) for value in values.split(",")])
    except ValueError as error:
        raise runs.InputError(f"--list or --grid: {error}") from error
    return [sum(point, []) for point in itertools.product(*axes)]


def plan(options):
    """The jobs of a command line, in order; InputError or exit 2 if an option is not right."""
    experiment = importlib.import_module(pathlib.Path(options.experiment).stem)
    positional = {f"--{field.name}" for field in dataclasses.fields(experiment.Config)
                  if field.metadata["positional"]}
    lines = [line.partition("#")[0].strip() for line in options.lines]
    jobs = {}
    for words in combinations(options.grid, filter(None, lines)):
        for seed in options.seeds:
            words_of_run = [*options.common, "--logs", options.logs, "--seed", str(seed),
                            *(word for word in words if word not in positional)]
            config = parse(experiment.Config, experiment.RECIPES, words_of_run)
            folder = runs.folder_of(experiment.__name__, config)
            if folder in jobs and jobs[folder].config != config:
                raise runs.InputError(f"two configurations share the folder {folder}; vary options "
                                      "that its name states, or give each a --name")
            jobs[folder] = Job(config, folder, [options.experiment, *words_of_run])
            check_options(folder, config)
    return list(jobs.values())


def check_options(folder, config):
    """InputError if a run that is already there was made with other options."""
    if (folder / "config.json").exists():
        stored = runs.read_json(folder / "config.json").get("options")
        for name, value in stored.items() if isinstance(stored, dict) else ():
            asked = getattr(config, name, value)
            if name != "replicas" and value != (list(asked) if isinstance(asked, tuple) else asked):
                raise runs.InputError(f"{folder} was made with {name}={value!r}, not {asked!r}; "
                                      "move it away, or give this configuration another --name")


def command(job, cores):
    """The words of a job's process. A run that goes on keeps the replicas it began with, which
    rounding depends on."""
    script, *words = job.words
    begun = job.folder / "config.json"
    if begun.exists():
        cores = runs.read_json(begun).get("options", {}).get("replicas", cores)
    given = any(word.split("=")[0] == "--replicas" for word in words)
    return [str(runs.ROOT / script), *words, *([] if given else ["--replicas", str(cores)]),
            "--resume"]


def attempt(run, words, output, folder, environment, stop):
    """Run a script in `folder` to its end, what it says into the file `output`: (run, exit status,
    or what kept it from starting). It is asked to stop once the file `stop` is there."""
    try:
        with open(output, "w") as stream:
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


def connect(backend, address):
    """Make a cluster joblib's backend; InputError if its package or the cluster is not there."""
    try:
        if backend == "dask":
            import distributed
            distributed.Client(address, timeout=10)
        elif backend == "ray":
            import ray
            from ray.util.joblib import register_ray
            if address:  # ray itself would try for minutes
                host, _, port = address.rpartition(":")
                socket.create_connection((host, int(port)), 10).close()
            ray.init(address=address or "auto", logging_level="ERROR", log_to_driver=False)
            register_ray()
    except ImportError as error:
        raise runs.InputError(f"--backend {backend} needs pip install -r requirements-cluster.txt "
                              f"({error})") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise runs.InputError(f"no {backend} cluster at {address or 'the default address'}: "
                              f"{runs.first_line(error)}") from error


def run_all(jobs, options, out, failed):
    """Run the jobs, again those that fail, as often as asked; fills failed {run: exit status or
    what went wrong}.

    At most options.jobs are under way. When a worker is lost, the runs that may have been its own
    count as tried, and the others go on.
    """
    environment = {name: os.environ[name] for name in ("DATA_DIR",) if name in os.environ}
    how = "list" if options.backend == "ray" else "generator_unordered"  # all that ray can do
    tries, stop = collections.Counter(), out / "stop"
    stop.unlink(missing_ok=True)
    with tqdm(total=len(jobs), unit="run", disable=None) as bar:
        while pending := {job.folder.name: job for job in jobs if not job.finished
                          and tries[job.folder.name] <= options.retries}:
            bar.update(len(jobs) - sum(not job.finished for job in jobs) - bar.n)
            tasks = [joblib.delayed(attempt)(
                name, command(job, options.cores), str((out / f"{name}.txt").resolve()),
                os.getcwd(), environment, str(stop.resolve())) for name, job in pending.items()]
            try:
                with joblib.parallel_config(options.backend, n_jobs=options.jobs):
                    for name, status in joblib.Parallel(return_as=how, batch_size=1,
                                                        pre_dispatch=options.jobs)(tasks):
                        del pending[name]
                        tries[name] += 1
                        failed[name] = status
                        if status == 0:
                            del failed[name]
                            bar.update()
                        bar.set_postfix(failed=len(failed))
            except (runs.Interrupted, KeyboardInterrupt):
                stop.touch()  # runs on other machines see it and save
                raise
            except Exception as error:  # of a type of the backend's own, when it loses a worker
                for name in list(pending)[:options.jobs]:
                    tries[name] += 1
                    failed[name] = f"its worker was lost ({runs.first_line(error)})"
    for job in jobs:
        if job.finished:  # its worker may have been lost just after
            failed.pop(job.folder.name, None)


def varied(jobs, grid):
    """Names of the options that a grid names, or that are not the same in all jobs."""
    named = {axis.partition("=")[0].replace("-", "_") for axis in grid}
    names = [f.name for f in dataclasses.fields(jobs[0].config) if f.name not in ("name", "seed")]
    return [n for n in names if n in named or len({getattr(job.config, n) for job in jobs}) > 1]


def results_of(folder):
    """A finished run's metrics, and what data they are of."""
    data = runs.read_json(folder / "config.json")["data"]["title"]
    return {"data": data, **runs.read_json(folder / "result.json")}


def write_results(jobs, names, failed, out):
    """results.csv, one row a run, and the finished ones for TensorBoard's HParams tab.

    names: the options shown. The column `status` says "finished", "diverged", "failed" or
    "unfinished".
    """
    rows = []
    for job in jobs:
        status = {None: "unfinished", 3: "diverged"}.get(failed.get(job.folder.name), "failed")
        rows.append({"run": job.folder.name, "seed": job.config.seed}
                    | {n: as_text(getattr(job.config, n)) for n in names}
                    | {"status": "finished" if job.finished else status}
                    | (results_of(job.folder) if job.finished else {}))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    with runs.atomic_file(out / "results.csv") as stream:
        stream.write(text.getvalue().encode())
    for folder in out.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    for job, row in zip(jobs, rows):
        if not job.finished:
            continue
        values = {n: getattr(job.config, n) for n in ("seed", *names)}
        writer = tf.summary.create_file_writer(str(out / row["run"]))
        with writer.as_default():
            hparams.hparams({n: as_text(v) if isinstance(v, tuple) else v
                             for n, v in values.items()}, trial_id=row["run"])
            for name in columns:
                if isinstance(row.get(name), float):
                    tf.summary.scalar(f"result/{name}", row[name], step=0)
        writer.close()


def sweep(options):
    """Plan, run, collect: exit status 0, or 1 if runs failed. Raises InputError or Interrupted."""
    def stop(number, _):
        raise runs.Interrupted("stopped; the same command goes on", number)
    jobs = plan(options)
    axes = [axis.partition("=")[0] for axis in options.grid]
    axes += [options.list.stem] if options.list else []
    name = options.name or "-".join([pathlib.Path(options.experiment).stem, *axes])
    out = pathlib.Path(options.logs) / "sweeps" / name
    out.mkdir(parents=True, exist_ok=True)
    connect(options.backend, options.address)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    print(f"{len(jobs)} runs, {sum(job.finished for job in jobs)} of them finished")
    failed = {}
    try:
        run_all(jobs, options, out, failed)
    finally:
        write_results(jobs, varied(jobs, options.grid), failed, out)
        print(f"results  {out / 'results.csv'}: {sum(job.finished for job in jobs)} of {len(jobs)} "
              f"runs finished\nhparams  tensorboard --logdir {out}")
    for run, status in failed.items():
        reason = f"exit status {status}" if isinstance(status, int) else status
        print(f"sweep.py: {run} failed: {reason}; see {out / run}.txt", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(runs.main(sweep, options))
