"""Damaged files of every form, at random but always the same."""
import pytest
import written
from fuzz import fuzz

cache = written.cache


@pytest.mark.slow
def test_whatever_is_damaged_is_read_or_refused_in_one_line(tmp_path, capfd):
    """Of 300 inputs, by all readers; more by `python tests/fuzz.py`."""
    counts = fuzz(0, 300, tmp_path)
    assert capfd.readouterr().out == "" and counts.total() == 300
    assert len({what.rpartition(" ")[0] for what, _ in counts}) == len(written.forms())
    for result in ("read", "refused"):
        assert sum(n for (_, found), n in counts.items() if found == result) > 50
