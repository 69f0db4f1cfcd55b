"""Write tables in Markdown."""
import numpy as np


def table(header, rows):
    """Return a Markdown table of a heading and rows of cells."""
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (header, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def mean_and_deviation(values, digits):
    """Return "70.0 ± 1.2": mean and sample standard deviation (n - 1); one value has no deviation.
    """
    values = np.array(values, float)
    spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"
