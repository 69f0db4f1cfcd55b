"""Know the processor, and import TensorFlow late, quietly and quickly.

Once this module is imported, `import tensorflow` and `import keras` cost nothing, wherever they
stand, until something of them is first used.
"""
import contextlib
import ctypes
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import math
import os
import pathlib
import platform
import re
import sys
import threading
import types

import threadpoolctl

from system.command_line import InputError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is imported


def cores():
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def give_memory_back():
    """Give what was freed back to the system, where the C library keeps it (glibc)."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def cpu_info():
    """Return what Linux says of the processor; elsewhere an empty text."""
    with contextlib.suppress(OSError):
        return pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return ""


def processor():
    """Return the processor's name, as Linux or else Python gives it."""
    names = [line.partition(":")[2].strip() for line in cpu_info().splitlines()
             if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def facts():
    """Return what about this machine and its libraries may change a number or a time."""
    settings = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS",
                "OPENBLAS_NUM_THREADS", "TF_ENABLE_ONEDNN_OPTS")
    requirements = pathlib.Path(__file__).resolve().parents[1] / "requirements.txt"
    packages = re.findall("^(.+)==", requirements.read_text(encoding="utf-8"), re.M)
    return dict(
        processor=processor(), cores=cores(), memory=total_memory(), system=platform.platform(),
        settings={name: os.environ[name] for name in settings if name in os.environ},
        versions={"python": platform.python_version(),
                  **{name: importlib.metadata.version(name) for name in packages}})


def total_memory():
    """Return how many bytes of memory this machine has; None where the system does not say."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def has_bfloat16():
    """Return whether the processor multiplies bfloat16 in hardware (as far as Linux says)."""
    return "bf16" in cpu_info()


def free_memory():
    """Return how many bytes this process may still take, as Linux says; elsewhere infinity."""
    free = math.inf
    with contextlib.suppress(OSError, TypeError):
        said = pathlib.Path("/proc/meminfo").read_text(encoding="utf-8")
        free = 1024 * int(re.search(r"MemAvailable:\s+(\d+)", said)[1])
    with contextlib.suppress(OSError, ValueError, TypeError):  # a container's limit
        limit, used, said = (pathlib.Path("/sys/fs/cgroup", name).read_text(encoding="utf-8")
                             for name in ("memory.max", "memory.current", "memory.stat"))
        cached = int(re.search(r"^inactive_file (\d+)", said, re.M)[1])  # given up when asked for
        free = min(free, int(limit) - int(used) + cached)
    return free


def check_memory(needed, what, remedy, force=None):
    """Raise InputError if `what` needs more bytes than are free, unless `force`d; None where that
    is no option."""
    free = free_memory()
    if needed > free and not force:
        raise InputError(f"{what} would take {needed / 1e9:,.1f} GB of memory, {free / 1e9:,.1f} "
                         f"GB are free; {remedy}"
                         + ", or --force tries it" * (force is not None))


def use_threads(count):
    """Give each operation one thread and run `count` operations at a time.

    To be called before TensorFlow is first used. NumPy's products round by their threads too.
    """
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
    os.environ["TF_NUM_INTEROP_THREADS"] = str(count)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # of libraries yet to be loaded
        os.environ[name] = str(count)
    threadpoolctl.threadpool_limits(count)


@contextlib.contextmanager
def quiet_import():
    """Import Keras and TensorFlow in here: in silence, and two seconds sooner than without.

    TensorFlow 2.21 greets on stderr whatever TF_CPP_MIN_LOG_LEVEL says (its issue 100442). Keras
    imports scikit-learn and Matplotlib for wrappers of its own and does without where they are not
    installed, as they seem to be while this lasts. What is imported stays for good, so that
    Python's garbage collector need not look at it, neither now nor later.
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


class _Late(types.ModuleType):
    """TensorFlow or Keras, not imported yet: that happens when something of it is first used."""
    lock = threading.RLock()

    def __getattr__(self, name):
        self._import()
        return types.ModuleType.__getattribute__(self, name)

    def __reduce__(self):  # joblib and dask send functions that use it to other processes
        return importlib.import_module, (self.__name__,)

    def _import(self):
        with self.lock:  # a second thread waits until all of it is there
            if vars(self).pop("_is_late", False):
                with quiet_import():
                    self.__spec__.loader.real.exec_module(self)
                self.__class__ = types.ModuleType


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes the modules of `names` _Late, until one of their submodules is imported."""
    names = "tensorflow", "keras"

    def __init__(self, real=None):
        self.real = real  # the loader of a module that is _Late

    def find_spec(self, name, path=None, target=None):
        top, _, below = name.partition(".")
        if top not in self.names:
            return None
        if below:
            late = sys.modules.get(top)  # to wait here, holding the import lock, could be for ever
            if isinstance(late, _Late) and _Late.lock.acquire(blocking=False):
                try:
                    late._import()
                finally:
                    _Late.lock.release()
            return None
        spec = importlib.machinery.PathFinder.find_spec(name)
        if spec is not None:
            spec.loader = _Finder(spec.loader)
        return spec

    def create_module(self, spec):
        return _Late(spec.name)

    def exec_module(self, module):
        module._is_late = True


sys.meta_path.insert(0, _Finder())
