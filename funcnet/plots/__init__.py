"""Plots: pure functions from runs, networks and metrics to matplotlib figures.

A function returns the figure that it drew on. Without ``axes``, that is a new figure 8 inches wide, which a notebook
shows and ``figure.savefig(path)`` saves. With the ``axes`` of a figure, it draws on them and changes nothing else in
that figure. (In a notebook, write ``_ = fn.plots...(axes=axes)`` for axes of pyplot, which shows their figure itself.)
No function imports pyplot, changes ``rcParams`` or keeps anything between calls.

The colors are those of Okabe and Ito, which color-blind readers can tell apart, and no picture depends on color alone.
"""

try:
    import matplotlib as mpl
except ImportError as error:
    raise ImportError("matplotlib 3.8 or newer is needed; use pip install 'matplotlib>=3.8'") from error

from funcnet.plots.boundaries import decision_boundary
from funcnet.plots.classification import confusion_matrix, roc_curve
from funcnet.plots.curves import learning_curves, learning_rates
from funcnet.plots.diagrams import network_diagram
from funcnet.plots.images import misclassified, weight_images
from funcnet.plots.layers import layer_statistics

__all__ = [
    "confusion_matrix",
    "decision_boundary",
    "layer_statistics",
    "learning_curves",
    "learning_rates",
    "misclassified",
    "network_diagram",
    "roc_curve",
    "weight_images",
]

del mpl


def __dir__() -> list[str]:
    return __all__
