"""Download a file once and check its hash."""
import contextlib
import os
import pathlib

from system.command_line import InputError, first_line


class Unavailable(InputError):
    """A data set that is neither on the disk nor can be downloaded (not: there, but damaged)."""


def download(url, path, md5, timeout=10):
    """Download `url` to `path` unless it is there; of two processes the second waits for the first.

    The bytes gather in `<path>.part`, which gets its name once its MD5 is right. An interrupted
    transfer begins anew: pooch cannot resume. timeout: seconds without an answer. Raises
    Unavailable if the server does not send the file or the disk does not take it.
    """
    import filelock
    path, part, lock = (pathlib.Path(f"{path}{ending}") for ending in ("", ".part", ".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()  # filelock would wait for ever where no file can be made
        with filelock.FileLock(lock):
            try:
                if not path.exists():
                    reason = _fetch(url, part, md5, timeout)
                    if reason:
                        raise Unavailable(f"cannot download {url} ({reason}); run again, or fetch "
                                          f"it by other means and put it at {path}")
                    os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # Windows keeps an open file, then removes it
                    lock.unlink()
    except OSError as error:
        raise Unavailable(f"cannot write {path} ({first_line(error)})") from error


def _fetch(url, part, md5, timeout):
    """Download `url` to `part`; return why it failed, or "".

    The temporary file of pooch.retrieve has another name each time, so that a killed process would
    leave it behind for good; hence pooch's downloader and hash alone.
    """
    import pooch
    import requests

    from system.progress import Progress
    with Progress(desc=pathlib.Path(url).name, total=1, unit="B", unit_scale=True) as bar:
        # pooch sets the total, but takes no bar without one
        fetch = pooch.HTTPDownloader(bar, chunk_size=1 << 16, timeout=timeout,
                                     headers={"Accept-Encoding": "identity"})  # as it lies there
        try:
            fetch(url, str(part), None)
        except requests.RequestException as error:
            return _cause(error)
    if pooch.file_hash(str(part), alg="md5") != md5:
        return f"what it sent does not have the published MD5 {md5}"
    return ""


def _cause(error):
    """Return the message of the first error in a chain: "[Errno 111] Connection refused"."""
    while error.__context__:
        error = error.__context__
    return first_line(error)
