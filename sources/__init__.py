"""Turn files of images into arrays; importing this package registers every named data set."""
import importlib
import pkgutil

for _found in pkgutil.iter_modules(__path__):  # a new file in this folder need not be named here
    importlib.import_module(f"{__name__}.{_found.name}")
