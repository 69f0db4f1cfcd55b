"""Write tables in Markdown."""
import re

import numpy as np

JOINED = re.compile(r"(?<=\d) (?=[±%])|(?<=±) (?=\d)")  # a space at which no line may break


def table(header, rows):
    """Return a Markdown table of a heading and rows of cells, without breaks in "70.0 ± 1.2 %"."""
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (header, *rows)]
    return JOINED.sub("\N{NO-BREAK SPACE}",
                      "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]]))


def mean_and_deviation(values, digits):
    """Return "70.0 ± 1.2": mean and sample standard deviation (n - 1); one value has no deviation.
    """
    values = np.array(values, float)
    spread = f" ± {values.std(ddof=1):,.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():,.{digits}f}{spread}"
