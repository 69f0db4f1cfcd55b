"""Fetching a data set once: resumed after a cut, checked, and safe for two processes at a time."""
import contextlib
import fcntl
import hashlib
import http.client
import os
import pathlib
import urllib.error
import urllib.request

from tqdm import tqdm

from runs import InputError, first_line


class Unavailable(InputError):
    """The data set is neither on disk nor to be downloaded (as opposed to there, but damaged)."""


def download(url, path, md5, connect_timeout=10, attempts=3):
    """Fetch `url` to `path` atomically, checking its MD5; a cut transfer is resumed.

    The bytes gather in `<path>.part`, which is locked: of two processes the second waits and finds
    the file. Raises Unavailable if the server cannot be reached or keeps sending something else.
    """
    path = pathlib.Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _open_locked(f"{path}.part") as part:
            if path.exists():
                os.unlink(part.name)
                return
            for attempt in range(attempts):
                try:
                    _fetch(url, part, connect_timeout)
                except (http.client.HTTPException, OSError) as error:
                    reason = first_line(error)
                    if isinstance(error, urllib.error.URLError) or attempt == attempts - 1:
                        break
                    continue
                with open(part.name, "rb") as content:
                    if hashlib.file_digest(content, "md5").hexdigest() == md5:
                        os.replace(part.name, path)
                        return
                part.truncate(0)
                reason = f"what it sent has not the published MD5 {md5}"
            if not os.path.getsize(part.name):
                os.unlink(part.name)
    except OSError as error:
        raise Unavailable(f"cannot write {path} ({first_line(error)})") from error
    raise Unavailable(f"cannot download {url} ({reason}); fetch it by other means and put it "
                      f"at {path}")


def _open_locked(name):
    """Open `name` for appending, alone: another process's lock is waited for, and as that one may
    have renamed or removed the file meanwhile, it is opened anew until lock and name agree."""
    while True:
        file = open(name, "ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(name)):
                return file
        file.close()


def _fetch(url, part, timeout):
    """Append to the open file `part` what is missing of `url`; raise if the connection is cut."""
    have = os.path.getsize(part.name)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is missing; the checksum decides
        raise
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            part.truncate(0)
            have = 0
        size = int(response.headers.get("Content-Length", 0))
        with tqdm(desc=pathlib.Path(url).name, initial=have, total=have + size or None,
                  unit="B", unit_scale=True, disable=None, leave=False) as bar:
            while chunk := response.read(1 << 16):
                part.write(chunk)
                bar.update(len(chunk))
        part.flush()
    if size and os.path.getsize(part.name) < have + size:
        raise ConnectionError(f"cut after {os.path.getsize(part.name):,} of {have + size:,} bytes")
