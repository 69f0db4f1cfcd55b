"""Compare many runs: tables, plots, and the documents made of them."""
from system import machine  # noqa: F401  TensorFlow is imported late and quietly from here on
