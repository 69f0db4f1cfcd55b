"""Turn arrays into a run's folder."""
from system import machine  # noqa: F401  TensorFlow is imported late and quietly from here on
