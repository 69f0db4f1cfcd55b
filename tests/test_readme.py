"""README's commands, as they stand there, at a small budget; and every path it names."""
import pathlib
import re
import shlex

import pytest
from conftest import ROOT, run

import cifar_lenet5
import mnist_rnn
import transfer
from options import parse
from visualize import DOCUMENTS

README = (ROOT / "README.md").read_text()
COMMANDS = [command.strip() for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
            for command in re.findall(r"python [^#;&\n]*", block)]
SMALL = ["--steps", "3", "--evaluations", "1", "--snapshots", "2", "--batch", "8"]
EXPERIMENTS = {"cifar_lenet5.py": (cifar_lenet5, SMALL), "mnist_rnn.py": (mnist_rnn, SMALL),
               "transfer.py": (transfer, ["--per-class", "1", "2", "--scratch-steps", "2"])}


def small(script, words):
    """A training command with its budget cut, but under the name it has in full; a sweep with one
    seed and the last value of each option."""
    if script == "sweep.py":
        words = shlex.split(re.sub(r"--seeds 0( \d)+", "--seeds 0", shlex.join(words)))
        words = [re.sub(r"=.*,", "=", word) for word in words]
        return [*words, *([] if "--" in words else ["--"]), *SMALL]
    if script not in EXPERIMENTS or "--help" in words:
        return words
    experiment, less = EXPERIMENTS[script]
    config = parse(experiment.Config, getattr(experiment, "RECIPES", {}), words)
    return [*words, *less, "--name", config.name]


def test_there_are_commands():
    assert len(COMMANDS) >= 6
    assert "pip install -r requirements.txt && python cifar_lenet5.py" in README
    assert "pip install -r requirements-dev.txt && pytest" in README


def test_every_command_works(tmp_path, monkeypatch, real_data):
    """In their order, in an empty folder: later commands use what the earlier ones wrote.

    All but `visualize.py all`, which test_scripts runs.
    """
    monkeypatch.chdir(tmp_path)
    seen = set()
    for command in COMMANDS:
        _, script, *words = shlex.split(command.replace("$seed", "0"))
        words = [w for word in words for w in (sorted(map(str, tmp_path.glob(word)))
                                               if "*" in word else [word])]
        words = small(script, words)
        if (script, *words) in seen or words[:1] == ["all"]:
            continue
        seen.add((script, *words))
        status, out, err = run(script, *words, cwd=tmp_path, DATA_DIR=str(real_data))
        assert status == 0, f"{command}\n{out}{err}"
        assert err == "", f"{command} warns: {err}"


@pytest.mark.parametrize("document, name", [
    (document, name) for document in DOCUMENTS
    for name in sorted(set(re.findall(r"\]\(([^):#]+)[^):]*\)", (ROOT / document).read_text())))])
def test_every_link_leads_somewhere(document, name):
    assert (ROOT / document).parent.joinpath(name).exists()


def test_layout_names_every_file():
    """Every module and test folder at the top level stands in README's list."""
    for path in pathlib.Path(ROOT).glob("*.py"):
        assert f"`{path.name}`" in README, path.name
