"""What was decoded once."""
import multiprocessing

import numpy as np
import written
from written import grey

from sources import cache as cache_of_arrays
from sources import folders
from utils import load_images

cache, tree = written.cache, written.tree


def test_cache_is_used_renewed_and_rebuilt(tree, cache, monkeypatch):
    first = load_images(str(tree))
    file, = cache.glob("set-v*.npz")
    with monkeypatch.context() as context:
        context.setattr(folders, "decode_files", None)  # would fail if it were called
        assert load_images(str(tree)).checksum == first.checksum
    file.write_bytes(file.read_bytes()[:100])  # half a cache is no cache
    assert load_images(str(tree)).checksum == first.checksum
    content = bytearray(file.read_bytes())
    content[8] ^= 64  # a way of compression that nobody knows
    content[content.index(b"PK\1\2") + 10] ^= 64
    file.write_bytes(content)
    assert load_images(str(tree)).checksum == first.checksum
    (tree / "Train" / "2" / "0.png").write_bytes(grey(99))  # other content, other key
    assert load_images(str(tree)).train_images[0, 0, 0, 0] == 99
    assert not list(cache.glob("*.tmp"))


def test_unwritable_cache_is_no_error(tree, cache):
    cache.write_text("a file where the folder should be")
    assert len(load_images(str(tree)).train_images) == 4


def test_two_processes_that_fill_the_cache_at_once_do_not_meet(cache):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)

    def fill():
        def decode():
            barrier.wait(30)
            return (np.arange(100_000),)
        made, = cache_of_arrays.cached("x", "key", decode)
        assert made.tolist() == list(range(100_000))
    both = [context.Process(target=fill) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    file, = cache.iterdir()
    assert cache_of_arrays.cached("x", "key", None)[0].tolist() == list(range(100_000))
