"""What a notebook shows: tables with the words that are printed, and networks as tables in IPython."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_tables import Parsed, shown

import funcnet as fn
from funcnet.runs.rows import Run, RunRow
from funcnet.runs.selftest import Level, SelfTest

KEY = fn.Key(37)
NET = fn.mlp(KEY, (3, 4, 2))
X, Y = np.linspace(-9, 9, 48, dtype=np.float32).reshape(16, 3), np.arange(16) % 2
LEVEL = Level("D0 repeat", "the same bits in every run", "holds", "twice here")
PRINTED: dict[str, Callable[[], object]] = {
    "summary": lambda: fn.summary((fn.Frozen(NET), fn.Dropout(0.5)), (3,)),
    "check_layer": lambda: fn.check_layer(fn.ReLU(), np.array([[1.0, 0.0]])),
    "check_gradients": lambda: fn.check_gradients(NET, X[:2]),
    "check_gradients of ids": lambda: fn.check_gradients(fn.embedding(KEY, 3, 2), np.array([[0, 2]])),
    "selftest": lambda: SelfTest((LEVEL, LEVEL)),
}


def cells(parsed: Parsed) -> list[str]:
    """The texts of all tables, by row, and then those of the paragraphs."""
    return [*(cell for table in parsed.tables for row in table for cell in row), *parsed.outside]


@pytest.mark.parametrize("name", PRINTED)
def test_a_table_has_the_words_that_are_printed(name: str) -> None:
    """In the same order; ``selftest`` prints no head, and the promise after the outcome with a colon."""
    report = PRINTED[name]()
    words = " ".join(cells(shown(report))).split()
    printed = str(report).replace("run:", "run").split()
    assert words == (["level", "outcome", "promise", "tried"] * (name == "selftest")) + printed


def test_an_explanation_has_a_table_per_stage() -> None:
    """It has the words that are printed. A large array is shortened, in the table alone. The hint is the last line."""
    net = (fn.dense(KEY, 3, 4), fn.Dropout(0.5), fn.dense(KEY, 4, 2))
    made = fn.explain(net, X[:2], Y[:2], fn.softmax_cross_entropy)
    found = shown(made)
    assert found.outside == [
        *("\n  ".join((each.title, *each.formulas)) for each in made.stages),
        f"hint: {made.hints[0]}",
    ]
    for table, stage in zip(found.tables, made.stages, strict=True):
        assert [" ".join(row).split() for row in table[1:]] == [
            str(term).replace("=", "").split() for term in stage.terms
        ]
    large = fn.explain(fn.dense(KEY, 3, 500), X[:2], Y[:2], fn.softmax_cross_entropy)
    assert "..." in shown(large).tables[0][2][2]
    assert "..." not in str(large)


def test_gradient_statistics_are_two_tables() -> None:
    """They have the numbers that are printed, and the hints."""
    made = fn.gradient_statistics(NET, X * 100, Y, fn.softmax_cross_entropy)
    found = shown(made)
    printed = str(made).splitlines()
    assert len(found.tables) == 2
    for table, lines in zip(found.tables, (printed[1:5], printed[6:9]), strict=True):
        assert [row[-2:] for row in table[1:]] == [line.split()[-2:] for line in lines]
    assert found.outside == [f"hint: {hint}" for hint in made.hints]
    assert made.hints


def constant(_: object) -> float:
    """A metric."""
    return 0.5


def fitted(epochs: int) -> fn.Fit[Any]:
    """A fit whose validation value is lowest after epoch 11, with a metric whose name is markup."""
    step, start = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.001), fn.Fit.create(NET)
    values = iter([*range(epochs, epochs - 12, -1), *range(epochs + 1, 2 * epochs)])
    data, metrics = fn.minibatches(X, Y, 8), {"<b>": constant}
    *_, last = fn.fit(step, start, lambda _: data, lambda _: next(values), epochs=epochs, metrics=metrics)
    return last


@pytest.mark.parametrize("epochs", [1, 20, 40])
def test_a_fit_shows_its_history(epochs: int) -> None:
    """Of 40 epochs, it shows the first ten, the best, and the last ten."""
    made = fitted(epochs)
    found = shown(made)
    assert found.outside == [repr(made)]
    head, *rows = found.tables[0]
    assert head == ["epoch", "loss", "validation", "<b>"] == list(made.history)
    numbers = [[float(cell) for cell in row] for row in rows if row[0] != "…"]
    history = np.array(list(made.history.values())).T
    chosen = list(range(epochs)) if epochs <= 20 else [*range(10), 11, *range(30, 40)]
    np.testing.assert_allclose(numbers, history[chosen], rtol=1e-5)
    assert [row[0] for row in rows].count("…") == (2 if epochs == 40 else 0)
    assert len(shown(fn.Fit.create(NET)).tables[0]) == 1


def test_an_epoch_log_shows_its_losses() -> None:
    """An epoch without a step has no numbers."""
    log = fn.EpochLog(np.array([3.0, 1.0, 2.0]))
    assert shown(log).tables[0][1] == ["3", "2", "3", "2", "1", "3"]
    assert shown(fn.EpochLog(np.array([]))).tables[0][1] == ["0", *[""] * 5]


def test_a_state_shows_its_settings_and_its_network() -> None:
    """The repr has the moments' names, and a batch's repr has its shapes."""
    state = fn.TrainState.create(NET, fn.Adam(learning_rate=0.1), key=KEY)
    settings, network = shown(state).tables
    assert settings[1:4] == [["step", "0"], ["optimizer", repr(state.optimizer)], ["moments", "Moments(mean, square)"]]
    assert network == shown(state.params[0]).tables[0][:1] + network[1:]
    assert "moments=Moments(mean, square), step=0" in repr(state)
    assert repr(fn.Batch(X, Y)) == "Batch(x=float32 (16, 3), y=int64 (16,), weight=None)"


def test_a_run_shows_its_rows() -> None:
    """The hashes are cut; the directory and the checkpoints without a row are text. The repr is one line."""
    row = RunRow(None, 0, "", "a" * 64, "", "", "native", "")
    rows = row, RunRow(3, 5, "", "b" * 64, "c" * 64, "", "portable", "")
    run = Run(Path("<script>"), rows, ("epoch-4.safetensors",))
    found = shown(run)
    assert found.tables[0][1:] == [
        ["start", "0", "native", f"{'a' * 12}…", ""],
        ["epoch-3", "5", "portable", f"{'b' * 12}…", f"{'c' * 12}…"],
    ]
    assert found.outside == ["<script>", "epoch-4.safetensors has no row"]
    assert "rows=2 rows" in repr(run)
    assert {tuple(row) for row in shown(fn.environment()).tables[0]} > {("arithmetic", "native")}


def test_ipython_shows_a_report_as_print_does() -> None:
    """Also the reports without a table."""
    pretty = pytest.importorskip("IPython.lib.pretty")
    sentences = [
        fn.NonFinite("x", (0,), float("inf"), 1.0, 2.0),
        fn.Recheck((3, 4), "epoch-2.safetensors"),
        fn.Divergence(3, None, "state", "params.0.bias", ("a", "b")),
        fn.explain(NET, X[:2], Y[:2], fn.softmax_cross_entropy),
        fn.gradient_statistics(NET, X, Y, fn.softmax_cross_entropy),
    ]
    for report in (*sentences, *(make() for make in PRINTED.values())):
        assert pretty.pretty(report) == str(report)


IPYTHON = """
from collections import namedtuple
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}), ipython_dir=FOLDER)
show = shell.display_formatter.format
import funcnet as fn
net = fn.mlp(fn.Key(0), (2, 3))
Pair = namedtuple("Pair", "a b")
class Own(Pair):
    def _repr_html_(self): return "own"
assert "text/html" not in show(net)[0]
shell.run_line_magic("load_ext", "funcnet")
assert show(net)[0]["text/html"].startswith("<div") and show((net, fn.ReLU()))[0]["text/html"].startswith("<div")
assert show(net)[0]["text/plain"] == repr(net)
assert show(Own(1, 2))[0]["text/html"] == "own"
for other in ((), (1, 2), (net, 1), Pair(fn.ReLU(), 2)):
    assert show(other)[0] == {"text/plain": repr(other)}, other
summary = fn.summary(net, (2,))
assert show(summary)[0]["text/plain"] == str(summary) and show(summary)[0]["text/html"].startswith("<div")
print("all shown")
"""


@pytest.mark.slow
def test_ipython_shows_networks_as_tables(tmp_path: Path) -> None:
    """After ``%load_ext funcnet``: a network is a table, another tuple stays text, and a report prints as ``print``."""
    pytest.importorskip("IPython")
    program = IPYTHON.replace("FOLDER", repr(str(tmp_path)))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "all shown\n", done.stderr
