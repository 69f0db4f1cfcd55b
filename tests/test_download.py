"""The downloader against a local server that misbehaves."""
import fcntl
import hashlib
import http.server
import multiprocessing
import os
import pathlib
import threading
import time

import pytest

from download import Unavailable, download

CONTENT = bytes(range(256)) * 4000  # about 1 MB
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT at /<behaviour>; `requests` are the Range headers it was sent."""
    requests = []

    def do_GET(self):
        behaviour, wanted = self.path.strip("/"), self.headers.get("Range")
        self.requests.append(wanted)
        if behaviour == "missing":
            self.send_error(404)
            return
        body = CONTENT if behaviour != "wrong" else CONTENT[::-1]
        begin = int(wanted.split("=")[1].rstrip("-")) if wanted and behaviour != "no-range" else 0
        if begin >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(body) - begin))
        self.end_headers()
        cut = behaviour in ("cut", "no-range") and len(self.requests) == 1
        self.wfile.write(body[begin:begin + 300_000] if cut else body[begin:])

    def log_message(self, *_):
        pass


@pytest.fixture
def url():
    Server.requests.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_whole(url, tmp_path):
    download(f"{url}/whole", tmp_path / "new" / "file", MD5)
    assert (tmp_path / "new" / "file").read_bytes() == CONTENT
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["file"]
    assert len(Server.requests) == 1


def test_cut_transfer_is_resumed(url, tmp_path):
    download(f"{url}/cut", tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert Server.requests == [None, "bytes=300000-"]


def test_cut_transfer_is_restarted_where_the_server_cannot_resume(url, tmp_path):
    download(f"{url}/no-range", tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_leftover_of_a_killed_process_is_used(url, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT[:500_000])
    download(f"{url}/whole", tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT and Server.requests == ["bytes=500000-"]


@pytest.mark.parametrize("leftover", [CONTENT, CONTENT + b"more", b"x" * 1000])
def test_complete_or_foreign_leftover(url, tmp_path, leftover):
    (tmp_path / "file.part").write_bytes(leftover)
    download(f"{url}/whole", tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("behaviour, word", [("wrong", "MD5"), ("missing", "404|Not Found")])
def test_wrong_content_leaves_nothing(url, tmp_path, behaviour, word):
    with pytest.raises(Unavailable, match=word) as caught:
        download(f"{url}/{behaviour}", tmp_path / "file", MD5)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_no_server(tmp_path):
    with pytest.raises(Unavailable, match="put it at"):
        download("http://127.0.0.1:9/file", tmp_path / "file", MD5)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder(url, tmp_path):
    (tmp_path / "file").write_text("a file where the folder should be")
    with pytest.raises(Unavailable, match="cannot write"):
        download(f"{url}/whole", tmp_path / "file" / "x", MD5)


def test_two_processes_at_once(url, tmp_path):
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=download, args=(f"{url}/whole", tmp_path / "file", MD5))
            for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(30)
    assert [process.exitcode for process in both] == [0, 0]
    assert pathlib.Path(tmp_path / "file").read_bytes() == CONTENT
    assert len(Server.requests) == 1 and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_is_there_is_not_fetched_again(url, tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    download(f"{url}/whole", tmp_path / "file", MD5)
    assert Server.requests == [] and [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("leave", [os.unlink, lambda part: os.rename(part, part.with_name("file"))])
def test_the_first_of_two_ends_while_the_second_waits(url, tmp_path, leave):
    """The second holds the lock of a file that is no longer called .part."""
    part = tmp_path / "file.part"
    with open(part, "wb") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = threading.Thread(target=download, args=(f"{url}/whole", tmp_path / "file", MD5))
        second.start()
        time.sleep(0.3)
        first.write(CONTENT)
        leave(part)
    second.join(30)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
