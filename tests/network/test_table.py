"""The table of layers: it has every layer, and each row has a portable golden hash and resumes bit for bit."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from attrs import frozen
from networks import CASES, Case, every_layer, inputs
from random_networks import KINDS
from surroundings import OTHER_LIBM, SEARCHED, x86

import funcnet as fn
from funcnet.core.trees import leaves
from funcnet.data.batches import Minibatches
from funcnet.layers import dense

KEY = fn.Key(91)
GOLDENS: Final[dict[str, str]] = {
    "Dense": "2c2e61b8e462032a",
    "Dense without bias": "cbc375298813ed3a",
    "Dense of sequences": "e5cb1c2147d3c2a9",
    "Dense of images": "f7a68a96ec2cbce8",
    "Identity": "aa956c0adbf614a1",
    "ReLU": "ef8cea6d8a59cc6c",
    "Sigmoid": "634612f536c783c5",
    "Tanh": "5c7131efd819ae0f",
    "LeakyReLU": "594a49934d265c93",
    "LeakyReLU of slope 0.3": "986bfb82319b9b9e",
    "ELU": "ecdb2f6cd7a459eb",
    "ELU of alpha 0.5": "35980083b1b4a894",
    "SELU": "2cd278fad5a48b8f",
    "Softplus": "d4bd2427ad68db5e",
    "Softsign": "a4bf3e31ae0aebd9",
    "SiLU": "3542e21ff420832e",
    "HardSwish": "68f229df9bd87277",
    "Mish": "e12c70af638e5de5",
    "GELU": "c38170056ad9ace0",
    "GELUTanh": "8e8f89b9d736d028",
    "PReLU of one slope": "34f0e64f6a79e2c8",
    "PReLU": "8b4f943643abb1af",
    "PReLU of images": "2457d42c790c0e0e",
    "Softmax": "aa1b03d921b9e82e",
    "Softmax of images": "bb7d6a1f9ebfa04c",
    "Dropout": "f5e41abd77889a76",
    "Dropout in training": "87a68ba26af0c6f1",
    "Residual": "3d1a49bf7d49fdb5",
    "Residual of nothing": "0eab13cf28272432",
    "Frozen": "222140c36d2068c3",
    "Frozen statistics": "9c7f44c2a4bf3ba6",
    "Parallel": "54413184744b08f2",
    "Parallel of one": "bff87a1781ca30ca",
    "Parallel of three": "376edbcd70120d8c",
    "Parallel that concatenates": "aab99899e7f15462",
    "Parallel that multiplies": "92363c8c285ca66b",
    "Parallel of images": "6657f550a15fe710",
    "Repeat": "715c42270fe5bf63",
    "Repeat of once": "b067082f67fab5cd",
    "Repeat in training": "0497fc09d603d5fd",
    "combinators in each other": "714b248f60f02e91",
    "Flatten": "f052670c53ce7126",
    "LayerNorm": "14be83c98efc8270",
    "LayerNorm without scale": "261fe32fc7958834",
    "LayerNorm without offset": "a4c125f01cd4666a",
    "LayerNorm without arrays": "14ac0e96d8980dc0",
    "LayerNorm of images": "e8454c2c8ee8d2c2",
    "LayerNorm over two axes": "4a1d07de3435a9ec",
    "LayerNorm over three axes": "b36306a0b1aee319",
    "LayerNorm over two axes without arrays": "3a51f1ac760de690",
    "RMSNorm": "5e1b5e483529acda",
    "RMSNorm without scale": "e6e13cb6043d7373",
    "RMSNorm of images": "127711087702b546",
    "RMSNorm over two axes": "d9e4d75c42eafa9d",
    "BatchNorm": "3b1eedb177d7d61e",
    "BatchNorm without scale": "05c1e44fd485a355",
    "BatchNorm without offset": "9f264c3c95f01aa9",
    "BatchNorm without both": "9c98e28a94b834cb",
    "BatchNorm of images": "10e01c7e836d6112",
    "BatchNorm in training": "dbc3f9e90b0952c9",
    "BatchNorm without scale in training": "cba8c475c62d78c6",
    "BatchNorm of images without arrays in training": "93f620330c97c7cf",
    "BatchNorm of images in training": "d5ffaa2a8781f1f0",
    "Standardize": "0e4582dd32e8aafa",
    "Standardize of images": "dc6e4fc56778ee19",
    "Reshape": "66fd661dd5bd87d8",
    "Conv2D of (5, 4, 2), kernel (3, 3), stride 1, padding valid, dilation 1": "9d092ee8341016b7",
    "Conv2D of (5, 4, 2), kernel (3, 3), stride 1, padding same, dilation 1": "371c90051932a416",
    "Conv2D of (6, 5, 1), kernel (3, 2), stride 2, padding same, dilation 1": "759ae5b9de22ec58",
    "Conv2D of (4, 5, 2), kernel (2, 4), stride 1, padding ((1, 0), (0, 2)), dilation 1": "9dbfc1e283b19f23",
    "Conv2D of (7, 6, 1), kernel (2, 3), stride (3, 2), padding 1, dilation (2, 1)": "a609b639eecf9f63",
    "Conv2D of (5, 7, 2), kernel (2, 2), stride 1, padding (0, 1), dilation (1, 3)": "3dc705303da706ac",
    "Conv2D of (3, 4, 3), kernel (1, 1), stride 1, padding valid, dilation 1": "46faab64626fbf99",
    "Conv2D of (5, 3, 2), kernel (1, 1), stride 2, padding valid, dilation 1": "61761afc37e70187",
    "Conv2D of (3, 2, 2), kernel (3, 2), stride 1, padding valid, dilation 1": "daf4cd001e7d9050",
    "Conv2D of (2, 3, 1), kernel (1, 2), stride (1, 4), padding same, dilation 1": "87ac9985bdb47259",
    "Conv2D of (5, 4, 2), kernel (2, 3), stride 1, padding 1, dilation 1, no bias": "c8f9d513c44b6297",
    "Conv2D of (5, 4, 6), kernel (3, 2), stride (1, 2), padding same, dilation 1, groups 2": "1409bc1e9259eaa0",
    "Conv2D of (5, 4, 3), kernel (3, 3), stride 1, padding same, dilation 1, groups 3": "2b81a163c832aff6",
    "Conv2D of (4, 7, 2), kernel (2, 3), stride 2, padding 1, dilation (1, 2), groups 2, no bias": "baadc199090fb6f4",
    "Conv1D of (6, 2), kernel 3, padding valid": "5409becb49b2fb8d",
    "Conv1D of (6, 2), kernel 3, padding same, stride 2": "1d8cdc3405152bd7",
    "Conv1D of (5, 2), kernel 3, padding causal, dilation 2": "affe76f17832aead",
    "Conv1D of (6, 4), kernel 2, padding (2, 1), groups 2, stride 3": "8490d8f3b17607c6",
    "Conv1D of (5, 3), kernel 3, padding causal, groups 3": "5c07edefb827af39",
    "MaxPool2D of (4, 6, 2), window 2, stride None, padding valid": "7373dba79d00421f",
    "MaxPool2D of (5, 5, 2), window 3, stride 2, padding valid": "1f6c592c301d1abb",
    "MaxPool2D of (5, 4, 1), window (2, 3), stride (3, 1), padding same": "2e1907b6f3309854",
    "MaxPool2D of (3, 5, 2), window (2, 1), stride 4, padding ((1, 0), (0, 0))": "844b7383195d6f85",
    "AvgPool2D of (4, 6, 2), window 2, stride None, padding valid": "60119182aaac4525",
    "AvgPool2D of (5, 5, 2), window 3, stride 2, padding same": "7bc19addbe96e4d9",
    "AvgPool2D of (5, 4, 1), window (2, 3), stride (3, 1), padding 1": "d2a163db47906982",
    "MaxPool2D of (6, 7, 2), window (2, 3), stride 2, padding 1, dilation (3, 1)": "3187a3000b2866db",
    "MaxPool2D of (4, 5, 2), window 3, stride 2, padding 1, ceil_mode True": "b9273201693d5d98",
    "AvgPool2D of (5, 4, 2), window 3, stride 1, padding 1, count_padding True": "b8a705e478885801",
    "AvgPool2D of (4, 6, 2), window 3, stride 2, padding valid, ceil_mode True": "9483ebd6969e2aeb",
    "AvgPool2D of (4, 5, 2), window 3, stride 2, padding 1, count_padding True, ceil_mode True": "b3cd928810014f58",
    "GlobalAvgPool2D": "f0da5b81acb94738",
    "GlobalMaxPool2D": "1a9bc430c0a5edb8",
    "Embedding": "810be9160111b4e9",
    "Embedding of sequences": "6c4d6ae1aabdb8cb",
    "Embedding of many ids": "ffd1b000262cd0e5",
    "MultiHeadAttention": "64a5d493e8912daa",
    "MultiHeadAttention of one head": "427d46934ec1e916",
    "MultiHeadAttention of one step": "86c28ce5e8ce3803",
    "MultiHeadAttention that is causal": "8c77091c57561d0f",
    "MultiHeadAttention without biases": "15d1312896772a43",
    "MultiHeadAttention with padding": "3acad6c650d184cc",
    "MultiHeadAttention with padding, causal": "786b52a52d83c11f",
    "LearnedPositions": "0a8cf4ee1cce2c51",
    "LearnedPositions, all": "5e5542c3b8abe0a3",
    "SinusoidalPositions": "2b0418f82581fa45",
    "LastStep": "ca005898fa224224",
    "LastStep with padding": "9440cd738d4ae492",
    "Conv1D with padding": "f09bf2389a00091a",
    "MeanOverTime": "3dd5ebbaef932a71",
    "MeanOverTime with padding": "f82f02709513ac93",
    "Masked floats": "026ba81e7e452103",
    "RNN": "bdf6ac2765665eb4",
    "RNN of ReLU, last": "68362ab8ccb9bcaa",
    "RNN without bias, reversed": "00a33d2a8bfc52c0",
    "RNN with padding": "6ddcce55b46910c8",
    "GRU": "83900a7dbb504d85",
    "GRU of one step and one unit": "a97886d390bd00c1",
    "GRU without biases, reversed": "2d80d2ab489cd780",
    "GRU with initial state": "c4b1bbb11f018b71",
    "GRU with padding": "2facf5dd79f27cef",
    "GRU with padding, reversed, last": "9023999c0c6d6235",
    "LSTM": "0636cca9320495e6",
    "LSTM without bias, last": "655c8c7012198166",
    "LSTM with initial states, reversed": "6943b61371232afa",
    "LSTM with initial cell": "0e30291dc92773ff",
    "LSTM with padding": "543cbc23ecff96f6",
    "LSTM with padding, reversed, last": "a447b2247288baf1",
}
PROGRAM: Final = (
    "import json, sys; sys.path[:0] = sys.argv[1].splitlines(); import test_table as t; print(json.dumps(t.hashes()))"
)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def test_no_layer_is_outside_the_table() -> None:
    """Every layer of ``funcnet.layers`` has a row, and the names of the rows are unique."""
    assert every_layer() == {type(case.layer()) for case in CASES}
    assert len({case.name for case in CASES}) == len(CASES)


def test_a_layer_outside_the_table_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above detects an additional layer in one of the modules."""

    @frozen(eq=False)
    class Outside(fn.Layer):
        pass

    Outside.__module__, Outside.__qualname__ = dense.__name__, "Outside"
    monkeypatch.setattr(dense, "Outside", Outside, raising=False)
    with pytest.raises(AssertionError):
        test_no_layer_is_outside_the_table()


def test_the_random_networks_have_every_combinator() -> None:
    """Each layer that has an inner network is a kind in the strategy, except for the one that takes sequences."""
    combinators = {kind.__name__.lower() for kind in every_layer() if {"net", "nets"} & set(kind.__annotations__)}
    assert combinators == {"residual", "frozen", "parallel", "repeat", "masked"} <= {*KINDS, "masked"}  # for sequences


# ------------------------------------------------------------------------------------------------- goldens


def golden(case: Case) -> str:
    """A hash of the output and of every gradient, in portable arithmetic."""
    layer, x = fn.astype(case.layer(), np.float32), case.x(5, np.float32)
    with fn.portable():
        y, pull = fn.vjp(layer, x)
        grad_x, grads = pull(inputs(KEY.child(case.name), *y.shape, dtype=np.float32))
    arrays = [y, grad_x, *(leaf.array for leaf in leaves(grads) if leaf.trained)]
    return hashlib.sha256(b"".join(array.astype("<f4").tobytes() for array in arrays)).hexdigest()[:16]


def hashes() -> dict[str, str]:
    """The hash of every row."""
    return {case.name: golden(case) for case in CASES}


@every_case
def test_every_row_has_its_golden(case: Case) -> None:
    """The bits never change. A new row takes its hash from the failure of this test."""
    assert golden(case) == GOLDENS.get(case.name, "none yet")


@pytest.mark.slow
@x86
@pytest.mark.parametrize(("core", "simd", "libm"), [("Haswell", True, True), ("Prescott", False, False)], ids=str)
def test_the_goldens_are_the_same_on_other_machines(core: str, simd: bool, libm: bool) -> None:  # noqa: FBT001  # pytest parameters
    """The hashes are the same with a different BLAS kernel and without the SIMD code of NumPy and the C library."""
    core_module = "numpy._core" if int(np.__version__.split(".")[0]) >= 2 else "numpy.core"
    features = f"from {core_module} import _multiarray_umath as m; print(*m.__cpu_dispatch__)"
    dispatch = subprocess.run([sys.executable, "-c", features], capture_output=True, text=True, check=True).stdout
    environment = os.environ | {"OPENBLAS_CORETYPE": core, "OPENBLAS_NUM_THREADS": "1"}
    environment |= {} if simd else {"NPY_DISABLE_CPU_FEATURES": dispatch.strip()}
    environment |= {} if libm else {"GLIBC_TUNABLES": OTHER_LIBM}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, SEARCHED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == GOLDENS


# ---------------------------------------------------------------------------------------------- resumed runs


def run_of(case: Case) -> tuple[fn.TrainState[Any], Minibatches[Any]]:
    """A run of the row's layer followed by three classes, in float32, with batches of seven rows."""
    net = (fn.astype(case.layer(), np.float32), fn.Flatten())
    classes = fn.dense(KEY.child("last"), fn.forward(net, case.x(3, np.float32)).shape[1], 3)
    whole: fn.Network = (*net, classes)
    state = fn.TrainState.create(whole, fn.Momentum(learning_rate=0.05), key=KEY)
    return state, fn.minibatches(case.x(30, np.float32), np.arange(30) % 3, 7, key=KEY.child("order"))


def parts(case: Case, *, portable: bool) -> tuple[fn.TrainState[Any], fn.TrainState[Any]]:
    """The run after three of its batches, and after all of them."""
    step = fn.train_step(fn.softmax_cross_entropy)
    with fn.portable() if portable else np.errstate():
        state, batches = run_of(case)
        return fn.train_epoch(step, state, batches[:3])[0], fn.train_epoch(step, state, batches)[0]


def finish(directory: Path) -> None:
    """Resume every row's run from its file."""
    for number, case in enumerate(CASES):
        for portable in (False, True):
            with fn.portable() if portable else np.errstate():
                like, batches = run_of(case)
                half = fn.load(directory / f"{number}.{portable}", like=like)
                rest, _ = fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), half, batches[3:])
                fn.save(directory / f"{number}.{portable}.rest", rest)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of interrupted runs that another process has finished."""
    directory = tmp_path_factory.mktemp("runs")
    for number, case in enumerate(CASES):
        for portable in (False, True):
            fn.save(directory / f"{number}.{portable}", parts(case, portable=portable)[0])
    program = "import pathlib, sys; sys.path[:0] = sys.argv[1].splitlines(); import test_table as t"
    program += "; t.finish(pathlib.Path(sys.argv[2]))"
    here = SEARCHED
    subprocess.run([sys.executable, "-W", "ignore", "-c", program, here, str(directory)], check=True)
    return directory


@pytest.mark.slow
@every_case
@pytest.mark.parametrize("portable", [False, True])
def test_every_row_resumes(case: Case, finished: Path, portable: bool) -> None:  # noqa: FBT001  # pytest parameter
    """A run that is saved within an epoch and resumed in another process has the bits of the uninterrupted run."""
    half, whole = parts(case, portable=portable)
    rest = fn.load(finished / f"{CASES.index(case)}.{portable}.rest", like=whole)
    assert fn.fingerprint(rest) == fn.fingerprint(whole)
    assert fn.fingerprint(half) != fn.fingerprint(whole)
