"""Metrics: pure functions of predictions and targets, without gradients.

The prediction is the first argument, as in a loss; in scikit-learn it is the second. scikit-learn's ``make_scorer``
passes the labels first, so exchange them: ``make_scorer(lambda y, p: fn.metrics.precision(p, y))``. A metric, such as
``fn.metrics.mse``, returns a float or an array, whereas a loss returns a value and its gradient.

Every metric takes ``weight``, shape (B,), float: how much each row counts, which is scikit-learn's ``sample_weight``. A
row of weight 0 counts for nothing, as if it were left out, and a row of weight 3 counts as three equal rows. None means
that all rows count the same. A target whose weight is 0 may be any number, such as -100 or NaN; a prediction may not.

Predictions and targets have these forms:

========================  =======================================  ===================================================
task                      predictions                              targets
========================  =======================================  ===================================================
classes                   class ids (B,), probabilities (B, O)     class ids (B,)
two classes               bool (B,), probabilities or scores (B,)  zeros and ones (B,): bool, integers or floats
several labels per row    bool (B, O), scores (B, O)               zeros and ones (B, O): bool, integers or floats
numbers                   floats (B, ...)                          floats (B, ...)
========================  =======================================  ===================================================

Predictions and labels of different types that are exchanged are refused, such as integer predictions with bool labels.
If both are class ids, or both are bool, an exchange is not detected: the precision is then the recall.

The metrics have the values of these functions of scikit-learn, and ``log_loss``, ``hamming_loss``, ``roc_curve`` and
the other metrics those of the functions with their own names:

========================================  ===========================
scikit-learn                              ``fn.metrics``
========================================  ===========================
``accuracy_score``                        ``accuracy``
``average_precision_score``               ``average_precision``
``balanced_accuracy_score``               ``balanced_accuracy``
``brier_score_loss``                      ``brier_score``
``f1_score(average="macro")``             ``f1``
``matthews_corrcoef``                     ``matthews``
``mean_absolute_error``                   ``mae``
``mean_squared_error``                    ``mse``
``precision_score(average="macro")``      ``precision``
``r2_score``                              ``r2``
``recall_score(average="macro")``         ``recall``
``roc_auc_score``                         ``roc_auc``
``top_k_accuracy_score(k=2)``             ``top_k_accuracy(k=2)``
========================================  ===========================

``f1``, ``precision`` and ``recall`` return the mean over the classes by default, ``average="macro"``, also for labels
of 0 and 1. The default of scikit-learn is ``average="binary"``, the value of class 1.
"""

from typing import TYPE_CHECKING

from funcnet.metrics.averages import f1, precision, recall
from funcnet.metrics.classes import (
    accuracy,
    balanced_accuracy,
    confusion_matrix,
    hamming_loss,
    matthews,
    multilabel_confusion_matrix,
)
from funcnet.metrics.probabilities import brier_score, log_loss, top_k_accuracy
from funcnet.metrics.ranking import average_precision, precision_recall_curve, roc_auc, roc_curve
from funcnet.metrics.regression import mae, mse, r2

__all__ = [
    "accuracy",
    "average_precision",
    "balanced_accuracy",
    "brier_score",
    "confusion_matrix",
    "f1",
    "hamming_loss",
    "log_loss",
    "mae",
    "matthews",
    "mse",
    "multilabel_confusion_matrix",
    "precision",
    "precision_recall_curve",
    "r2",
    "recall",
    "roc_auc",
    "roc_curve",
    "top_k_accuracy",
]


def __dir__() -> list[str]:
    return __all__


if not TYPE_CHECKING:  # type checkers refuse an unknown name, as long as they see no __getattr__
    _CALLS = {
        "accuracy_score": "accuracy(predicted, labels)",
        "average_precision_score": "average_precision(scores, labels)",
        "balanced_accuracy_score": "balanced_accuracy(predicted, labels)",
        "brier_score_loss": "brier_score(probabilities, labels)",
        "f1_score": "f1(predicted, labels)",
        "matthews_corrcoef": "matthews(predicted, labels)",
        "mean_absolute_error": "mae(predicted, target)",
        "mean_squared_error": "mse(predicted, target)",
        "precision_score": "precision(predicted, labels)",
        "r2_score": "r2(predicted, target)",
        "recall_score": "recall(predicted, labels)",
        "roc_auc_score": "roc_auc(scores, labels)",
        "top_k_accuracy_score": "top_k_accuracy(scores, labels, k=2)",
    }

    def __getattr__(name: str) -> object:
        fix = f"; use {_CALLS[name]}" if name in _CALLS else ""
        raise AttributeError(f"module 'funcnet.metrics' has no attribute {name!r}{fix}")
