"""The downloader against a local server that misbehaves."""
import hashlib
import http.server
import multiprocessing
import re
import threading
import time

import filelock
import pytest
from conftest import SOURCES

from sources import cifar, mnist
from sources.download import Unavailable, download
from utils import load_images

CONTENT = bytes(range(256)) * 4000  # about 1 MB
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT at /<behaviour>; `requests` are the behaviours it was asked for."""
    requests = []

    def do_GET(self):
        behaviour = self.path.strip("/")
        self.requests.append(behaviour)
        if behaviour == "missing":
            self.send_error(404)
            return
        body = CONTENT if behaviour != "wrong" else CONTENT[::-1]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:300_000])
        if behaviour == "stuck":
            time.sleep(2)
        if behaviour == "slow":
            time.sleep(0.5)
        if behaviour not in ("cut", "stuck"):
            self.wfile.write(body[300_000:])

    def log_message(self, *_):
        pass


@pytest.fixture
def url():
    Server.requests.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def wait_for(condition):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("nothing happened in ten seconds")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "elec677", "mnist"])
def test_data_sets_come_by_https_and_count_by_their_hash(name, tmp_path, monkeypatch):
    def note(url, path, md5):
        asked.append((url, md5))
        raise Unavailable("not now")
    asked = []
    for module in (cifar, mnist):
        monkeypatch.setattr(module, "download", note)
    with pytest.raises(Unavailable, match="not now"):
        load_images(name, tmp_path)
    (url, md5), = asked
    for digest in [md5, *(one for one, _ in mnist.MD5.values())]:
        assert url.startswith("https://") and re.fullmatch("[0-9a-f]{32}", digest)


def test_nothing_else_reaches_the_network():
    for file in SOURCES:
        code = file.read_text(encoding="utf-8")
        assert "http://" not in code and (file.stem == "download" or not re.search(
            r"(import|from) (pooch|requests|urllib|http|socket)\b", code))


def test_whole(url, tmp_path):
    download(f"{url}/whole", tmp_path / "new" / "file", MD5)
    assert (tmp_path / "new" / "file").read_bytes() == CONTENT
    assert names(tmp_path / "new") == ["file"] and len(Server.requests) == 1


@pytest.mark.parametrize("behaviour, word", [
    ("wrong", f"published MD5 {MD5}"), ("missing", "404|Not Found"), ("stuck", "timed out"),
    ("cut", r"300000 bytes read, 724000 more expected")])
def test_what_is_not_the_file_is_one_line_and_leaves_nothing(url, tmp_path, behaviour, word):
    with pytest.raises(Unavailable, match=word) as caught:
        download(f"{url}/{behaviour}", tmp_path / "file", MD5, timeout=0.5)
    message = str(caught.value)
    assert "\n" not in message and names(tmp_path) == []
    assert f"cannot download {url}/{behaviour}" in message  # what ...
    assert message.endswith(f"put it at {tmp_path / 'file'}")  # ... where to


def test_no_server(tmp_path):
    with pytest.raises(Unavailable, match="refused.*put it at") as caught:
        download("http://127.0.0.1:9/file", tmp_path / "file", MD5)
    assert "\n" not in str(caught.value) and names(tmp_path) == []


def test_unwritable_folder(url, tmp_path):
    (tmp_path / "file").write_text("a file where the folder should be")
    with pytest.raises(Unavailable, match="cannot write"):
        download(f"{url}/whole", tmp_path / "file" / "x", MD5)


def test_what_is_there_is_not_fetched_again(url, tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    download(f"{url}/whole", tmp_path / "file", MD5)
    assert Server.requests == [] and names(tmp_path) == ["file"]


def test_two_processes_at_once(url, tmp_path):
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=download, args=(f"{url}/slow", tmp_path / "file", MD5))
            for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(30)
    assert [process.exitcode for process in both] == [0, 0]
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(Server.requests) == 1 and names(tmp_path) == ["file"]


@pytest.mark.parametrize("first_succeeds", [True, False])
def test_the_second_waits_until_the_first_ends(url, tmp_path, first_succeeds):
    with filelock.FileLock(tmp_path / "file.lock"):
        second = threading.Thread(target=download, args=(f"{url}/whole", tmp_path / "file", MD5))
        second.start()
        time.sleep(0.3)
        assert second.is_alive() and Server.requests == []
        if first_succeeds:
            (tmp_path / "file").write_bytes(CONTENT)
        (tmp_path / "file.lock").unlink()
    second.join(30)
    assert (tmp_path / "file").read_bytes() == CONTENT and names(tmp_path) == ["file"]
    assert len(Server.requests) == (not first_succeeds)


def test_a_killed_process_leaves_no_half_file_and_hinders_nobody(url, tmp_path):
    first = multiprocessing.get_context("fork").Process(
        target=download, args=(f"{url}/stuck", tmp_path / "file", MD5))
    first.start()
    wait_for(lambda: (tmp_path / "file.part").exists() and (tmp_path / "file.part").stat().st_size)
    first.kill()
    first.join(30)
    assert names(tmp_path) == ["file.lock", "file.part"]
    download(f"{url}/whole", tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT and names(tmp_path) == ["file"]
