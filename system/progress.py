"""Show how far long work is, and when it will be done."""
import sys
import time

from tqdm import tqdm

EVERY = 60  # seconds between two lines


class Progress(tqdm):
    """A bar, from the fifth second on; where stderr is no terminal, as in a log file, a line a
    minute."""

    def __init__(self, *what, **how):
        self.said, self.in_log = time.monotonic(), not sys.stderr.isatty()
        super().__init__(*what, **{"leave": False, "delay": 5, **how})
        if self.in_log:
            self.sp = None  # which would move the cursor

    def display(self, *what, **how):
        """Show the bar, or, where it is due, print a line."""
        if not self.in_log:
            return super().display(*what, **how)
        if time.monotonic() - self.said >= EVERY:
            self.said = time.monotonic()
            print(self, file=sys.stderr, flush=True)

    def clear(self, *what, **how):
        """Make room for other lines on a terminal."""
        if not self.in_log:
            super().clear(*what, **how)
