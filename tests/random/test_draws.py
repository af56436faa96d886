"""Keys and draws: golden values that never change, and the expected distributions."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import funcnet as fn
from funcnet.arithmetic.elementary import log
from funcnet.random.draws import normal, permutation, uniform, words

KEY = fn.Key(42).child("init", 3)


def sha256(array: NDArray[np.generic]) -> str:
    """Return the first 16 hexadecimal digits of the hash of an array's little-endian bytes."""
    return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()[:16]


def test_words_are_golden() -> None:
    """The stream of a key never changes."""
    assert sha256(words(KEY, 1000)) == "b3ab8c5a433492b0"


def test_uniform_is_golden() -> None:
    """The uniform numbers of a key never change."""
    assert sha256(uniform(KEY, (10, 100))) == "6a8039f58017b65c"


def test_normal_is_golden() -> None:
    """The normal numbers of a key never change. 100,000 numbers reach the far tail."""
    assert sha256(normal(KEY, (100, 1000))) == "5da606c39cc08e5d"


def test_permutation_is_golden() -> None:
    """The permutation of a key never changes."""
    assert sha256(permutation(KEY, 1000).astype(np.int64)) == "58c37c6e3ec3b9f7"


def test_initial_weights_are_golden() -> None:
    """The initial weights of the post's network with seed 42 never change."""
    net = fn.mlp(fn.Key(42), (784, 100, 200, 10))
    weights = [layer.weight for layer in net if isinstance(layer, fn.Dense)]
    assert [sha256(weight) for weight in weights] == ["8d14f29f3dcb1feb", "6c6e27426a2de637", "4ef63101c32f0ff6"]


def test_mlp_is_the_tuple_of_its_layers() -> None:
    """``mlp`` returns the tuple that a reader would write by hand, bit for bit."""
    key = fn.Key(42)
    by_hand = (
        fn.dense(key.child("init", 0), 784, 100),
        fn.ReLU(),
        fn.dense(key.child("init", 1), 100, 200),
        fn.ReLU(),
        fn.dense(key.child("init", 2), 200, 10),
    )
    assert fn.equal(by_hand, fn.mlp(key, (784, 100, 200, 10)))


def test_uniform_is_uniform() -> None:
    """The numbers are in [0, 1), with the expected mean, variance and histogram."""
    u = uniform(KEY, (100_000,))
    assert u.min() >= 0
    assert u.max() < 1
    assert u.mean() == pytest.approx(1 / 2, abs=0.003)
    assert u.var() == pytest.approx(1 / 12, abs=0.001)
    assert np.histogram(u, bins=10, range=(0, 1))[0] == pytest.approx(10_000, rel=0.05)


def test_normal_is_normal() -> None:
    """The mean, the variance and the shares below some quantiles are right for a million numbers."""
    z = normal(KEY, (1_000_000,))
    assert z.mean() == pytest.approx(0, abs=0.003)
    assert z.var() == pytest.approx(1, abs=0.005)
    for quantile, share in ((-3, 0.0013499), (-1.96, 0.0249979), (0.5, 0.6914625), (2.5758, 0.995)):
        assert (z < quantile).mean() == pytest.approx(share, abs=4 * (share * (1 - share) / 1e6) ** 0.5)


def test_a_permutation_has_every_number_once() -> None:
    """A different key gives a different order."""
    order = permutation(KEY, 1000)
    assert sorted(order.tolist()) == list(range(1000))
    assert (order != permutation(KEY.child(1), 1000)).any()


def test_draws_are_of_any_shape() -> None:
    """An empty shape is allowed, too."""
    assert normal(KEY, (0,)).shape == uniform(KEY, (3, 0)).shape[1:] == (0,)
    assert (uniform(KEY, (2, 3)).ravel() == uniform(KEY, (6,))).all()


@given(st.floats(min_value=5e-324, max_value=1.7e308))
def test_log_is_right_to_one_unit(x: float) -> None:
    """The logarithm is within one unit in the last place of the platform's logarithm."""
    ours, theirs = float(log(np.array([x]))[0]), float(np.log(np.array([x]))[0])
    assert abs(ours - theirs) <= np.spacing(abs(theirs))


@pytest.mark.parametrize(
    ("x", "wanted"),
    [
        (Fraction(1), Fraction(0)),
        (Fraction(2), Fraction(6931471805599453094172321214581765680755, 10**40)),
        (Fraction(10), Fraction(23025850929940456840179914546843642076011, 10**40)),
    ],
)
def test_log_of_known_numbers(x: Fraction, wanted: Fraction) -> None:
    """The results agree with 40 decimal digits."""
    assert float(log(np.array([float(x)]))[0]) == float(wanted)


# ---------------------------------------------------------------------------------------------------- keys


def test_a_string_is_the_hash_of_its_utf8() -> None:
    """The part is the first four bytes of the SHA-256."""
    assert fn.Key(0).child("abc").path == (0xBA7816BF,)


def test_children_are_named_by_their_whole_path() -> None:
    """One call and several calls give the same key. NumPy integers count as ints."""
    key = fn.Key(1)
    assert key.child("a", 2) == key.child("a").child(2) == key.child("a", np.int64(2))
    assert key.child(0, 1) != key.child(1, 0)
    assert len({key, key.child(), key.child(0), key.child(0, 0)}) == 3


@given(st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=3), min_size=2, max_size=2, unique_by=tuple))
def test_other_paths_draw_other_words(paths: list[list[int]]) -> None:
    """Two different paths never share a stream."""
    first, second = (words(fn.Key(7).child(*path), 2) for path in paths)
    assert (first != second).any()
