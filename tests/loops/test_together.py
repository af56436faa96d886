"""Networks together: each has the bits, the errors and the log of its own run, in any group and on any executor."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from shutil import which
from typing import Any, Final

import attrs
import numpy as np
import pytest
from networks import inputs
from surroundings import ROOT, SEARCHED
from thread_ranks import Rank, errors_on, on_ranks

import funcnet as fn
from funcnet.arithmetic import Name, using
from funcnet.loops import together
from funcnet.tracing.structure import leaves_of

KEY: Final = fn.Key(21)
X: Final = inputs(KEY.child("x"), 50, 6, dtype=np.float32)
LABELS: Final = (X[:, 0] > X[:, 1]).astype(np.int64) + (X[:, 2] > 1)
STEP: Final = fn.train_step(fn.softmax_cross_entropy)
SGD_STEP: Final = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
States = tuple[Any, ...]
Pairs = tuple[tuple[Any, fn.EpochLog], ...]


@attrs.frozen(eq=False)
class Scale(fn.Layer):
    """A layer of the user: ``y = x * scale``."""

    scale: fn.Array


def scale_forward(params: Scale, x: fn.Array) -> fn.Array:
    """Scale each feature."""
    return x * params.scale


def scale_backward(params: Scale, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Scale]:
    """Return the gradients by the product rule."""
    return g * params.scale, attrs.evolve(params, scale=fn.arithmetic.sum_rows(x * g))


fn.register_layer(Scale, forward=scale_forward, backward=scale_backward, name="test_together.Scale")


def own_step(state: Any, batch: fn.Batch[Any]) -> tuple[Any, float]:
    """Descend at the rate in the state; the state counts its steps."""
    net, rate, count = state
    loss, grads = fn.value_and_grad(net, batch.x, batch.y, fn.softmax_cross_entropy)
    return (fn.sgd_update(net, grads, learning_rate=rate), rate, count + 1), loss


def untraceable_step(state: Any, batch: fn.Batch[Any]) -> tuple[Any, float]:
    """Descend, after a look at a number that no program can keep."""
    rate = 0.1 if float(batch.x[0, 0]) > 0 else 0.2
    loss, grads = fn.value_and_grad(state, batch.x, batch.y, fn.softmax_cross_entropy)
    return fn.sgd_update(state, grads, learning_rate=rate), loss


def data(epoch: int, i: int) -> fn.Minibatches[Any]:
    """Return seven batches in a different order for each epoch and state; the last one is smaller."""
    return fn.minibatches(X, LABELS, 8, key=KEY.child("shuffle", epoch, i))


def net(i: int, *, drop: bool = True, size: int = 8) -> tuple[fn.Layer, ...]:
    """Return a network with statistics, and with a Dropout whose rate depends on i."""
    middle = (fn.Dropout(0.1 + 0.1 * i),) if drop else ()
    first = (fn.dense(KEY.child(i, 0), 6, size), fn.batch_norm(size), fn.Tanh())
    return (*first, *middle, fn.dense(KEY.child(i, 1), size, 3))


def state(optimizer: Any, i: int = 0, **settings: Any) -> fn.TrainState[Any]:
    """Return a state whose weights and key depend on i."""
    return fn.TrainState.create(net(i, **settings), optimizer, key=KEY.child("run", i))


def sweep(count: int = 3) -> States:
    """Return states with different weights, rates and keys."""
    return tuple(state(fn.Momentum(0.02 * (i + 1)), i) for i in range(count))


RATES: Final = (0.01, 0.02, 0.05)
OPTIMIZERS: Final[dict[str, Callable[[float], Any]]] = {
    "SGD": fn.SGD,
    "momentum": lambda rate: fn.Momentum(rate, momentum=0.5 + 5 * rate),
    "nesterov": fn.Nesterov,
    "decay": lambda rate: fn.WeightDecay(fn.Adam(rate), weight_decay=rate),
    "amsgrad": lambda rate: fn.Adam(rate, betas=(1 - rate, 0.99), amsgrad=True),
    "adamw": lambda rate: fn.AdamW(fn.cosine_decay(rate, steps=9)),
    "nadam": fn.NAdam,
    "rmsprop": lambda rate: fn.RMSprop(rate, momentum=0.5, centered=True),
    "adagrad": fn.Adagrad,
    "lion": fn.Lion,
    "clipped": lambda rate: fn.ClipByGlobalNorm(fn.ClipByValue(fn.SGD(rate), 0.1), 10 * rate),
    "accumulated": lambda rate: fn.Accumulation(fn.Adam(rate), steps=3),
    "averaged": lambda rate: fn.Averaging(fn.SGD(rate), decay=1 - rate),
}
FREE: Final[tuple[Any, ...]] = tuple((*net(i, drop=False), Scale(np.ones(3, np.float32))) for i in range(3))
TRAINING: Final = tuple(fn.training(each, KEY) for each in FREE)
RUNS: Final[dict[str, tuple[Any, States]]] = {
    **{name: (STEP, tuple(state(make(r), i) for i, r in enumerate(RATES))) for name, make in OPTIMIZERS.items()},
    "a whole rate": (STEP, (state(fn.SGD(1)), state(fn.SGD(0.1), 1))),
    "networks, with a layer of the user": (SGD_STEP, TRAINING),
    "a step of the user": (own_step, tuple((each, 0.1 * i + 0.1, i) for i, each in enumerate(TRAINING))),
    "an untraceable step": (untraceable_step, TRAINING),
    "shards": (fn.train_step(fn.softmax_cross_entropy, shard_size=3), sweep(2)),
    "one state": (STEP, sweep(1)),
}  # fmt: skip


def run(step: Any, states: Iterable[Any], epochs: int = 2, **settings: Any) -> list[Pairs]:
    """Return all epochs of the states together."""
    return list(fn.train_together(step, tuple(states), data, epochs=range(epochs), **settings))


def alone(step: Any, states: States, epochs: int = 2) -> list[Pairs]:
    """Return the same from one run for each state."""
    runs = [fn.train(step, each, partial(data, i=i), epochs=range(epochs)) for i, each in enumerate(states)]
    return list(zip(*runs, strict=True))


def bits(value: Any) -> list[Any]:
    """Return the bits of every array and number of states and logs, in tuples or lists."""
    arrays = (np.asarray(leaf) for each in value for leaf in leaves_of(each))
    return [(array.dtype, array.tobytes()) for array in arrays]


# -------------------------------------------------------------------------------------------------- the law


@pytest.mark.parametrize("arithmetic", ["native", "portable"])
@pytest.mark.parametrize("name", RUNS)
def test_each_run_is_that_of_its_state_alone(name: str, arithmetic: Name) -> None:
    """States, losses and totals have the bits of ``train``, whatever numbers the states differ in."""
    step, states = RUNS[name]
    if isinstance(states[0], fn.TrainState):
        states = tuple(attrs.evolve(each, arithmetic=arithmetic) for each in states)
    with using(arithmetic):
        assert bits(run(step, states)) == bits(alone(step, states))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_size_of_a_group_changes_no_bit(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five states have the same bits in groups of any size, and as one group."""
    whole = bits(run(STEP, sweep(5)))
    monkeypatch.setattr(together, "GROUP", size)
    assert bits(run(STEP, sweep(5))) == whole


def test_groups_fit_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small states are cut into equal groups, an executor gets more of them, and large states are alone."""
    sizes: list[int] = []

    class Sizes(ThreadPoolExecutor):
        """Notes the sizes of the groups."""

        def map(self, function: Any, tasks: Any, **settings: Any) -> Any:  # type: ignore[override]
            """Compute the tasks."""
            sizes.extend(len(task.states) for task in tasks)
            return super().map(function, tasks, **settings)

    def found(processors: int) -> list[int]:
        sizes.clear()
        monkeypatch.setattr("os.cpu_count", lambda: processors)
        with Sizes(1) as executor:
            run(SGD_STEP, TRAINING[:1] * 130, 1, executor=executor)
        return sizes

    assert found(1) == [43, 43, 44]
    assert found(4) == [32, 33, 32, 33]
    assert set(found(100)) == {7, 8}
    monkeypatch.setattr(together, "MEMORY", 1)
    assert set(found(1)) == {1}


def test_a_resumed_run_has_the_bits_of_one() -> None:
    """A run that resumes with its last states continues as if it had not stopped, also with some of them alone."""
    *_, (whole) = run(STEP, sweep(), 4)
    *_, pairs = run(STEP, sweep(), 2)
    states = [each for each, _ in pairs]
    *_, resumed = fn.train_together(STEP, states, data, epochs=range(2, 4))
    assert bits(resumed) == bits(whole)
    *_, single = fn.train(STEP, states[1], lambda epoch: data(epoch, 1), epochs=range(2, 4))
    assert bits(single) == bits(whole[1])


def test_it_is_lazy() -> None:
    """Nothing is computed before it is requested; data is asked once for each epoch and state."""
    asked: list[tuple[int, int]] = []

    def noted(epoch: int, i: int) -> Any:
        asked.append((epoch, i))
        return data(epoch, i)

    found = fn.train_together(STEP, sweep(2), noted, epochs=range(4))
    assert not asked
    next(found)
    assert asked == [(0, 0), (0, 1)]
    next(found)
    assert asked[2:] == [(1, 0), (1, 1)]
    assert list(fn.train_together(STEP, sweep(2), noted, epochs=())) == []


def test_the_arithmetic_is_that_of_the_call() -> None:
    """A run begun in portable arithmetic is portable wherever it is advanced."""
    with fn.portable():
        states = sweep(2)
        expected = bits(alone(STEP, states))
        found = fn.train_together(STEP, states, data, epochs=range(2))
    assert bits(list(found)) == expected
    with fn.portable(), ThreadPoolExecutor(2) as executor:
        found = fn.train_together(STEP, states, data, epochs=range(2), executor=executor)
        with using("native"):
            assert bits(list(found)) == expected


def test_a_program_computes_all_states() -> None:
    """The step is called for few of the 63 steps, though no state has the numbers of another one."""
    calls: list[int] = []

    def counted(state: Any, batch: fn.Batch[Any]) -> Any:
        calls.append(1)
        return STEP(state, batch)

    run(counted, sweep(), 3)
    assert len(calls) < 32


def test_batches_may_be_a_generator() -> None:
    """Any iterable of batches is taken, once."""
    found = fn.train_together(STEP, sweep(2), lambda epoch, i: (batch for batch in data(epoch, i)), epochs=range(2))
    assert bits(list(found)) == bits(alone(STEP, sweep(2)))


# -------------------------------------------------------------------------------------------------- errors


DIVERGES: Final = tuple(fn.TrainState.create(FREE[0], fn.SGD(rate), key=KEY) for rate in (0.1, 0.2, 0.1, 0.1, 1e30))


def with_label(label: int, *positions: int) -> Any:
    """Return data with a wrong label in epoch 1, in the fourth batch of the states at these positions."""

    def wrong(epoch: int, i: int) -> Any:
        labels = LABELS.copy()
        labels[30] = label if epoch == 1 and i in positions else labels[30]
        return fn.minibatches(X, labels, 8)

    return wrong


def test_an_error_names_its_state() -> None:
    """It is the error of the first failing state alone, after its position and its epoch."""
    single = fn.train(STEP, sweep()[1], lambda epoch: with_label(7, 1)(epoch, 1), epochs=range(2))
    next(single)
    with pytest.raises(fn.LabelError) as one:
        next(single)
    found = fn.train_together(STEP, sweep(), with_label(7, 1, 2), epochs=range(2))
    next(found)
    with pytest.raises(fn.LabelError) as error:
        next(found)
    assert str(error.value) == f"state 1, epoch 1: {one.value}"
    assert error.value.step == one.value.step == 3


def test_a_state_that_diverges_is_named() -> None:
    """The message is that of train: the step of an infinite loss, or the parameter that is infinite at the end."""
    with pytest.raises(fn.NonFiniteError) as one:
        list(fn.train(STEP, DIVERGES[-1], lambda epoch: data(epoch, 4), epochs=range(1)))
    with pytest.raises(fn.NonFiniteError) as error:
        run(STEP, DIVERGES)
    assert str(error.value) == f"state 4, epoch 0: {one.value}"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("positions", [(1, 2), (2, 3), (0, 1), (3,)])
def test_an_error_is_that_of_the_first_state_of_all_groups(positions: tuple[int, ...], workers: int) -> None:
    """Whole and other rates are two structures, and so two groups: states 0 and 2, and states 1 and 3."""
    states = tuple(fn.TrainState.create(net(i), fn.SGD((1, 0.1)[i % 2]), key=KEY) for i in range(4))
    with ThreadPoolExecutor(workers or 1) as executor:
        settings = {"executor": executor} if workers else {}
        found = fn.train_together(STEP, states, with_label(7, *positions), epochs=range(2), **settings)
        next(found)
        with pytest.raises(fn.LabelError, match=f"^state {positions[0]}, epoch 1: step 3: "):
            next(found)


def test_an_error_of_data_has_a_note() -> None:
    """An error of the user's function keeps its class and its text."""

    def lost(epoch: int, i: int) -> Any:
        if i:
            raise KeyError("lost")
        return data(epoch, i)

    with pytest.raises(KeyError, match="lost") as error:
        list(fn.train_together(STEP, sweep(), lost, epochs=range(1)))
    assert error.value.__notes__ == ["in state 1, epoch 0"]


def test_a_step_with_a_reducer_has_no_executor() -> None:
    """All ranks must compute the states in one order; without an executor, they are trained one by one."""
    step = fn.train_step(fn.softmax_cross_entropy, shard_size=4, reducer=fn.SerialReducer())
    assert bits(run(step, sweep(2))) == bits(alone(step, sweep(2)))
    with (
        ThreadPoolExecutor(1) as executor,
        pytest.raises(fn.ConfigError, match="a step with a reducer needs executor=N"),
    ):
        run(step, sweep(2), executor=executor)


def test_a_step_with_its_own_executor_has_no_other_one() -> None:
    """If both were one pool of threads, its threads would wait for each other; the step's own one changes no bit."""
    with ThreadPoolExecutor(1) as executor:
        step = fn.train_step(fn.softmax_cross_entropy, shard_size=4, executor=executor)
        assert bits(run(step, sweep(2))) == bits(alone(step, sweep(2)))
        with pytest.raises(fn.ConfigError, match="a step with its own executor needs executor=N"):
            run(step, sweep(2), executor=executor)


class Exchanging:
    """A step of the user whose ranks exchange the loss: in each step, all of them must compute the same state."""

    def __init__(self) -> None:
        self.reducer: fn.Reducer = fn.SerialReducer()

    def __repr__(self) -> str:
        return "Exchanging()"

    def __call__(self, state: Any, batch: fn.Batch[Any]) -> tuple[Any, float]:
        """Descend, after an exchange that no program can keep."""
        loss, grads = fn.value_and_grad(state, batch.x, batch.y, fn.softmax_cross_entropy)
        size, value = self.reducer.size, float(loss)
        found = self.reducer.gather([value] * len(self.reducer.own(size)), size)
        if set(found) != {value}:
            raise RuntimeError(f"the ranks compute different states: {found}")
        return fn.sgd_update(state, grads, learning_rate=0.1), loss


def test_ranks_take_the_steps_of_a_users_step_in_one_order() -> None:
    """A rank that keeps programs of the step computes the states in the order of a rank that does not."""

    def work(rank: Rank) -> list[Any]:
        step = Exchanging()
        if rank.rank:
            run(step, TRAINING)
        step.reducer = rank
        return bits(run(step, TRAINING))

    expected = bits(alone(Exchanging(), TRAINING))
    assert on_ranks(2, work) == [expected] * 2


def test_ranks_do_not_repeat_a_step_that_fails() -> None:
    """A repeated exchange would wait for the other ranks: data is asked once, until the first state that fails."""
    asked: list[tuple[int, int]] = []

    def noted(epoch: int, i: int) -> Any:
        asked.append((epoch, i))
        return with_label(7, 1, 2)(epoch, i)

    def work(rank: Rank) -> None:
        step = Exchanging()
        step.reducer = rank
        list(fn.train_together(step, TRAINING, noted, epochs=range(1, 2)))

    errors = errors_on(2, work)
    assert [str(error).partition(": step 3")[0] for error in errors] == ["state 1, epoch 1"] * 2
    assert sorted(asked) == [(1, 0), (1, 0), (1, 1), (1, 1)]


SGD: Final = state(fn.SGD(0.1))
OTHERS: Final[dict[str, tuple[States, str]]] = {
    "shape": ((SGD, state(fn.SGD(0.1), size=9)), "params.0.weight is float32 (6, 9) in state 1 and float32 (6, 8) in"),
    "dtype": ((FREE[0], fn.astype(FREE[0], np.float64)), "0.weight is float64 (6, 8) in state 1 and float32 (6, 8) in"),
    "layer": (((fn.ReLU(),), (fn.Tanh(),)), "0 is Tanh in state 1 and ReLU in"),
    "length": ((FREE[0], FREE[1][:-1]), "the state is a tuple of 4 in state 1 and a tuple of 5 in"),
    "optimizer": ((SGD, state(fn.Nesterov(0.1))), "optimizer is Nesterov in state 1 and SGD in"),
    "setting": ((state(fn.Adam(0.1)), state(fn.Adam(0.1, eps_hat=True))), "optimizer.eps_hat is True in state 1 and F"),
    "schedule": ((SGD, state(fn.SGD(fn.step_decay(0.1, step_size=2)))), "learning_rate is StepDecay in state 1 and "),
    "bias": (((fn.dense(KEY, 2, 2),), (fn.dense(KEY, 2, 2, bias=False),)), "0.bias is None in state 1 and float32 (2"),
    "arithmetic": ((SGD, attrs.evolve(SGD, arithmetic="portable")), "arithmetic is 'portable' in state 1 and 'native"),
    "kind": ((SGD, FREE[0]), "the state is tuple in state 1 and TrainState in"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_states_have_one_structure(name: str) -> None:
    """The message has the path, and both sides; nothing is computed before it."""
    states, text = OTHERS[name]
    with pytest.raises(fn.StructureError, match="train_together: all states must have one structure: ") as error:
        fn.train_together(STEP, (states[0], *states), data, epochs=range(1))
    assert text.replace("state 1", "state 2") in str(error.value)


def other_data(rows: int, size: int) -> Any:
    """Return data with other batches in state 2, from epoch 1 on."""

    def made(epoch: int, i: int) -> Any:
        count, batch_size = (rows, size) if epoch and i == 2 else (50, 8)
        return fn.minibatches(X[:count], LABELS[:count], batch_size)

    return made


@pytest.mark.parametrize("group", [1, 2, 64])
@pytest.mark.parametrize("step", [STEP, untraceable_step], ids=["traced", "untraceable"])
@pytest.mark.parametrize(
    ("cut", "text"),
    [
        (
            (50, 9),
            r"shapes and dtypes: batch 0 of epoch 1 has \(float32 \(9, 6\), int64 \(9,\)\) in state 2 and \(float32",
        ),
        (
            (49, 8),
            r"shapes and dtypes: batch 6 of epoch 1 has \(float32 \(1, 6\), int64 \(1,\)\) in state 2 and \(float32",
        ),
        ((48, 8), r"number: epoch 1 has 6 in state 2 and 7 in state [01]"),
        (
            (34, 8),
            r"shapes and dtypes: batch 4 of epoch 1 has \(float32 \(2, 6\), int64 \(2,\)\) in state 2 and \(float32",
        ),
    ],
)
def test_batches_have_one_structure(
    cut: tuple[int, int], text: str, step: Any, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any group, states whose batches differ in number or in shape are refused with both sides."""
    monkeypatch.setattr(together, "GROUP", group)
    states = sweep() if step is STEP else TRAINING
    found = fn.train_together(step, states, other_data(*cut), epochs=range(2))
    next(found)
    with pytest.raises(fn.StructureError, match=f"^train_together: all states must have batches of the same {text}"):
        next(found)


# ------------------------------------------------------------------------------------------------ executors


@pytest.fixture(scope="module")
def expected() -> list[Any]:
    """Return the bits of five states without an executor."""
    return bits(run(STEP, sweep(5)))


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_change_no_bit(workers: int, expected: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of two in threads have the bits of one group in this thread."""
    monkeypatch.setattr(together, "GROUP", 2)
    with ThreadPoolExecutor(workers) as executor:
        assert bits(run(STEP, sweep(5), executor=executor)) == expected
        with pytest.raises(fn.LabelError, match=r"^state 3, epoch 1: step 3: softmax_cross_entropy: labels must be in"):
            list(fn.train_together(STEP, sweep(5), with_label(7, 3, 4), epochs=range(2), executor=executor))


@pytest.mark.slow
@pytest.mark.parametrize("arithmetic", ["native", "portable"])
def test_processes_change_no_bit(arithmetic: Name, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spawned processes compute the same bits and raise the same errors; a lambda is refused, and nothing hangs."""
    monkeypatch.setattr(together, "GROUP", 2)
    with using(arithmetic), ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        assert bits(run(STEP, sweep(5), executor=executor)) == bits(run(STEP, sweep(5)))
        with pytest.raises(Exception, match="pickle"):
            list(fn.train_together(STEP, sweep(5), lambda _, i: data(0, i), epochs=range(2), executor=executor))
        bad = [attrs.evolve(each, arithmetic=arithmetic) for each in DIVERGES]
        with pytest.raises(fn.NonFiniteError, match=r"^state 4, epoch 0: "):
            run(STEP, bad, executor=executor)


def on_executor(executor: Executor) -> bool:
    """Whether an executor computes the bits of this process; called in a separate program."""
    pytest.MonkeyPatch().setattr(together, "GROUP", 2)
    return bits(run(STEP, sweep(5), executor=executor)) == bits(run(STEP, sweep(5)))


POOLS: Final = {
    "mpi4py": """
    from mpi4py.futures import MPIPoolExecutor
    with MPIPoolExecutor(backoff=0.001) as pool:
        print(test_together.on_executor(pool))
""",
    "dask": """
    from distributed import Client
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        print(test_together.on_executor(client.get_executor()))
""",
    "loky": """
    from joblib.externals.loky import get_reusable_executor
    print(test_together.on_executor(get_reusable_executor(2)))
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("library", POOLS)
def test_executors_of_other_libraries_change_no_bit(library: str, tmp_path: Path) -> None:
    """The workers of mpi4py, dask and joblib, which are processes, compute the same bits."""
    modules = {"mpi4py": "mpi4py.MPI", "dask": "distributed", "loky": "joblib.externals.loky"}
    pytest.importorskip(modules[library], reason=f"{library} is not installed")
    program = tmp_path / "program.py"
    program.write_text(f"if __name__ == '__main__':\n    import test_together{POOLS[library]}")
    command = [sys.executable, str(program)]
    if library == "mpi4py":
        mpiexec = which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        if mpiexec is None:
            pytest.skip("mpiexec is neither beside this Python nor on the path")
        command = [mpiexec, "-n", "3", sys.executable, "-m", "mpi4py.futures", str(program)]
    paths = os.pathsep.join([str(ROOT), *SEARCHED.splitlines()])
    surroundings = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": paths}
    made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=surroundings)
    assert (made.returncode, made.stdout.strip()) == (0, "True"), made.stderr


@pytest.mark.slow
def test_the_guides_sweep_prints_what_it_says(tmp_path: Path) -> None:
    """The program in a file, which starts processes, prints the text that follows it."""
    guide = ROOT / "examples" / "guides" / "many_networks.md"
    if not guide.exists():
        pytest.skip("the guides are not beside the tests")
    found = re.search(r"```py\n(.*?)```\n\n```text\n(.*?)```", guide.read_text(), re.DOTALL)
    assert found
    program = tmp_path / "sweep.py"
    program.write_text(found[1])
    made = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=True, timeout=120)
    assert made.stdout == found[2]
