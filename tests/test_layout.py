"""The order of packages: who may import whom; short functions; no exceptions to imports on top."""
import ast
import graphlib

import pytest
from conftest import ROOT

ORDER = [{"system"}, {"sources"}, {"utils"}, {"training"}, {"cifar_lenet5", "mnist_rnn", "inside"},
         {"transfer", "comparisons"}, {"sweep", "visualize", "benchmarks"}]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
MOST = 60  # lines of a function
LATE = "E" + "402"  # ruff's name of an import that is not at the top


# --------------------------------------------------------- checks: each returns what is wrong

def modules(root):
    """Return {dotted name: file}, of the root, packages and benchmarks, which import as `peers`
    what lies beside them."""
    files = [*root.glob("*.py"), *(file for name in RANK for file in (root / name).rglob("*.py"))]
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file
            for file in files}


def imports(name, file, known):
    """Yield (line, module of ours) of every import in a file, wherever it stands."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
            above = package[:len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for whole in found:
            parts = [*name.split(".")[:1], *whole.split(".")]
            for words in (parts[1:], parts):  # `peers`, of benchmarks, is benchmarks.peers
                names = [".".join(words[:i]) for i in range(len(words), 0, -1)]
                module = next((own for own in names if own in known), None)
                if module and (words is not parts or module != parts[0]):
                    yield node.lineno, module
                    break


def strangers(root):
    """Files and packages that stand nowhere in the order."""
    packages = {file.parent.name for file in root.glob("*/*.py")} - {"tests"}
    return sorted(({name.split(".")[0] for name in modules(root)} | packages) - set(RANK))


def wrong_arrows(root):
    """Imports of what comes later in the order, or stands beside."""
    known = modules(root)
    arrows = ((name, *arrow) for name, file in sorted(known.items())
              for arrow in imports(name, file, known))
    return [f"{name}:{line} imports {other}" for name, line, other in arrows
            if (a := name.split(".")[0]) != (b := other.split(".")[0]) and RANK[b] >= RANK[a]]


def circles(root):
    """Modules that import each other by way of others, also within a package."""
    known = modules(root)
    try:
        graphlib.TopologicalSorter({name: {other for _, other in imports(name, file, known)}
                                    for name, file in known.items()}).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def long_functions(root):
    return [f"{name}:{node.lineno} {node.name}" for name, file in modules(root).items()
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            and node.end_lineno - node.lineno >= MOST]


def late_imports(root):
    """Exceptions to imports at the top, line by line; pyproject.toml names whole scripts."""
    files = [*modules(root).values(), *(root / "tests").rglob("*.py")]
    return [f"{file}:{number}" for file in files
            for number, line in enumerate(file.read_text().splitlines(), 1)
            if "noqa" in line and LATE in line]


CHECKS = strangers, wrong_arrows, circles, long_functions, late_imports


@pytest.mark.parametrize("check", CHECKS)
def test_the_project(check):
    assert len(modules(ROOT)) > 50
    assert check(ROOT) == []


# ------------------------------------------------------------- what they find in made-up files

@pytest.fixture
def project(tmp_path):
    """A function: {path: text} -> a folder with a project that is right but for these files."""
    def write(**files):
        right = {"system/files": "import os\n", "training/run": "from system import files\n",
                 "training/loop": "import training.run\nfrom . import run\n", "utils": "",
                 "cifar_lenet5": "from training.loop import x\n", "inside/maps": "",
                 "benchmarks/peers/__init__": "import cifar_lenet5\n",
                 "benchmarks/speed": "import peers\n"}
        for path, text in (right | files).items():
            file = tmp_path / f"{path}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path
    return write


def found(root):
    return {check.__name__: wrong for check in CHECKS if (wrong := check(root))}


def test_a_right_project_passes(project):
    assert found(project()) == {}


@pytest.mark.parametrize("file, text, wrong", [
    ("system/files", "import training", "system.files:1 imports training"),
    ("system/files", "def f():\n    from training.run import x", "system.files:2 imports training."
                                                                 "run"),
    ("utils", "import os, cifar_lenet5", "utils:1 imports cifar_lenet5"),
    ("training/run", "if True:\n    from inside import maps", "training.run:2 imports inside.maps"),
    ("mnist_rnn", "import cifar_lenet5", "mnist_rnn:1 imports cifar_lenet5"),
    ("inside/maps", "from cifar_lenet5 import build_model", "inside.maps:1 imports cifar_lenet5"),
    ("cifar_lenet5", "import inside.maps as m", "cifar_lenet5:1 imports inside.maps"),
    ("comparisons/table", "import transfer", "comparisons.table:1 imports transfer"),
    ("comparisons/table", "from benchmarks.speed import x", "comparisons.table:1 imports "
                                                            "benchmarks.speed"),
    ("sweep", "import visualize", "sweep:1 imports visualize")])
def test_a_wrong_arrow_is_found(project, file, text, wrong):
    root = project(**{"training/__init__": "", "transfer": "", "visualize": "", file: text + "\n"})
    assert wrong_arrows(root) == [wrong]


@pytest.mark.parametrize("text", ["import training.loop", "from training import loop",
                                  "from .loop import x", "from . import loop",
                                  "def f():\n    import training.loop"])
def test_a_circle_is_found(project, text):
    assert sorted(set(circles(project(**{"training/run": text + "\n"})))) == [
        "training.loop", "training.run"]


def test_a_circle_in_benchmarks_is_found(project):
    root = project(**{"benchmarks/peers/__init__": "from benchmarks import speed\n"})
    assert sorted(set(circles(root))) == ["benchmarks.peers", "benchmarks.speed"]


def test_a_long_function_is_found(project):
    def text(lines):
        return "class A:\n    def f(self):\n" + "        pass\n" * (lines - 1)
    assert long_functions(project(utils=text(MOST))) == []
    assert found(project(utils=text(MOST + 1))) == {"long_functions": ["utils:2 f"]}


def test_an_exception_is_found(project):
    root = project(utils=f"import os  # noqa: {LATE}\n")
    assert found(root) == {"late_imports": [f"{root / 'utils.py'}:1"]}
    root = project(**{"utils": "", "tests/a/test_b": f"import os  # noqa: F401, {LATE}\n"})
    assert list(found(root)) == ["late_imports"]


def test_what_stands_nowhere_is_found(project):
    assert found(project(helpers=""))["strangers"] == ["helpers"]
    assert strangers(project(**{"misc/things": ""})) == ["helpers", "misc"]
