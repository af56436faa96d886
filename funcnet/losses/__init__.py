"""Losses: pure functions that return the mean loss of a batch and its gradient with respect to the prediction."""

from funcnet.losses.binary import binary_cross_entropy as binary_cross_entropy
from funcnet.losses.binary import hinge as hinge
from funcnet.losses.regression import Huber as Huber
from funcnet.losses.regression import huber as huber
from funcnet.losses.regression import mean_absolute_error as mean_absolute_error
from funcnet.losses.regression import mean_squared_error as mean_squared_error
from funcnet.losses.regression import poisson as poisson
from funcnet.losses.softmax import SoftmaxCrossEntropy as SoftmaxCrossEntropy
from funcnet.losses.softmax import softmax_cross_entropy as softmax_cross_entropy
