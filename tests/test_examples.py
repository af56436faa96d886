"""The examples: each one runs, prints the expected results, and saves its figure."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from surroundings import ROOT

EXAMPLES = ROOT / "examples"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not EXAMPLES.exists(), reason="the examples are not next to the tests"),
]
needs_extra = pytest.mark.skipif(
    not all(map(find_spec, ("matplotlib", "tqdm", "sklearn", "pandas", "dabl"))),
    reason="the extra 'examples' is not installed",
)
MNIST = Path(os.environ.get("FUNCNET_DATA", "")) / "mnist"
needs_mnist = pytest.mark.skipif(
    "FUNCNET_DATA" not in os.environ or not MNIST.is_dir(), reason="FUNCNET_DATA has no mnist directory"
)


def run(name: str, *arguments: str, directory: Path) -> str:
    """Run an example and return its output."""
    environment = os.environ | {"FUNCNET_DATA": str(MNIST.parent.absolute()), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", EXAMPLES / name, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@needs_extra
def test_digits_learns_and_repeats(tmp_path: Path) -> None:
    """The held-out accuracy is at least 0.97, the example saves a figure, and two runs print the same numbers."""
    found = re.search(r"Held-out accuracy: ([\d.]+)", run("digits.py", "--figure", "a.png", directory=tmp_path))
    assert found
    assert float(found[1]) >= 0.97
    first, again = (run("digits.py", "--epochs", "3", "--figure", f"{name}.png", directory=tmp_path) for name in "bc")
    assert first.splitlines()[:-1] == again.splitlines()[:-1]
    assert (tmp_path / "a.png").stat().st_size > 10_000


@needs_extra
@needs_mnist
def test_mnist_learns_and_repeats(tmp_path: Path) -> None:
    """One epoch of the post's run has a validation accuracy above 0.93, and two runs print the same numbers."""
    first = run("mnist.py", "--epochs", "1", "--seed", "3", directory=tmp_path)
    again = run("mnist.py", "--epochs", "1", "--seed", "3", "--data", str(MNIST.absolute()), directory=tmp_path)
    found = re.search(r"Val accuracy: ([\d.]+)", first)
    assert found
    assert float(found[1]) > 0.93
    assert first == again
    assert (tmp_path / "mnist.png").stat().st_size > 10_000


def table(output: str) -> dict[str, list[float]]:
    """The numbers in the rows of the seeds and in the row of the mean."""
    rows = [re.match(r"(seed \d+|mean)(?:, \d+ test rows)? +([\d. ()]+)", line) for line in output.splitlines()]
    return {row[1]: [float(number) for number in re.findall(r"[\d.]+", row[2])] for row in rows if row}


@needs_extra
def test_regression_is_as_good_as_its_peers(tmp_path: Path) -> None:
    """All three models have an R² above 0.4 on one split, the mean is that split's row, and a figure is saved."""
    found = table(run("regression.py", "--seeds", "0", directory=tmp_path))
    assert found["seed 0"] == found["mean"]
    linear, peer, own = found["mean"][::2]
    assert min(linear, peer) > 0.4
    assert own > 0.4
    assert (tmp_path / "figures" / "regression.png").stat().st_size > 10_000


@needs_extra
def test_mlpclassifier_has_an_equal(tmp_path: Path) -> None:
    """On one seed, all accuracies are above 0.96, the log loss with dropout is the lowest, and a figure is saved."""
    found = table(run("from_mlpclassifier.py", "--seeds", "0", directory=tmp_path))["seed 0"]
    assert min(found[::2]) > 0.96
    assert found[5] == min(found[1::2])
    assert (tmp_path / "figures" / "from_mlpclassifier.png").stat().st_size > 10_000


@needs_extra
def test_table_predicts_survivors(tmp_path: Path) -> None:
    """All three models beat the larger class, 0.62, and chance, 0.5; each fold picks a setting; a figure is saved."""
    said = run("table.py", "--folds", "2", directory=tmp_path)
    assert said.startswith("1309 passengers, 8 columns, 1280 missing values")
    rows = re.findall(r"^(\w+) +([\d.]+) ± [\d.]+ +([\d.]+) ± [\d.]+ ", said, re.MULTILINE)
    assert [name for name, _, _ in rows] == ["Classifier", "MLPClassifier", "HistGradientBoosting"]
    assert min(float(accuracy) for _, accuracy, _ in rows) > 0.7
    assert min(float(area) for _, _, area in rows) > 0.75
    assert sum(int(count) for count in re.findall(r"^  (\d) of \w+: ", said, re.MULTILINE)) == 3 * 2
    assert (tmp_path / "figures" / "table.png").stat().st_size > 10_000


@needs_extra
def test_exchange_keeps_the_network(tmp_path: Path) -> None:
    """One epoch gives an accuracy above 0.5, the file has the same network, and the ONNX model its fingerprint."""
    said = run("exchange.py", "--epochs", "1", directory=tmp_path)
    found = re.search(r"Test accuracy: ([\d.]+)", said)
    assert found
    assert float(found[1]) > 0.5
    missing = said.splitlines()[-1]
    assert ("torch.safetensors is the same: True" in said) == ("safetensors" not in missing)
    fingerprints = re.findall(r"Fingerprint .*: +([0-9a-f]{64})", said)
    assert len(fingerprints) == (1 if "onnx" in missing else 2)
    assert len(set(fingerprints)) == 1


@needs_extra
@needs_mnist
def test_better_mlp_learns(tmp_path: Path) -> None:
    """Two epochs of one seed give accuracies above 0.95 on validation and test set, and a figure is saved."""
    arguments = ("--seeds", "0", "--epochs", "2", "--figure", "a.png")
    found = table(run("better_mlp.py", *arguments, directory=tmp_path))
    assert min(found["seed 0"]) > 0.95
    assert (tmp_path / "a.png").stat().st_size > 10_000


@needs_extra
@needs_mnist
def test_mnist_conv_learns_and_repeats(tmp_path: Path) -> None:
    """Two epochs on 2,000 images give an accuracy above 0.85, and two runs print the same numbers."""
    quick = ("--epochs", "2", "--rows", "2000", "--seed", "3")
    first = run("mnist_conv.py", *quick, directory=tmp_path)
    assert first == run("mnist_conv.py", *quick, "--data", str(MNIST.absolute()), directory=tmp_path)
    found = re.search(r"Epoch 1: train accuracy [\d.]+, validation ([\d.]+)", first)
    assert found
    assert float(found[1]) > 0.85
    assert (tmp_path / "mnist_conv.png").stat().st_size > 10_000


@needs_extra
def test_a_run_resumes_in_another_process(tmp_path: Path) -> None:
    """A resumed run has the fingerprint of the uninterrupted one, the replay agrees, and the wrong label is found."""
    lines = run("resume.py", directory=tmp_path).splitlines()
    first, second = (line.split()[-1] for line in lines[:2])
    assert first == second
    assert lines[2].endswith("every state and every batch has the bytes of its row")
    assert lines[3].endswith("None")
    assert re.search(r"in epoch 2, step \d+: data, y\[\d+\] is \d in one and \d in the other", lines[4])


@needs_extra
def test_two_networks_learn_and_repeat(tmp_path: Path) -> None:
    """All eight modes have points, 95% of the points lie on modes, the whole step is traced, and two runs agree."""
    said = run("two_networks.py", directory=tmp_path)
    found = re.match(r"Modes covered: 8 of 8; points on them: ([\d.]+)%", said)
    assert found
    assert float(found[1]) >= 95
    assert "untraced: nothing" in said
    assert (tmp_path / "figures" / "two_networks.png").stat().st_size > 10_000
    first, again = (run("two_networks.py", "--epochs", "3", "--seed", "1", directory=tmp_path) for _ in "ab")
    assert first == again


@needs_extra
@pytest.mark.parametrize("model", ["gru", "attention"])
def test_a_language_model_resumes(model: str, tmp_path: Path) -> None:
    """A tiny run that stops after epoch 1 and resumes prints what the uninterrupted run prints; epoch 2 is better."""
    quick = ("--model", model, "--size", "32", "--length", "32", "--batch", "16", "--steps", "8", "--epochs", "2")
    whole = run("language_model.py", *quick, "--portable", "--checkpoint", "a.safetensors", directory=tmp_path)
    stopped = ("--portable", "--checkpoint", "b.safetensors")
    first = run("language_model.py", *quick, *stopped, "--stop", "1", directory=tmp_path)
    second = run("language_model.py", *quick, *stopped, directory=tmp_path)
    assert "\nresumed after epoch 1\n" in second
    forms = r"training \d\.\d{4}, held-out (\d\.\d{4}) bits", r"fingerprint ([0-9a-f]{64})\n"
    epochs, fingerprints = ([re.findall(form, said) for said in (whole, first, second)] for form in forms)
    assert epochs[0] == epochs[1] + epochs[2]
    assert fingerprints[0] == fingerprints[2] != fingerprints[1]
    assert float(epochs[0][0]) > float(epochs[0][1]) > 1
    baselines = re.findall(r"(?:characters|lzma): (\d\.\d+) held-out bits", whole)
    assert all(1 < float(bits) < 3 for bits in baselines)
    assert len(baselines) == 2


@needs_extra
def test_invented_names_are_better_with_more_context(tmp_path: Path) -> None:
    """After two epochs, each model needs fewer bits than the one before it, and invents ten names."""
    said = run("names.py", "--epochs", "2", directory=tmp_path)
    rows = re.findall(r"^(\w+) +\d+ +\d\.\d{3} +(\d\.\d{3}) ", said, re.MULTILINE)
    assert [name for name, _ in rows] == ["bigram", "MLP", "GRU"]
    assert 4.5 > float(rows[0][1]) > float(rows[1][1]) > float(rows[2][1])
    names = re.findall(r"^(?:bigram|MLP|GRU): (.+)$", said, re.MULTILINE)
    assert [len(each.split(", ")) for each in names] == [10, 10, 10]


def test_own_layer_learns(tmp_path: Path) -> None:
    """A network with the user's own layer trains to an accuracy of 1."""
    assert "Accuracy: 1.0000" in run("own_layer.py", directory=tmp_path)


def test_a_layer_of_ones_own_takes_twenty_lines() -> None:
    """Record, forward, backward and registration take at most twenty lines."""
    source = (EXAMPLES / "own_layer.py").read_text()
    layer = re.search(r"@frozen.*?\nfn\.register_layer\([^\n]*\n", source, re.DOTALL)
    assert layer
    assert len([line for line in layer[0].splitlines() if line.strip()]) <= 20


def test_from_the_post_holds(tmp_path: Path) -> None:
    """Every assertion of the post holds for funcnet."""
    assert run("from_the_post.py", directory=tmp_path).count("holds:") == 7


LONGER = {"language_model.py": 200, "names.py": 150}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short(path: Path) -> None:
    """No example has more than 100 lines, except two that compare several models."""
    assert len(path.read_text().splitlines()) <= LONGER.get(path.name, 100)
