"""Turn a trained network into figures: one question a file."""
from system import machine  # noqa: F401  TensorFlow is imported late and quietly from here on
