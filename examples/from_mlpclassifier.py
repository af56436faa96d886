"""From scikit-learn's MLPClassifier to funcnet's Classifier: one task in both, and three features that the first lacks.

They are dropout, an activation for each layer, and a validation set that the user chooses. Each seed splits the digits
anew. All models train on the same 1,077 rows. The dropout rate is the best of six by log loss on seeds 10 to 14.
MLPClassifier stops if each of ten epochs improves the training loss by less than 0.0001; Classifier, if all ten
together do, so it trains for longer.
Run: python examples/from_mlpclassifier.py [--seeds 0 1 2 3 4] [--figure figures/from_mlpclassifier.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from sklearn.neural_network import MLPClassifier

import funcnet as fn

HELD_OUT = 360
SAME: Final[Any] = {"hidden_layer_sizes": (64, 32), "batch_size": 32, "max_iter": 400}
MORE: Final[Any] = {"dropout": 0.3, "activation": (fn.GELU(), fn.Tanh()), "n_iter_no_change": 30}
NAMES: Final = ("MLPClassifier", "Classifier, the same", "Classifier, with more")


def models(rows: fn.Batch[Any], validation: fn.Batch[Any], seed: int) -> tuple[Any, ...]:
    """Fit the three models: the first two with the same settings, the third with more of them."""
    peer: Any = MLPClassifier(**SAME, alpha=0.0, random_state=seed).fit(rows.x, rows.y)
    same = fn.estimators.Classifier(**SAME, standardize=False, random_state=seed).fit(rows.x, rows.y)
    more = fn.estimators.Classifier(**SAME | MORE, standardize=False, random_state=seed)
    return peer, same, more.fit(rows.x, rows.y, X_val=validation.x, y_val=validation.y)


def picture(path: Path, fitted: tuple[Any, ...]) -> None:
    """Plot the training loss of the three models, and the validation loss and best epoch of the third."""
    axes = (figure := Figure(figsize=(11, 4), layout="constrained")).subplots(1, 3, sharex=True, sharey=True)
    for spot, model, name in zip(axes, fitted, NAMES, strict=True):
        fn.plots.learning_curves(getattr(model, "fit_", model.loss_curve_), axes=spot)
        spot.set(title=name, ylabel="cross-entropy")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Fit the three on the split of each seed, print test accuracy and log loss, and save the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--figure", type=Path, default=Path("figures/from_mlpclassifier.png"))
    arguments = parser.parse_args()
    digits = fn.datasets.load_digits()
    x = digits.x.astype(np.float64)
    table: list[list[tuple[float, float]]] = []
    print(f"{'test accuracy (log loss)':24}", *(f"{name:>22}" for name in NAMES))
    for seed in arguments.seeds:
        key = fn.Key(seed)
        rest, test = fn.split(x, digits.y, HELD_OUT, key=key.child("test"))
        rows, validation = fn.split(rest.x, rest.y, HELD_OUT, key=key.child("validation"))
        fitted = models(rows, validation, seed)
        found = [model.predict_proba(test.x) for model in fitted]
        assert np.allclose(fn.predict_proba(fn.from_sklearn(fitted[0]), test.x, fn.Multiclass()), found[0], atol=1e-12)
        table.append([(fn.accuracy(p.argmax(axis=1), test.y), fn.metrics.log_loss(p, test.y)) for p in found])
        print(f"{f'seed {seed}':24}", *(f"{right:13.4f} ({loss:.4f})" for right, loss in table[-1]))
        picture(arguments.figure, fitted)
    print(f"{'mean':24}", *(f"{right:13.4f} ({loss:.4f})" for right, loss in np.mean(table, axis=0)))
    gains = (np.array(table) - np.array(table)[:, :1]) * (1, -1)
    for place, what in enumerate(("accuracy gained", "log loss saved") if len(table) > 1 else ()):
        means, errors = gains[..., place].mean(axis=0), gains[..., place].std(axis=0, ddof=1) / len(table) ** 0.5
        cells = (f"{mean:+13.4f} ± {error:.4f}" for mean, error in zip(means[1:], errors[1:], strict=True))
        print(f"{what:47}", *cells)
    print(f"Figure: {arguments.figure}")


if __name__ == "__main__":
    main()
