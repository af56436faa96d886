"""Law 9 with the interpreter: its folds have the bits and errors of the Python replay and of the for loop."""

from __future__ import annotations

import builtins
import gc
import itertools
import math
import os
import signal
import subprocess
import sys
import sysconfig
import time
import tracemalloc
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module, reload
from pathlib import Path
from typing import Any, Final, cast

import fuzz_programs as fuzz
import numpy as np
import pytest
from attrs import evolve, frozen
from networks import CASES, Case, inputs
from optimizer_table import OPTIMIZERS
from surroundings import FOREIGN, ROOT, SEARCHED
from test_replay import (
    KEY,
    LABELS,
    LOSSES,
    SOFTMAX,
    Outcome,
    at_once,
    bits,
    classifier,
    data,
    ended,
    folded,
    run_of,
    square,
    with_classes,
    with_labels,
    with_number,
)

import funcnet as fn
from funcnet.arithmetic import Name, using
from funcnet.data.batches import Minibatches
from funcnet.tracing import native, program, traces
from funcnet.tracing.native import NativeRun, compiled, loaded
from funcnet.tracing.recorder import is_array

Arithmetics: Final = [(np.float32, "native"), (np.float64, "native"), (np.float32, "portable")]


# ------------------------------------------------------------------------------------------ the interpreter


def command(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command that builds the interpreter."""
    words = [sys.executable, "-m", "funcnet.tracing.native", "--folder", str(folder), *options]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the interpreter."""
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    compiler = str(sysconfig.get_config_var("CC") or "").partition(" ")[0]
    if not compiler or not header.is_file():
        pytest.skip("the interpreter needs a C compiler and Python.h")
    made = tmp_path_factory.mktemp("native")
    result = command(made)
    assert result.returncode == 0, result.stderr
    return made


def operations() -> Any:
    """The module of operations, which needs the interpreter when it is imported."""
    return import_module("funcnet.tracing.native.operations")


@pytest.fixture(scope="module", autouse=True)
def _interpreter(folder: Path) -> Iterator[None]:
    """Use the interpreter that was just built, whatever lies beside the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(loaded.VARIABLE, str(folder))
        reload(loaded)
        assert loaded.STATE == "native"
        for name in ("native", "native.operations", "native.translation"):
            patch.setattr(import_module(f"funcnet.tracing.{name}"), "replay", loaded.replay)
        fn.keep_programs()
        assert native.is_built()
        yield
    reload(loaded)
    fn.keep_programs()


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """No test finds the programs of another one."""
    fn.keep_programs()
    yield
    fn.keep_programs()


@contextmanager
def without_interpreter() -> Generator[None]:
    """Replay in Python."""
    fn.keep_programs()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "is_built", bool)
        yield
    fn.keep_programs()


@contextmanager
def counted() -> Generator[list[int]]:
    """The number of steps of each call of the interpreter that computes many."""
    steps: list[int] = []
    fold = NativeRun.fold

    def count(self: NativeRun, *args: Any) -> Any:
        made = fold(self, *args)
        steps.append(len(made[0]))
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NativeRun, "fold", count)
        yield steps


class Kept(NativeRun):
    """The function of a program that keeps the arguments of its last call."""

    given: tuple[Any, ...] = ()

    def __call__(self, *given: Any) -> Any:
        """Compute a step."""
        self.given = given
        return super().__call__(*given)


@contextmanager
def recorded() -> Generator[list[Any]]:
    """The programs that are made."""
    made: list[Any] = []

    def record(*args: Any, **options: Any) -> program.Program:
        made.append(program.Program(*args, **options))
        return cast("program.Program", made[-1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "NativeRun", Kept)
        patch.setattr(traces, "Program", record)
        yield made


def whole(step: fn.Step[Any, Any], state: Any, batches: Any) -> tuple[Any, Any]:
    """``train_epoch``: the state, the losses and what they divide by."""
    state, log = fn.train_epoch(step, state, batches)
    return state, [log.losses.tolist(), log.totals.tolist()]


def check_sides(
    step: fn.Step[Any, Any], state: Any, batches: Any, *, error: str = "", folds: bool | None = True
) -> Outcome:
    """The interpreter, the Python replay and the for loop end alike, with programs that are made and that are kept.

    ``error``: how the error begins that all end in. ``folds``: whether the interpreter computes several steps in one
    call; None for either.
    """
    before = bits(state)
    fn.keep_programs(programs=0)
    wanted = ended(whole, step, state, batches)
    assert wanted.error.startswith(error), wanted.error
    assert bool(wanted.error) == bool(error), wanted.error
    with without_interpreter():
        assert [ended(whole, step, state, batches) for _ in range(2)] == [wanted] * 2
    with counted() as steps:
        assert [ended(whole, step, state, batches) for _ in range(2)] == [wanted] * 2
    assert folds is None or bool(sum(steps)) == folds
    assert bits(state) == before
    return wanted


# -------------------------------------------------------------------------------------------------- the law


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "arithmetic"), Arithmetics)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_layer(case: Case, dtype: fn.FloatDType, arithmetic: Name) -> None:
    """First in a network, and behind a trained layer, where its input's gradient counts; the last batch is smaller."""
    net = with_classes(case, dtype)
    with using(arithmetic):
        batches = fn.minibatches(case.x(31, dtype), LABELS[:31], 5, key=KEY.child("order"))
        check_sides(fn.train_step(SOFTMAX), run_of(net, "Momentum"), batches)
        if not case.ids:
            front = (fn.dense(KEY.child("front"), 4, math.prod(case.shape), dtype=dtype), fn.Reshape(case.shape))
            behind = fn.training((front, net), KEY)
            check_sides(STEP, behind, data(31, dtype=dtype, batch=5))


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "arithmetic"), Arithmetics)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name: str, dtype: fn.FloatDType, arithmetic: Name) -> None:
    """With masks that differ in each step."""
    net = classifier((square(0), fn.Tanh(), fn.Dropout(0.3)), dtype)
    folds = None if name in {"Accumulation", "all around AdamW", "all around NAdam"} else True
    with using(arithmetic):
        check_sides(fn.train_step(SOFTMAX), run_of(net, name), data(66, dtype=dtype, batch=6), folds=folds)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "arithmetic"), Arithmetics)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss(name: str, weighted: bool, dtype: fn.FloatDType, arithmetic: Name) -> None:  # noqa: FBT001
    """With weights of examples and without."""
    loss, y = LOSSES[name]
    y = y.astype(dtype) if y.dtype.kind == "f" else y
    weight = np.abs(inputs(KEY.child("weight"), 28, dtype=dtype)) if weighted else None
    batches = fn.minibatches(inputs(KEY, 28, 4, dtype=dtype), y, 5, key=KEY, weight=weight)
    net = classifier((fn.Tanh(),), dtype)
    with using(arithmetic):
        check_sides(fn.sgd_step(loss, learning_rate=0.1), net, batches)


X: Final = inputs(KEY.child("x"), 60, 4, dtype=np.float32)
Y: Final = np.arange(60) % 3
STEP: Final = fn.sgd_step(SOFTMAX, learning_rate=0.1)
NET: Final = classifier((square(0), fn.Tanh()), np.float32)
ORDERED, SHUFFLED = fn.minibatches(X, Y, 7), fn.minibatches(X, Y, 7, key=KEY)
CUTS: Final[dict[str, Any]] = {
    "in order": ORDERED,
    "in random order": SHUFFLED,
    "without a last smaller batch": fn.minibatches(X, Y, 7, key=KEY, drop_last=True),
    "from a batch on": SHUFFLED[2:],
    "up to a batch": SHUFFLED[:6],
    "between two batches": ORDERED[1:7],
    "of one row": fn.minibatches(X, Y, 1, key=KEY),
    "with weights": fn.minibatches(X, Y, 7, key=KEY, weight=np.linspace(0, 1, 60, dtype=np.float32)),
    "of rows in Fortran's order": fn.minibatches(np.asfortranarray(X), Y, 7),
    "of every second row": fn.minibatches(np.repeat(X, 2, axis=0)[::2], np.repeat(Y, 2)[::2], 7, key=KEY),
    "of labels in a column of a table": fn.minibatches(X, np.stack([Y, Y], axis=1)[:, 0], 7, key=KEY),
    "of read-only rows": fn.minibatches(np.frombuffer(X.tobytes(), np.float32).reshape(60, 4), Y, 7),
}


@pytest.mark.parametrize("name", CUTS)
def test_batches(name: str) -> None:
    """Whichever rows they are."""
    flags = CUTS[name].x.flags, CUTS[name].y.flags
    check_sides(STEP, NET, CUTS[name], folds=all(each.c_contiguous for each in flags))


@pytest.mark.parametrize("letter", "bBhHiIlLqQ")
def test_labels_of_every_dtype(letter: str) -> None:
    """Of each size, with a sign and without."""
    check_sides(STEP, NET, fn.minibatches(X, Y.astype(letter), 7, key=KEY))


def two_inputs(state: Any, batch: Any) -> tuple[Any, float]:
    """A user's step that takes two arrays as x and two as y, and a number of the state."""
    net, count = state
    a, b = batch.x
    loss, grads = fn.value_and_grad(net, a + b, batch.y[0], SOFTMAX)
    return (fn.sgd_update(net, grads, learning_rate=0.1 / (count + 1)), count + 1), loss + batch.y[1].sum().item()


def test_two_inputs() -> None:
    """The batches of a user's step."""
    batches = fn.minibatches((X, X[::-1].copy()), (Y, X.astype(np.float64)), 7, key=KEY)
    check_sides(two_inputs, (NET, 0), batches)


def swapping(state: Any, batch: Any) -> tuple[Any, float]:
    """A step that keeps the last two numbers: each takes the place of another one."""
    w, last, first, n = state
    number = (w * batch.x[0, 0]).sum().item()
    return (w * 0.5, number, last, n + 1), number + first


def test_numbers_that_change_places() -> None:
    """All at the same time, as in Python."""
    check_sides(swapping, (np.ones(3), 0.5, 0.25, 0), fn.minibatches(inputs(KEY, 60, 4), Y, 5))


def test_masks_of_a_key_of_the_network() -> None:
    """One key for all steps; with ``train_step``, one for each step, also after a resumed epoch."""
    net = classifier((square(0), fn.Dropout(0.4)), np.float32)
    check_sides(STEP, fn.training(net, KEY), SHUFFLED)
    step, state = fn.train_step(SOFTMAX), run_of(net, "Adam")
    check_sides(step, state, SHUFFLED)
    middle, _ = fn.train_epoch(step, state, SHUFFLED[:3])
    assert ended(folded, step, middle, SHUFFLED[3:]).state == bits(fn.train_epoch(step, state, SHUFFLED)[0])


def large(state: Any, batch: Any) -> tuple[Any, float]:
    """A step that counts after the update of its array."""
    w, n = state
    w = w - 0.1 * batch.x[0, :3] * w
    return (w, n + 2**40), w.sum().item()


def test_a_number_beyond_64_bits() -> None:
    """Python's integers have no end; the array is not updated twice in the step in which a number passes 2**63."""
    check_sides(large, (np.ones(3), 2**63 - 8 * 2**40), fn.minibatches(inputs(KEY, 60, 4), Y, 5))
    check_sides(large, (np.ones(3), 2**62), fn.minibatches(inputs(KEY, 60, 4), Y, 5))


# ------------------------------------------------------------------------------------------- what is native


def mlp(*sizes: int) -> tuple[Any, Any, Any]:
    """The step, the state and the batches of a network of Dense and ReLU layers in float32."""
    x = inputs(KEY, 160, sizes[0], dtype=np.float32)
    return STEP, fn.mlp(KEY, sizes), fn.minibatches(x, np.arange(160) % sizes[-1], 16)


def with_masks() -> tuple[Any, Any, Any]:
    """LayerNorm, GELU and Dropout, trained by Adam."""
    net = (fn.dense(KEY, 4, 20), fn.layer_norm(20), fn.GELU(), fn.Dropout(0.1), fn.dense(KEY, 20, 3))
    return fn.train_step(SOFTMAX), run_of(net, "Adam"), SHUFFLED


WORKLOADS: Final[dict[str, tuple[Any, set[str]]]] = {
    "W1": (mlp(784, 100, 200, 10), set()),
    "W4": (mlp(16, 32, 32, 10), set()),
    "LayerNorm, GELU, Dropout, Adam": (with_masks(), {"integer_power", "Key.child", "words"}),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_what_is_left_to_python(name: str) -> None:
    """Only functions that are one operation of a trace; in products, sums and updates nothing."""
    (step, state, batches), allowed = WORKLOADS[name]
    with recorded() as made:
        fn.train_epoch(step, state, batches)
    run = made[0].run
    assert run.is_native
    assert run.can_fold
    calls = [line for line in run.lines if line.startswith("made = ")]
    assert len(calls) <= 8 if allowed else not run.lines, run.lines


def test_an_epoch_is_one_call() -> None:
    """After two plain steps and a checked one; with kept programs, after a checked one."""
    step, state, batches = mlp(16, 32, 32, 10)
    with counted() as steps:
        fn.train_epoch(step, state, batches)
        fn.train_epoch(step, state, batches)
    assert [each for each in steps if each] == [7, 9]


REDUCED: Final = sorted(
    name
    for name, function in vars(np).items()
    if isinstance(function, np.ufunc) and function.nin == 2 and not function.signature and function.__name__ == name
)


@pytest.mark.parametrize("name", REDUCED)
@np.errstate(all="ignore")
def test_every_reduction(name: str) -> None:
    """Of one number and of several, whose beginning is the function's identity, or the first of them."""
    values, length = np.array([-3, 2, 0, -1, 7, -2, 1, 5, -9, 4]), np.dtype(np.float64).itemsize
    checked = 0
    for letter, size in itertools.product("fd?lL", (1, 2, 9)):
        array, out, x = values[:size].astype(letter)[:, None], np.zeros(1, letter), np.zeros(length)
        text = "\n".join(
            (
                "def program(array, out):",
                "    def run(x):",
                f"        np.{name}.reduce(array, out=out, axis=0)",
                "        n0 = x.item()",
                "        return (n0, )",
                "    return run",
            )
        )
        scope: dict[str, Any] = {"np": np}
        exec(text, scope)  # noqa: S102  # one line
        plain = scope["program"](array, out)
        try:
            plain(x[:1])
        except (TypeError, ValueError):
            continue  # there is no such reduction
        wanted, out[...] = out.copy(), values[3]
        run = NativeRun(plain, text)
        run(x[:1])
        checked += run.is_native and not run.lines
        np.testing.assert_array_equal(out, wanted, strict=True)
        assert np.array_equal(np.signbit(out.astype(float)), np.signbit(wanted.astype(float)))
    assert checked or name not in {"add", "hypot", "maximum", "multiply"}


def branching(state: Any, batch: Any) -> tuple[Any, float]:
    """A step whose path depends on a number of the batch."""
    first, extra = batch.x[0, 0].item(), 0.0
    for low in range(40):
        if first <= low:
            break
        extra += 0.25
    state = state * np.float32(0.999) + batch.x.mean(axis=0) * np.float32(1e-3)
    return state, np.square(state).sum().item() + extra


def test_rare_paths() -> None:
    """Steps that no program fits are as many as without the interpreter; the others are still replayed."""
    x = np.random.default_rng(0).normal(size=(1200, 4)).astype(np.float32)
    x[:, 0] = 0
    x[10::40, 0], x[11::40, 0] = 1 + np.arange(30), 1 + (np.arange(30) + 7) % 35
    batches, state, calls = fn.minibatches(x, np.zeros(1200, np.int64), 1), np.ones(4, np.float32), list[int]()

    def step(state: Any, batch: Any) -> tuple[Any, float]:
        calls[-1] += 1
        return branching(state, batch)

    made: list[Any] = []
    for _ in range(2):
        with nullcontext() if not made else without_interpreter():
            calls.append(0)
            made.append(fn.train_epoch(step, state, batches))
    assert fn.fingerprint(made[0]) == fn.fingerprint(made[1])
    assert calls[0] == calls[1] < 200


class Named:
    """Batches with an attribute of their own that has the name of a method of ``Minibatches``."""

    gathered = True

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the batches."""
        return iter(fn.minibatches(X, Y, 7))


def test_a_name_of_the_users_own() -> None:
    """Only ``Minibatches`` says where its rows are."""
    assert ended(folded, STEP, NET, Named()) == ended(folded, STEP, NET, fn.minibatches(X, Y, 7))


# ------------------------------------------------------------------------------------------------------ errors


def replaced(batches: Any, **changes: Any) -> Any:
    """Batches whose examples are changed after their checks."""
    return evolve(batches, **changes)


def labels(value: int) -> Any:
    """Labels with this one in row 40."""
    y = Y.copy()
    y[40] = value
    return y


def numbers(value: float) -> Any:
    """Inputs with this number in row 40."""
    x = X.copy()
    x[40, 1] = value
    return x


ERRORS: Final[dict[str, tuple[Any, str]]] = {
    "a label that is too large": (replaced(ORDERED, y=labels(3)), "LabelError"),
    "a label below 0": (replaced(SHUFFLED, y=labels(-1)), "LabelError"),
    "an infinite input": (replaced(ORDERED, x=numbers(math.inf)), "NonFiniteError"),
    "no number": (replaced(SHUFFLED, x=numbers(math.nan)), "NonFiniteError"),
    "a label in the last batch": (replaced(ORDERED, y=np.where(np.arange(60) == 59, 3, Y)), "LabelError"),
    "a row beyond the last one": (
        replaced(ORDERED, order=np.where(np.arange(60) == 50, 60, np.arange(60))),
        "IndexError",
    ),
    "fewer labels than rows": (replaced(ORDERED, y=Y[:45]), "ShapeError"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    """In the middle of an epoch: the same text and step; the programs are still good afterwards."""
    batches, error = ERRORS[name]
    check_sides(STEP, NET, batches, error=error, folds=name != "fewer labels than rows")
    good = ended(folded, STEP, NET, ORDERED)
    fn.keep_programs(programs=0)
    assert good == ended(folded, STEP, NET, ORDERED)


def test_rows_that_count_from_the_end() -> None:
    """NumPy takes them, so a fold does, too."""
    check_sides(STEP, NET, replaced(ORDERED, order=np.arange(60) - 60), folds=False)


def test_errors_in_lists_of_batches() -> None:
    """One step in each call."""
    check_sides(STEP, NET, with_labels(ORDERED, 5, 3), error="LabelError", folds=False)
    check_sides(STEP, NET, with_number(ORDERED, 5, math.inf), error="NonFiniteError", folds=False)


SEEN: Final[list[float]] = []


@frozen(eq=False)
class Looking(fn.Layer):
    """``y = scale * x``, by functions that look at numbers, so a program calls them."""

    scale: fn.Array


def looking_forward(params: Looking, x: fn.Array) -> fn.Array:
    """The value; an error if there is a number above 2.5."""
    if float(x.max()) > 2.5:
        raise RuntimeError(f"a number is {float(x.max()):.2f}")
    return params.scale * x


def looking_backward(params: Looking, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Looking]:
    """The gradients."""
    return params.scale * g, Looking(np.asarray((x * g).sum(axis=0)))


fn.register_layer(Looking, forward=looking_forward, backward=looking_backward, name="tests.NativeLooking")


@pytest.mark.parametrize("error", ["", "RuntimeError: a number is 3.00"])
def test_a_function_that_is_called(error: str) -> None:
    """One that a program calls: its results, and its error in the middle of an epoch."""
    x = np.clip(inputs(KEY, 60, 4), -2, 2)
    x[40, 1] = 3 if error else 0
    net = (Looking(np.ones(4)), fn.dense(KEY, 4, 3, dtype=np.float64))
    check_sides(STEP, net, fn.minibatches(x, Y, 7), error=error)


# ------------------------------------------------------------------------------- what looks at the batches

STOPPED: Final = """
import signal, sys; sys.path[:0] = sys.argv[1].splitlines()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a program in the background may ignore it from the start
import numpy as np, funcnet as fn
from funcnet.tracing.native import is_built
assert is_built()
x = np.ones((2_000_000, 4), np.float32)
batches = fn.minibatches(x, np.arange(len(x)) % 3, 2)
step, net = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1), fn.mlp(fn.Key(0), (4, 3))
state, _ = fn.train_epoch(step, net, batches[:10])
print("begins", flush=True)
try:
    for _ in range(100):  # it ends if the signal is lost
        fn.train_epoch(step, net, batches)
except KeyboardInterrupt:
    after, _ = fn.train_epoch(step, net, batches[:10])
    print("stopped", fn.fingerprint(after) == fn.fingerprint(state), flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_a_long_epoch_is_stopped(folder: Path) -> None:
    """By KeyboardInterrupt, in a moment; the programs are still good."""
    environment = os.environ | {loaded.VARIABLE: str(folder)}
    words = [sys.executable, "-c", STOPPED, f"{ROOT}\n{SEARCHED}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        start = time.perf_counter()
        assert process.stdout.readline() == "stopped True\n"
        assert time.perf_counter() - start < 5
    assert process.returncode == 0


class Bar:
    """A progress bar: it hands on the batches, and whatever else it is asked for."""

    def __init__(self, batches: Any) -> None:
        self.batches, self.count = batches, 0

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, place: int) -> Any:
        self.count += 1
        return self.batches[place]

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            self.count += 1
            yield batch


class OpenBar(Bar):
    """One that passes for what it hands on."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.batches, name)


class Doubled(Minibatches[Any, Any]):
    """Batches that are cut in another way."""

    def _cut(self, start: int) -> Any:
        batch = super()._cut(start)
        return evolve(batch, x=batch.x * 2)


@pytest.mark.parametrize("kind", [Bar, OpenBar])
def test_a_progress_bar_sees_every_batch(kind: type[Bar]) -> None:
    """Once."""
    bar = kind(SHUFFLED)
    wanted = ended(folded, STEP, NET, SHUFFLED)
    assert ended(folded, STEP, NET, bar) == wanted
    assert bar.count == len(SHUFFLED)


def test_batches_that_are_changed() -> None:
    """By a subclass, and by a transform of each batch."""
    own = Doubled(X, Y, SHUFFLED.order, SHUFFLED.rows, 7)
    check_sides(STEP, NET, own, folds=False)
    check_sides(STEP, NET, fn.minibatches(X, Y, 7, transform=lambda batch: evolve(batch, x=batch.x * 2)), folds=False)


# ------------------------------------------------------------------------------------------- planted faults


def wrong_loop(patch: pytest.MonkeyPatch) -> None:
    """The loop of another function."""
    made = operations()._loop  # noqa: SLF001  # what is planted

    def loop(function: Any, arrays: Any) -> Any:
        return made(np.add if function is np.subtract else function, arrays)

    patch.setattr(operations(), "_loop", loop)


def wrong_order(patch: pytest.MonkeyPatch) -> None:
    """Axes from the outer one inward."""
    made = operations().merged

    def merged(strides: Any, shape: Any) -> Any:
        found = made(strides, shape)
        table = np.reshape(found["strides"], (found["axes"], -1))[::-1]
        return found | {"shape": found["shape"][::-1], "strides": table.reshape(-1).tolist()}

    patch.setattr(operations(), "merged", merged)


def wrong_copy(patch: pytest.MonkeyPatch) -> None:
    """Copies that end one number too early."""
    made = operations()._copying  # noqa: SLF001  # what is planted

    def copying(*args: Any, **options: Any) -> Any:
        found = made(*args, **options)
        first, *others = found.fields["shape"]
        return evolve(found, fields={**found.fields, "shape": [max(first - 1, 1), *others]})

    patch.setattr(operations(), "_copying", copying)


FAULTS: Final = [wrong_loop, wrong_order, wrong_copy]


@pytest.mark.parametrize("plant", FAULTS)
def test_a_planted_fault_is_reported(plant: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the check of each fold, whose plain steps have the right bits."""
    x = inputs(KEY, 120, 13, dtype=np.float32)
    net = (fn.dense(KEY, 13, 19), fn.layer_norm(19), fn.dense(KEY, 19, 3))
    batches = fn.minibatches(x, np.arange(120) % 3, 24)
    fn.keep_programs(programs=0)
    wanted = ended(folded, STEP, net, batches)
    fn.keep_programs()
    plant(monkeypatch)
    with pytest.warns(fn.ReplayWarning, match="gave different numbers"):
        assert ended(folded, STEP, net, batches) == wanted


@pytest.mark.parametrize("plant", [*FAULTS, None])
def test_the_fuzz_finds_planted_faults(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And none without them."""
    if plant is not None:
        plant(monkeypatch)
    counts, found = fuzz.fuzz(20_000, 0, report=str, limit=1)
    assert bool(found) == (plant is not None), "\n".join(found)
    assert counts["lines of the interpreter"] > counts["lines"] // 3
    assert counts["programs that fold"] or plant is not None


def test_the_fuzz_is_repeatable() -> None:
    """The same programs for the same seed, others for another one."""

    def first(seed: int) -> list[str]:
        made = fuzz.programs(seed)
        return [next(made).source for _ in range(5)]

    assert first(3) == first(3) != first(4)


# ------------------------------------------------------------------------------------------------ memory


def unaligned(array: Any) -> Any:
    """The numbers at an address that is no multiple of their size."""
    made = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    made[...] = array
    return made


INPUTS: Final[dict[str, Callable[[Any], Any]]] = {
    "unaligned": unaligned,
    "read-only": lambda array: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
    "of the other byte order": lambda array: array.astype(FOREIGN),
    "with gaps": lambda array: np.repeat(array, 2, axis=-1)[:, ::2],
    "backward": lambda array: array[::-1].copy()[::-1],
    "in Fortran's order": np.asfortranarray,
    "of no column": lambda array: array[:, :0],
    "of no row": lambda array: array[:0],
}


def summing(state: Any, x: Any) -> tuple[Any, float]:
    """A user's step on arrays of any kind."""
    total = np.add.reduce(x, axis=None, dtype=np.float64)
    return state * 0.5 + total, (np.maximum(x, 0) * 2).sum().item()


@pytest.mark.parametrize("name", INPUTS)
def test_inputs(name: str) -> None:
    """Of any layout; every second time, the program gets another alignment."""
    first, made = X[:7], INPUTS[name](X[:7])
    others = [np.add(made, number, dtype=made.dtype) if name == "of no column" else made for number in range(3)]
    batches = [each for pair in zip(others, [first] * 3, strict=True) for each in pair] + [made] * 4
    check_sides(summing, np.ones(3), batches, folds=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [8192, 8193, 12_000, 30_000])
def test_long_sums(dtype: Any, length: int) -> None:
    """NumPy sums more than 8,192 numbers in pieces, in some versions."""
    rows = np.random.default_rng(length).normal(size=(6, 1, length)).astype(dtype)
    check_sides(summing, np.ones(3), list(rows), folds=False)


def test_axes_have_the_order_of_numpys_iterator() -> None:
    """Also where two operands have their axes in orders that do not agree, or strides of 0."""
    random, merged, several = np.random.default_rng(5), operations().merged, 0
    for _ in range(2000):
        ndim, count = random.integers(1, 5), random.integers(1, 4)
        shape = tuple(random.choice([1, 2, 3, 4], ndim).tolist())
        arrays: list[Any] = []
        for _ in range(count):
            strides, step = [0] * ndim, 8
            for axis in random.permutation(ndim):
                strides[axis], step = step, step * shape[axis] * int(random.choice([1, 1, 1, 2]))
            kept = [
                stride * (size > 1 and chance > 0.25)
                for stride, size, chance in zip(strides, shape, random.random(ndim), strict=True)
            ]
            arrays.append(np.lib.stride_tricks.as_strided(np.empty(step // 8), shape, [int(each) for each in kept]))
        wanted = np.nditer(arrays, order="K").itviews
        if wanted[0].ndim and wanted[0].size > 1:
            made = merged([each.strides for each in arrays], shape)
            assert tuple(made["shape"]) == wanted[0].shape[::-1]
            for place, each in enumerate(wanted):
                assert tuple(made["strides"][place :: operations().OPERANDS]) == each.strides[::-1]
            several += len(made["shape"]) > 1
    assert several > 500


GUARD: Final = 64
ARENA: Final = f'''
from builtins import ARENAS

def memory(nbytes):
    """A block between guard bytes."""
    whole = np.full(nbytes + {3 * GUARD}, 0xA5, np.uint8)
    start = {GUARD} - whole.__array_interface__["data"][0] % {GUARD} + {GUARD}
    whole[start : start + nbytes] = 0
    ARENAS.append((whole, start, nbytes))
    return whole[start : start + nbytes]

def program('''


@pytest.mark.parametrize("name", WORKLOADS)
def test_no_byte_outside_is_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the blocks that a program allocates, of its state, and of its arguments."""
    (step, state, batches), _ = WORKLOADS[name]
    with recorded() as made:
        fn.train_epoch(step, state, batches)
    source, block, constants = made[0].source, made[0].memory.block, made[0].constants
    arenas: list[Any] = []
    scope: dict[str, Any] = {}
    monkeypatch.setattr(builtins, "ARENAS", arenas, raising=False)
    text = source.replace("\ndef program(", ARENA, 1)
    exec(text, scope)  # noqa: S102  # the program's own source
    state_block = scope["memory"](len(block))
    state_block[...] = block
    given: list[Any] = []
    for each in made[0].run.given:
        if is_array(each):
            given.append(scope["memory"](each.nbytes).view(each.dtype).reshape(each.shape))
            given[-1][...] = each
        else:
            given.append(each)
    copies = [each.copy() if is_array(each) else each for each in given]
    run = NativeRun(scope["program"](state_block, constants), text)
    for _ in range(5):
        assert run(*given) is not None
    assert run.is_native
    assert len(arenas) > 4
    assert all((whole[:start] == 0xA5).all() for whole, start, _ in arenas)
    assert all((whole[start + nbytes :] == 0xA5).all() for whole, start, nbytes in arenas)
    assert bits(tuple(given)) == bits(tuple(copies))


def test_threads() -> None:
    """Folds in threads at the same time: programs of their own, the bits of one thread."""
    step, state = fn.train_step(SOFTMAX), run_of(classifier((square(0), fn.Dropout(0.4)), np.float32), "Adam")
    batches = [fn.minibatches(inputs(KEY.child(i), 700, 4, dtype=np.float32), np.arange(700) % 3, 7) for i in range(4)]
    fn.keep_programs(programs=0)
    wanted = [ended(folded, step, state, each) for each in batches]
    fn.keep_programs()
    with counted() as steps:
        for _ in range(3):
            assert at_once(lambda i: ended(folded, step, state, batches[i])) == wanted
    assert sum(steps) > 1000


@pytest.mark.parametrize("name", WORKLOADS)
def test_repeated_steps_keep_nothing(name: str) -> None:
    """No reference to an argument, a number or a result, and no memory: of one step a call, and of many."""
    (step, state, batches), _ = WORKLOADS[name]
    with recorded() as made:
        fn.train_epoch(step, state, batches)
    run, given = made[0].run, made[0].run.given
    numbers = tuple(each for each in given if not is_array(each))
    arrays: list[Any] = [each for each in given if is_array(each)]
    watched = [*arrays, None, True, NotImplemented, np.float32]
    counts: list[list[int]] = []
    sizes: list[int] = []
    tracemalloc.start()
    try:
        for _ in range(4):
            for _ in range(500):
                assert run(*given) is not None
                assert len(run.fold(arrays, arrays, None, range(len(arrays[0])), numbers)[0]) == 1
            gc.collect()
            counts.append([sys.getrefcount(each) for each in watched])
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert counts[-1][: len(arrays)] == counts[1][: len(arrays)]
    assert max(abs(a - b) for a, b in zip(counts[-1], counts[1], strict=True)) < 100
    assert sizes[-1] - sizes[1] < 16_000  # one number for each step would take 24 bytes


# ------------------------------------------------------------------------------------------------- sanitizers


PLANTED: Final = {
    "an index one too far": ("op->n ? op->n - 1 :", "op->n ? op->n :"),
    "a byte too many": ("chosen * bytes, bytes)", "chosen * bytes, bytes + 1)"),
}


def sanitized(folder: Path, operations: int) -> subprocess.CompletedProcess[str]:
    """Fuzz with an interpreter that was built with the sanitizers."""
    words = [str(sysconfig.get_config_var("CC")).split()[0], "-print-file-name=libasan.so"]
    library = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    if not Path(library).is_file():
        pytest.skip("there is no library of the address sanitizer")
    environment = os.environ | {
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
        loaded.VARIABLE: str(folder),
    }
    words = [sys.executable, str(ROOT / "tests/tools/fuzz_programs.py"), "--operations", str(operations)]
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    """A folder with an interpreter that was built with the sanitizers."""
    made = tmp_path_factory.mktemp("checked")
    result = command(made, "--sanitize")
    if result.returncode:
        pytest.skip(f"the compiler has no sanitizers, but built {folder}: {result.stderr[-500:]}")
    return made


@pytest.mark.slow
def test_sanitizers_find_nothing(checked: Path) -> None:
    """In random programs; each read and write of the interpreter is checked."""
    result = sanitized(checked, 10_000)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 differences" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("fault", PLANTED)
def test_sanitizers_find_planted_faults(fault: str, checked: Path) -> None:
    """An interpreter of changed source; it has the version of the right one, so it is loaded."""
    builder = import_module("funcnet.tracing.native.__main__")
    right, wrong = PLANTED[fault]
    changed = checked / fault.replace(" ", "-")
    changed.mkdir()
    words = builder.command(changed / loaded.NAME, sanitize=True)
    for name in ("replay.c", "operations.h"):
        text = compiled.SOURCE.with_name(name).read_text(encoding="utf-8")
        (changed / name).write_text(text.replace(right, wrong), encoding="utf-8")
    texts = [compiled.SOURCE.with_name(name).read_text(encoding="utf-8") for name in ("replay.c", "operations.h")]
    assert any(right in text for text in texts)
    words[words.index(str(compiled.SOURCE))] = str(changed / "replay.c")
    subprocess.run(words, check=True)
    result = sanitized(changed, 30_000)
    assert result.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in result.stderr, result.stdout + result.stderr
