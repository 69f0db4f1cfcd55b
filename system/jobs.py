"""Run scripts as processes of their own, several at a time, on this machine or a cluster."""
import collections
import contextlib
import os
from concurrent.futures import ThreadPoolExecutor, as_completed

import joblib

from system.command_line import InputError, Interrupted, first_line
from system.files import ROOT, read_json
from system.progress import Progress


def command(job, cores):
    """Return the words of a job's process. A run that goes on keeps the threads it began with,
    which rounding depends on."""
    if job.begun:
        options = read_json(job.folder / "config.json").get("options")
        cores = options.get("threads", cores) if isinstance(options, dict) else cores
    given = any(word.split("=")[0] == "--threads" for word in job.words)
    return [*job.words, *([] if given else ["--threads", str(cores)]),
            "--resume" if job.begun or not job.old else "--overwrite"]


def connect(options):
    """Make dask joblib's backend; InputError if its package or the cluster is not there."""
    if options.backend == "dask":
        try:
            import distributed
            distributed.Client(options.address, timeout=10)
        except ImportError as error:
            raise InputError("--backend dask needs pip install -r requirements-dev.txt "
                             f"({error})") from error
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"no dask cluster at {options.address}: {first_line(error)}"
                             ) from error


def _results(attempt, calls, options, stop):
    """Yield what attempt(*call) returns, of each call as it ends; at most options.jobs are under
    way. Left before its end, it tells those to stop, by the file `stop`, and waits for them."""
    if options.backend == "dask":
        with joblib.parallel_config("dask", n_jobs=options.jobs):
            yield from joblib.Parallel(return_as="generator_unordered", batch_size=1,
                                       pre_dispatch=options.jobs)(
                joblib.delayed(attempt)(*call) for call in calls)
        return
    if options.jobs == 1:
        yield from (attempt(*call) for call in calls)
        return
    pool = ThreadPoolExecutor(options.jobs)  # a thread waits for each process
    try:
        yield from (future.result() for future in as_completed(
            [pool.submit(attempt, *call) for call in calls]))
    except (Interrupted, KeyboardInterrupt, GeneratorExit):
        stop.touch()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def run_all(attempt, jobs, options, out, failed):
    """Run the jobs, again those that fail, as often as asked; fill failed {run: exit status or what
    went wrong}.

    attempt: as in sweep.py, whose functions dask sends to workers that cannot import the project.
    At most options.jobs are under way. When a worker is lost, the runs that may have been its own
    count as tried, and the others go on.
    """
    environment = {name: os.environ[name] for name in ("DATA_DIR",) if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    tries, stop = collections.Counter(), out / "stop"
    stop.unlink(missing_ok=True)
    with Progress(total=len(jobs), unit="run") as bar:
        while pending := {job.folder.name: job for job in jobs if not job.finished
                          and tries[job.folder.name] <= options.retries}:
            bar.update(len(jobs) - sum(not job.finished for job in jobs) - bar.n)
            calls = [(name, command(job, options.cores), str((out / f"{name}.txt").resolve()),
                      os.getcwd(), environment, str(stop.resolve()))
                     for name, job in pending.items()]
            try:
                with contextlib.closing(_results(attempt, calls, options, stop)) as results:
                    for name, status in results:
                        job = pending.pop(name)
                        tries[name] += 1
                        failed[name] = status or (
                            f"it ended well, but left no result in {job.folder}; does its Run(...) "
                            "name another script?")
                        if status == 0 and job.finished:
                            del failed[name]
                            bar.update()
                        diverged = [*failed.values()].count(3)  # their exit status
                        bar.set_postfix(diverged=diverged, failed=len(failed) - diverged)
            except (Interrupted, KeyboardInterrupt):
                stop.touch()  # runs on other machines see it and save
                raise
            except Exception as error:  # of a type of the backend's own, when it loses a worker
                for name in list(pending)[:options.jobs]:
                    tries[name] += 1
                    failed[name] = f"its worker was lost ({first_line(error)})"
    for job in jobs:
        if job.finished:  # its worker may have been lost just after
            failed.pop(job.folder.name, None)
