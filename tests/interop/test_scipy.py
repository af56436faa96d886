"""SciPy's minimizers: known minima, the hand-written call, what stays untouched, and refusals."""

# SciPy has no types:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import subprocess
import sys
from typing import Any, Final

import numpy as np
import pytest
from attrs import frozen
from networks import inputs

import funcnet as fn
from funcnet.core.trees import trained_arrays

optimize: Any = pytest.importorskip("scipy.optimize", reason="scipy is not installed")

KEY: Final = fn.Key(69)
CE: Final = fn.softmax_cross_entropy
X: Final[fn.Array] = inputs(KEY.child("x"), 60, 4)
CENTERS: Final = X @ inputs(KEY.child("centers"), 4, 3) + 2 * inputs(KEY.child("noise"), 60, 3)
LABELS: Final = CENTERS.argmax(axis=1)
LINEAR: Final = (fn.dense(KEY, 4, 3, dtype=np.float64),)
TIGHT: Final[dict[str, Any]] = {"options": {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000}}


def test_softmax_regression_is_scikit_learns() -> None:
    """The strictly convex problem with decayed weights has one minimum: weights and probabilities agree."""
    linear: Any = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    decay = 0.02
    net, result = fn.scipy_minimize(LINEAR, X, LABELS, CE, weight_decay=decay, **TIGHT)
    model = linear.LogisticRegression(C=1 / (len(X) * decay), tol=1e-10, max_iter=1000).fit(X, LABELS)
    assert result.success
    np.testing.assert_allclose(net[0].weight, model.coef_.T, atol=1e-6)
    wanted = model.predict_proba(X)
    np.testing.assert_allclose(fn.predict_proba(net, X, fn.Multiclass()), wanted, atol=1e-6)


@pytest.mark.parametrize("method", ["L-BFGS-B", "BFGS", "CG", "Newton-CG", "TNC", "SLSQP", "trust-constr"])
def test_least_squares_are_solved_by_every_method(method: str) -> None:
    """The weighted problem is quadratic; a callback sees the network of each iteration."""
    weight = np.arange(60) % 4 + 0.5
    target = CENTERS[:, :1]
    seen = list[float]()

    def record(net: Any) -> None:
        seen.append(fn.mean_squared_error(fn.forward(net, X), target, weight)[0])

    begin = (fn.dense(KEY, 4, 1, dtype=np.float64),)
    net, result = fn.scipy_minimize(begin, X, target, fn.mean_squared_error, weight, method=method, callback=record)
    rows = np.hstack([X, np.ones((60, 1))]) * np.sqrt(weight)[:, None]
    wanted = np.linalg.lstsq(rows, target * np.sqrt(weight)[:, None], rcond=None)[0]
    np.testing.assert_allclose(np.vstack([*fn.named_arrays(net).values()]), wanted, atol=1e-3)
    assert len(seen) == result.nit
    assert min(seen) == pytest.approx(result.fun, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_the_call_that_one_would_write(dtype: fn.FloatDType) -> None:
    """The same vector, loss and gradient give SciPy's result to the bit; the network keeps its dtype."""
    begin = (fn.dense(KEY.child(0), 4, 5, dtype=dtype), fn.Tanh(), fn.dense(KEY.child(1), 5, 3, dtype=dtype))
    x: fn.Array = X.astype(dtype)

    def network(vector: Any) -> Any:
        arrays, start = dict[str, Any](), 0
        for name, array in fn.named_arrays(begin).items():
            arrays[name] = vector[start : start + array.size].reshape(array.shape).astype(dtype)
            start += array.size
        return fn.with_named_arrays(begin, arrays)

    def by_hand(vector: Any) -> tuple[float, Any]:
        value, grads = fn.value_and_grad(network(vector), x, LABELS, CE)
        return value, np.concatenate([each.ravel() for each in trained_arrays(grads)]).astype(np.float64)

    first = np.concatenate([each.ravel() for each in trained_arrays(begin)]).astype(np.float64)
    wanted = optimize.minimize(by_hand, first, jac=True, method="L-BFGS-B", options={"maxiter": 20})
    net, result = fn.scipy_minimize(begin, x, LABELS, CE, options={"maxiter": 20})
    assert (result.fun, result.nit, result.nfev) == (wanted.fun, wanted.nit, wanted.nfev)
    assert result.x.tolist() == wanted.x.tolist()
    assert fn.fingerprint(net) == fn.fingerprint(network(wanted.x))
    assert {array.dtype for array in trained_arrays(net)} == {np.dtype(dtype)}
    assert result.fun < 0.8 * CE(fn.forward(begin, x), LABELS)[0]
    assert not result.success
    assert "ITERATIONS" in result.message


def test_what_is_not_trained_stays() -> None:
    """Frozen parameters and statistics are those of before; the decay is that of the trained weights alone."""
    begin = (
        fn.standardize(X),
        fn.Frozen(fn.dense(KEY.child(0), 4, 4, dtype=np.float64)),
        fn.batch_norm(4, dtype=np.float64),
        fn.Residual((fn.dense(KEY.child(1), 4, 4, dtype=np.float64), fn.Tanh())),
        fn.dense(KEY.child(2), 4, 3, dtype=np.float64),
    )
    begin = fn.calibrate(begin, X)
    before = fn.fingerprint(begin)
    net, result = fn.scipy_minimize(begin, X, LABELS, CE, weight_decay=0.1, options={"maxiter": 20})
    assert fn.fingerprint(begin) == before
    assert fn.equal(net[1], begin[1])
    assert fn.fingerprint(net[0]) == fn.fingerprint(begin[0])
    assert net[2].mean is begin[2].mean
    weights = [array for name, array in fn.named_arrays(net).items() if name in ("3.net.0.weight", "4.weight")]
    decay = 0.05 * sum(float((w * w).sum()) for w in weights)
    assert result.fun == pytest.approx(fn.evaluate(net, X, LABELS, CE) + decay, rel=1e-12)
    assert not fn.equal(net[3], begin[3])
    assert not fn.equal(net[4], begin[4])


def test_a_callback_may_stop_it() -> None:
    """StopIteration ends the minimization with the network of that iteration."""
    seen: list[Any] = []

    def after(net: Any) -> None:
        seen.append(net)
        if len(seen) == 3:
            raise StopIteration

    net, result = fn.scipy_minimize(LINEAR, X, LABELS, CE, callback=after)
    assert result.nit == 3
    assert fn.equal(net, seen[-1])


def test_sequences_of_ids_and_masked_labels() -> None:
    """Labels of positions have weights, and the gradient of the whole mean is used."""
    x, y = X.reshape(12, 5, 4), LABELS.reshape(12, 5)
    weight = (np.arange(60).reshape(12, 5) % 3 > 0).astype(np.float64)
    net, _ = fn.scipy_minimize(LINEAR, x, np.where(weight > 0, y, -100), CE, weight, weight_decay=0.1, **TIGHT)
    rows = weight.ravel() > 0
    wanted, _ = fn.scipy_minimize(LINEAR, X[rows], LABELS[rows], CE, weight_decay=0.1, **TIGHT)
    np.testing.assert_allclose(net[0].weight, wanted[0].weight, atol=1e-7)


@frozen
class Bowl:
    """A loss that overflows where the prediction is more than 1 away from 0, and has a slope toward there."""

    slope: float = -100.0
    bad: float = np.inf

    def __call__(self, prediction: fn.Array, _: Any, /) -> tuple[float, fn.Array]:
        """Return the loss and its gradient."""
        far = bool((np.abs(prediction) > 1).any())
        return (self.bad if far else self.slope * float(prediction.sum())), np.full_like(prediction, self.slope)


def test_a_loss_that_is_not_finite_is_refused() -> None:
    """At the first point and in a line search; so is a gradient that is not finite."""
    net, x = fn.dense(KEY, 1, 1, init=fn.initializers.zeros, dtype=np.float64), np.ones((1, 1))
    far = fn.Dense(weight=np.full((1, 1), 2.0), bias=np.zeros(1))
    for begin, loss, fact in (
        (net, Bowl(), "the loss is inf"),
        (far, Bowl(), "the loss is inf"),
        (net, Bowl(slope=np.nan, bad=0.0), "the loss is nan"),
    ):
        with pytest.raises(fn.NonFiniteError, match=f"^scipy_minimize: .*{fact}.*; scale the inputs, or begin with sm"):
            fn.scipy_minimize(begin, x, None, loss)
    with pytest.raises(
        fn.NonFiniteError, match=r"^scipy_minimize: the gradient must be finite, where the loss is 0\.5"
    ):
        fn.scipy_minimize(net, x, None, lambda prediction, _: (0.5, np.full_like(prediction, np.nan)))


REFUSED: Final[dict[str, tuple[dict[str, Any], type[Exception], str]]] = {
    "nothing to train": ({"params": fn.ReLU()}, fn.ConfigError, "scipy_minimize: the network must have trained param"),
    "frozen": ({"params": fn.Frozen(LINEAR)}, fn.ConfigError, "scipy_minimize: the network must have trained param"),
    "no network": ({"params": "net"}, fn.StructureError, "a network is a layer or a tuple of networks, got 'net'"),
    "a decay": ({"weight_decay": -1.0}, fn.ConfigError, r"scipy_minimize: weight_decay must be a number in \[0, inf\)"),
    "a loss": ({"loss": None}, fn.ConfigError, "scipy_minimize: loss must be a function, got None"),
    "a tolerance": ({"tol": "a"}, fn.ConfigError, r"scipy_minimize: tol must be a number in \[0, inf\), got 'a'"),
    "no options": ({"options": 3}, fn.ConfigError, "scipy_minimize: options must be a mapping of .*, got 3"),
    "unnamed options": ({"options": {3: 4}}, fn.ConfigError, "scipy_minimize: options must be .*, got {3: 4}"),
    "a callback": ({"callback": 3}, fn.ConfigError, "scipy_minimize: callback must be a function, got 3"),
    "labels": ({"y": LABELS + 3}, fn.LabelError, r"softmax_cross_entropy: labels must be in 0\.\.2, got labels\[0\]"),
    **{
        method: ({"method": method}, fn.ConfigError, f"^scipy_minimize: method must be one of L-.*, got '{method}'$")
        for method in ("lbfgs", "Nelder-Mead", "Powell", "COBYLA", "COBYQA", "dogleg", "trust-exact")
    },
    "no name": ({"method": None}, fn.ConfigError, "scipy_minimize: method must be one of L-BFGS-B, .*, got None"),
    "an option": (
        {"options": {"maxitr": 9}},
        fn.ConfigError,
        "^scipy_minimize: options must be those of SciPy's L-BFGS-B: Unknown solver options: maxitr$",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    """A setting that does not fit is refused by name, also a method or an option that SciPy would only warn about."""
    changes, error, fact = REFUSED[name]
    arguments: dict[str, Any] = {"params": LINEAR, "x": X, "y": LABELS, "loss": CE, **changes}
    with pytest.raises(error, match=fact):
        fn.scipy_minimize(**arguments)


WITHOUT: Final = """
import sys; sys.modules["scipy"] = None
import funcnet as fn
assert "scipy_minimize" not in dir(fn)
try:
    fn.scipy_minimize
except ImportError as error:
    print(error)
"""


@pytest.mark.slow
def test_without_scipy_the_message_says_what_to_install() -> None:
    """The rest of the package does not need it."""
    made = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert made.stdout == "SciPy 1.11 or newer is needed; use pip install 'scipy>=1.11'\n"
