"""Initializers: golden values that never change, the expected moments, orthogonality, and invalid input."""

from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from surroundings import FOREIGN

import funcnet as fn
from funcnet import initializers
from funcnet.arithmetic import Name, using
from funcnet.core.arrays import is_canonical
from funcnet.core.trees import float_dtype
from funcnet.random.draws import normal
from funcnet.random.initializers import Initializer, fans

KEY = fn.Key(42).child("init", 3)
DOUBLE, SINGLE = np.dtype(np.float64), np.dtype(np.float32)
SCALED: dict[str, Initializer] = {
    "glorot_normal": initializers.glorot_normal,
    "glorot_uniform": initializers.glorot_uniform,
    "he_normal": initializers.he_normal,
    "he_uniform": initializers.he_uniform,
    "lecun_normal": initializers.lecun_normal,
    "lecun_uniform": initializers.lecun_uniform,
    "pytorch_default": initializers.pytorch_default,
}
DRAWN = SCALED | {"orthogonal": initializers.orthogonal}
EVERY = DRAWN | {
    "zeros": initializers.zeros,
    "constant": initializers.constant(0.1),
    "random_normal": initializers.random_normal(0.1),
}
VARIANCES: dict[str, Callable[[int, int], float]] = {
    "glorot_normal": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "glorot_uniform": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "he_normal": lambda fan_in, _: 2 / fan_in,
    "he_uniform": lambda fan_in, _: 2 / fan_in,
    "lecun_normal": lambda fan_in, _: 1 / fan_in,
    "lecun_uniform": lambda fan_in, _: 1 / fan_in,
    "pytorch_default": lambda fan_in, _: 1 / (3 * fan_in),
}
KURTOSIS = {"normal": 3.0, "uniform": 1.8, "default": 1.8}
GOLDENS: dict[str, tuple[list[str], str]] = {
    "glorot_normal": (["0x1.94ad142268b17p-1", "-0x1.af1156a7eccd9p-4", "0x1.afa1fc4b98715p-2"], "3099565c648b98c5"),
    "glorot_uniform": (["0x1.7ae9ba1bd58f1p-1", "-0x1.27682868e91d2p-3", "0x1.06dad5b5de044p-1"], "b2867581a600b5b5"),
    "he_normal": (["0x1.0f77087547e62p+0", "-0x1.212b451a0f79cp-3", "0x1.218c4d56ca163p-1"], "ed541af9744e4c38"),
    "he_uniform": (["0x1.fc5d792955cf8p-1", "-0x1.8c547461cd78fp-3", "0x1.60a820e797272p-1"], "62cb85f16b735822"),
    "lecun_normal": (["0x1.7fe8d17850bedp-1", "-0x1.98f25e7e939c3p-4", "0x1.997b97e5126d5p-2"], "a91eade33e44de88"),
    "lecun_uniform": (["0x1.6777eb140f22fp-1", "-0x1.183f601f99f02p-3", "0x1.f2bb61d6e4da8p-2"], "165eb07066b04f61"),
    "pytorch_default": (["0x1.9f141166db347p-2", "-0x1.439a1d42667c4p-4", "0x1.1ff16a90e7588p-2"], "e5422d3b7780b581"),
    "orthogonal": (["0x1.8e5c5ecde3369p-1", "-0x1.23602537bfc98p-1", "-0x1.d30352092825dp-3"], "7e1a6decc4853f2f"),
}
every_initializer = pytest.mark.parametrize("name", EVERY)
every_drawn = pytest.mark.parametrize("name", DRAWN)


@every_drawn
@pytest.mark.parametrize("arithmetic", ["native", "portable"])
def test_the_draws_are_golden(name: str, arithmetic: Name) -> None:
    """Three numbers of a matrix and the hash of a kernel in both dtypes never change, in either arithmetic."""
    with using(arithmetic):
        first = DRAWN[name](KEY, (5, 4), DOUBLE).ravel()[:3]
        kernels = [DRAWN[name](KEY, (3, 3, 20, 70), dtype) for dtype in (SINGLE, DOUBLE)]
    digest = hashlib.sha256(b"".join(kernel.astype(kernel.dtype.newbyteorder("<")).tobytes() for kernel in kernels))
    assert ([number.hex() for number in first.tolist()], digest.hexdigest()[:16]) == GOLDENS[name]


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("shape", [(500, 300), (5, 3, 60, 100)], ids=str)
def test_the_moments_are_right(name: str, shape: tuple[int, ...]) -> None:
    """Mean and variance are within four standard errors, and uniform draws reach their limits."""
    weight = SCALED[name](KEY, shape, DOUBLE)
    variance = VARIANCES[name](*fans(shape))
    kurtosis = KURTOSIS[name.rsplit("_", maxsplit=1)[-1]]
    assert abs(weight.mean()) < 4 * math.sqrt(variance / weight.size)
    assert weight.var() == pytest.approx(variance, rel=4 * math.sqrt((kurtosis - 1) / weight.size))
    share = np.abs(weight).max() / math.sqrt(3 * variance)
    assert share > 1.5 if kurtosis == 3 else 0.999 < share <= 1


def test_the_limits_are_the_published_ones() -> None:
    """The limits of the uniform draws follow the formulas in the papers."""
    limits = {
        "glorot_uniform": math.sqrt(6 / (300 + 200)),
        "he_uniform": math.sqrt(6 / 300),
        "lecun_uniform": math.sqrt(3 / 300),
        "pytorch_default": 1 / math.sqrt(300),
    }
    for name, limit in limits.items():
        assert np.abs(SCALED[name](KEY, (300, 200), DOUBLE)).max() == pytest.approx(limit, rel=1e-3)


def test_fans_count_a_kernels_window() -> None:
    """For a kernel (KH, KW, C, O), an output depends on a window of every channel."""
    assert fans((784, 100)) == (784, 100)
    assert fans((3, 5, 7, 11)) == (3 * 5 * 7, 3 * 5 * 11)
    assert fans((4, 7, 11)) == (28, 44)


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 5), (5, 1), (2, 2), (64, 64), (300, 20), (20, 300), (3, 3, 8, 16), (2, 2, 3, 40)], ids=str
)
def test_orthogonal_is_orthogonal(shape: tuple[int, ...]) -> None:
    """Columns, or rows if there are fewer, are orthonormal to 1e-12 in float64 and 1e-6 in float32."""
    for dtype, tolerance in ((DOUBLE, 1e-12), (SINGLE, 1e-6)):
        matrix = initializers.orthogonal(KEY, shape, dtype).reshape(-1, shape[-1]).astype(np.float64)
        matrix = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
        np.testing.assert_allclose(matrix.T @ matrix, np.eye(matrix.shape[1]), rtol=0, atol=tolerance)


@pytest.mark.slow
def test_every_orthogonal_matrix_is_as_likely() -> None:
    """Entries have mean 0 and variance 1/3, half of the matrices are rotations, traces have mean 0 and variance 1."""
    count = 1500
    draws = np.stack([initializers.orthogonal(KEY.child(i), (3, 3), DOUBLE) for i in range(count)])
    np.testing.assert_allclose(draws.mean(axis=0), 0, atol=4 / math.sqrt(3 * count))
    np.testing.assert_allclose((draws * draws).mean(axis=0), 1 / 3, atol=4 * math.sqrt(4 / 45 / count))
    traces = np.trace(draws, axis1=1, axis2=2)
    assert abs(traces.mean()) < 4 / math.sqrt(count)
    assert (traces * traces).mean() == pytest.approx(1, abs=4 * math.sqrt(2 / count))
    assert (np.linalg.det(draws) > 0).mean() == pytest.approx(0.5, abs=2 / math.sqrt(count))


def test_the_first_column_is_the_drawn_direction() -> None:
    """The first column agrees with NumPy's norm."""
    z = normal(KEY, (40, 3))
    weight = initializers.orthogonal(KEY, (40, 3), DOUBLE)
    np.testing.assert_allclose(weight[:, 0], z[:, 0] / np.linalg.norm(z[:, 0]), rtol=1e-14)


@every_initializer
def test_an_initializer_is_pure(name: str) -> None:
    """Calls repeat bit for bit; arrays are locked, C-contiguous and as requested; float32 is float64 rounded."""
    for shape in ((6, 5), (2, 3, 5, 4)):
        single, double = (EVERY[name](KEY, shape, dtype) for dtype in (SINGLE, DOUBLE))
        assert (single.shape, single.dtype, double.dtype) == (shape, SINGLE, DOUBLE)
        assert single.tobytes() == EVERY[name](KEY, shape, SINGLE).tobytes() == double.astype(SINGLE).tobytes()
        for array in (single, double):
            assert not array.flags.writeable
            assert array.flags.c_contiguous
            assert is_canonical(array)
        if name in DRAWN:
            assert (EVERY[name](KEY.child(1), shape, DOUBLE) != double).any()


@every_initializer
def test_a_dense_layer_takes_it(name: str) -> None:
    """``init=`` accepts it and gives the same bits as a direct call."""
    layer = fn.dense(KEY, 7, 3, init=EVERY[name])
    assert layer.weight.tobytes() == EVERY[name](KEY, (7, 3), SINGLE).tobytes()


@every_initializer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_bias_is_a_row_of_a_second_draw(name: str, dtype: fn.FloatDType) -> None:
    """Dense, Conv2D and ``mlp`` draw it with the weight's fans from a key of its own; the weight keeps its bits."""
    init, kind = EVERY[name], float_dtype(dtype)
    weight, bias = fn.trained_arrays(fn.dense(KEY, 7, 3, init=init, bias_init=init, dtype=dtype))
    assert bias.tobytes() == init(KEY.child("bias"), (7, 3), kind)[0].tobytes()
    assert is_canonical(bias)
    assert bias.base is None
    kernel, bias = fn.trained_arrays(fn.conv2d(KEY, 2, 3, (4, 5), init=init, bias_init=init, dtype=dtype))
    assert bias.tobytes() == init(KEY.child("bias"), (4, 5, 2, 3), kind)[0, 0, 0].tobytes()
    net = fn.mlp(KEY, (5, 4, 2), init=init, bias_init=init, dtype=dtype)
    for number, sizes in ((0, (5, 4)), (1, (4, 2))):
        place = KEY.child("init", number)
        assert fn.equal(net[2 * number], fn.dense(place, *sizes, init=init, bias_init=init, dtype=dtype))
    assert fn.equal(fn.Dense(weight, np.zeros(3, dtype)), fn.dense(KEY, 7, 3, init=init, dtype=dtype))
    assert fn.conv2d(KEY, 2, 3, (4, 5), init=init, dtype=dtype).weight.tobytes() == kernel.tobytes()


BIASED: dict[str, Callable[[Any], object]] = {
    "dense": lambda init: fn.dense(KEY, 3, 2, bias_init=init),
    "conv2d": lambda init: fn.conv2d(KEY, 3, 2, 3, bias_init=init),
}


def vector(_: fn.Key, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> fn.Array:
    """Return an array of the shape of a bias."""
    return np.zeros(shape[-1], dtype)


def wide(_: fn.Key, shape: tuple[int, ...], __: np.dtype[np.floating]) -> fn.Array:
    """Return an array of another dtype."""
    return np.zeros(shape, np.float64)


def number(*_: object) -> float:
    """Return something that is not an array."""
    return 0.5


@pytest.mark.parametrize("name", BIASED)
@pytest.mark.parametrize(
    ("init", "error", "message"),
    [
        ("zeros", fn.ConfigError, "bias_init must be a function, got 'zeros'"),
        (vector, fn.ShapeError, r"the array that bias_init returns must have shape \(.*3, 2\), got \(2,\)"),
        (wide, fn.DTypeError, "the array that bias_init returns must be float32, got float64"),
        (number, fn.DTypeError, "the array that bias_init returns must be a plain NumPy array, got float"),
    ],
)
def test_a_bias_that_does_not_fit_is_refused(name: str, init: Any, error: type[fn.FuncnetError], message: str) -> None:
    """The initializer is a function that returns an array of the weight's shape and dtype."""
    with pytest.raises(error, match=f"^{name}: {message}"):
        BIASED[name](init)


def test_zeros_and_constant_are_of_any_shape() -> None:
    """They also fit biases. A constant is a value: it can be printed, compared and pickled."""
    assert initializers.zeros(KEY, (3,), SINGLE).tolist() == [0, 0, 0]
    tenth = initializers.constant(0.1)
    assert tenth(KEY, (2,), DOUBLE).tolist() == [0.1, 0.1]
    assert repr(tenth) == "Constant(value=0.1)"
    assert tenth == pickle.loads(pickle.dumps(tenth)) != initializers.constant(0.2)  # noqa: S301  # made here


@every_initializer
@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"key": 42}, ("key must be a Key, got 42", "use Key(42)")),
        ({"shape": ()}, ("shape must be a tuple ", "got ()")),
        ({"shape": [3, 4]}, ("shape must be a tuple ", "got [3, 4]")),
        ({"shape": (3, 0)}, ("a size in shape must be an int of at least 1, got 0",)),
        ({"shape": (3, 2.0)}, ("a size in shape must be an int of at least 1, got 2.0",)),
        ({"dtype": np.dtype(np.float16)}, ("dtype must be np.float32 or np.float64", "float16")),
        ({"dtype": None}, ("dtype must be np.float32 or np.float64, got None",)),
        ({"dtype": FOREIGN}, ("dtype must be np.float32 or np.float64", str(FOREIGN))),
    ],
    ids=str,
)
def test_bad_input_is_refused(name: str, change: dict[str, Any], facts: tuple[str, ...]) -> None:
    """The message names the initializer and the expected value."""
    good: dict[str, Any] = {"key": KEY, "shape": (3, 4), "dtype": SINGLE}
    with pytest.raises(fn.ConfigError) as caught:
        EVERY[name](*(good | change).values())
    assert str(caught.value).startswith(f"{name}: ")
    for fact in facts:
        assert fact in str(caught.value)


@every_drawn
def test_a_drawn_weight_needs_two_axes(name: str) -> None:
    """A vector does not have inputs and outputs."""
    with pytest.raises(fn.ConfigError, match=rf"{name}: shape must be a tuple \(\.\.\., I, O\), got \(3,\)"):
        DRAWN[name](KEY, (3,), SINGLE)


@pytest.mark.parametrize("deviation", [0, -1, math.nan, math.inf, True, "1", None])
def test_a_deviation_is_a_positive_number(deviation: float) -> None:
    """Other values are refused at once. A value beyond float32 is refused when it is drawn in float32."""
    with pytest.raises(fn.ConfigError, match=r"^random_normal: deviation must be a number in \(0, inf\), got "):
        initializers.random_normal(deviation)
    with pytest.raises(fn.ConfigError, match=r"random_normal: deviation in float32 must be a number in .*, got 1e\+38"):
        initializers.random_normal(1e38)(KEY, (2,), SINGLE)


def test_a_deviation_scales_the_draws_of_any_shape() -> None:
    """The draws are those of the key, whatever the fans are. The initializer is a value."""
    for shape in ((4,), (3, 5), (2, 3, 4)):
        np.testing.assert_array_equal(initializers.random_normal(0.5)(KEY, shape, DOUBLE), normal(KEY, shape) * 0.5)
    half: Any = np.float32(0.5)
    made = initializers.random_normal(half)
    assert repr(made) == "RandomNormal(deviation=0.5)"
    assert made == pickle.loads(pickle.dumps(made)) != initializers.random_normal(0.25)  # noqa: S301  # made here


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "1", None])
def test_a_constant_is_a_finite_number(value: float) -> None:
    """Other values are refused at once. A value beyond float32 is refused when it is drawn in float32."""
    with pytest.raises(fn.ConfigError, match=r"constant: value must be a number in \(-inf, inf\), got "):
        initializers.constant(value)
    with pytest.raises(fn.ConfigError, match=r"constant: value in float32 must be a number in .*, got 1e\+300"):
        initializers.constant(1e300)(KEY, (2,), SINGLE)
