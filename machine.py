"""The machine: its cores, and TensorFlow's import and threads upon it."""
import contextlib
import gc
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is imported


def cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def cpu_info():
    """What Linux says of the processor; elsewhere nothing."""
    with contextlib.suppress(OSError):
        return pathlib.Path("/proc/cpuinfo").read_text()
    return ""


def has_bfloat16():
    """Whether the processor multiplies bfloat16 in hardware (as far as is known; Linux only)."""
    return "bf16" in cpu_info()


def use_replicas(count):
    """One thread an operation and `count` operations at a time; before TensorFlow is imported."""
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
    os.environ["TF_NUM_INTEROP_THREADS"] = str(count)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # NumPy's products round by it too
        os.environ[name] = str(count)


@contextlib.contextmanager
def quiet_import():
    """Import Keras and TensorFlow in here: in silence, and two seconds sooner than without.

    TensorFlow 2.21 greets on stderr whatever TF_CPP_MIN_LOG_LEVEL says (its issue 100442). Keras
    imports scikit-learn and Matplotlib for wrappers of its own and does without where they are not
    installed, as they seem to be while this lasts. What is imported stays for good, so that
    Python's collector of garbage need not look at it, neither now nor later.
    """
    gc.disable()
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    unseen = {"sklearn", "matplotlib"} - set(sys.modules)
    try:
        os.dup2(null, 2)
        sys.modules.update(dict.fromkeys(unseen))  # None: importing it raises ImportError
        yield
    finally:
        for name in unseen:
            del sys.modules[name]
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
        gc.freeze()
        gc.enable()
