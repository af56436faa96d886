"""funcnet: pure-function neural networks on NumPy and attrs.

A layer is a frozen record of parameters, forward and backward are pure functions, the update is a function of its own,
and an epoch is a fold. This page is the public API.
"""

from typing import TYPE_CHECKING

from funcnet import initializers as initializers
from funcnet import metrics as metrics
from funcnet.arithmetic import portable_bits as portable
from funcnet.arrays import Array as Array
from funcnet.arrays import FloatDType as FloatDType
from funcnet.arrays import Statistic as Statistic
from funcnet.arrays import Weight as Weight
from funcnet.data import Batch as Batch
from funcnet.data import Minibatches as Minibatches
from funcnet.data import minibatches as minibatches
from funcnet.errors import CheckpointError as CheckpointError
from funcnet.errors import ConfigError as ConfigError
from funcnet.errors import DatasetFormatError as DatasetFormatError
from funcnet.errors import DTypeError as DTypeError
from funcnet.errors import FuncnetError as FuncnetError
from funcnet.errors import GradientError as GradientError
from funcnet.errors import LabelError as LabelError
from funcnet.errors import LawError as LawError
from funcnet.errors import NonFiniteError as NonFiniteError
from funcnet.errors import ReplayWarning as ReplayWarning
from funcnet.errors import ShapeError as ShapeError
from funcnet.errors import StructureError as StructureError
from funcnet.fitting import Fit as Fit
from funcnet.fitting import evaluate as evaluate
from funcnet.fitting import fit as fit
from funcnet.inference import outputs as outputs
from funcnet.inference import predict as predict
from funcnet.inference import predict_proba as predict_proba
from funcnet.keys import Key as Key
from funcnet.layer import Layer as Layer
from funcnet.layer import Network as Network
from funcnet.layer import Pullback as Pullback
from funcnet.layer import register_layer as register_layer
from funcnet.layers.activations import ELU as ELU
from funcnet.layers.activations import GELU as GELU
from funcnet.layers.activations import GELUTanh as GELUTanh
from funcnet.layers.activations import Identity as Identity
from funcnet.layers.activations import LeakyReLU as LeakyReLU
from funcnet.layers.activations import ReLU as ReLU
from funcnet.layers.activations import Sigmoid as Sigmoid
from funcnet.layers.activations import SiLU as SiLU
from funcnet.layers.activations import Softplus as Softplus
from funcnet.layers.activations import Tanh as Tanh
from funcnet.layers.batch_norm import BatchNorm as BatchNorm
from funcnet.layers.batch_norm import batch_norm as batch_norm
from funcnet.layers.conv import Conv2D as Conv2D
from funcnet.layers.conv import conv2d as conv2d
from funcnet.layers.dense import Dense as Dense
from funcnet.layers.dense import dense as dense
from funcnet.layers.dropout import Dropout as Dropout
from funcnet.layers.elementwise import register_elementwise as register_elementwise
from funcnet.layers.frozen import Frozen as Frozen
from funcnet.layers.normalization import LayerNorm as LayerNorm
from funcnet.layers.normalization import RMSNorm as RMSNorm
from funcnet.layers.normalization import layer_norm as layer_norm
from funcnet.layers.normalization import rms_norm as rms_norm
from funcnet.layers.parallel import Parallel as Parallel
from funcnet.layers.pooling import AvgPool2D as AvgPool2D
from funcnet.layers.pooling import GlobalAvgPool2D as GlobalAvgPool2D
from funcnet.layers.pooling import MaxPool2D as MaxPool2D
from funcnet.layers.repeat import Repeat as Repeat
from funcnet.layers.residual import Residual as Residual
from funcnet.layers.shapes import Flatten as Flatten
from funcnet.layers.shapes import Reshape as Reshape
from funcnet.layers.standardize import Standardize as Standardize
from funcnet.layers.standardize import standardize as standardize
from funcnet.losses import Huber as Huber
from funcnet.losses import SoftmaxCrossEntropy as SoftmaxCrossEntropy
from funcnet.losses import binary_cross_entropy as binary_cross_entropy
from funcnet.losses import hinge as hinge
from funcnet.losses import huber as huber
from funcnet.losses import mean_absolute_error as mean_absolute_error
from funcnet.losses import mean_squared_error as mean_squared_error
from funcnet.losses import poisson as poisson
from funcnet.losses import softmax_cross_entropy as softmax_cross_entropy
from funcnet.metrics import accuracy as accuracy
from funcnet.models import mlp as mlp
from funcnet.modes import calibrate as calibrate
from funcnet.network import Loss as Loss
from funcnet.network import activations as activations
from funcnet.network import backward as backward
from funcnet.network import forward as forward
from funcnet.network import output_shape as output_shape
from funcnet.network import value_and_grad as value_and_grad
from funcnet.network import vjp as vjp
from funcnet.optimizers import SGD as SGD
from funcnet.optimizers import Accumulation as Accumulation
from funcnet.optimizers import Adagrad as Adagrad
from funcnet.optimizers import Adam as Adam
from funcnet.optimizers import AdamW as AdamW
from funcnet.optimizers import Averaging as Averaging
from funcnet.optimizers import ClipByGlobalNorm as ClipByGlobalNorm
from funcnet.optimizers import ClipByValue as ClipByValue
from funcnet.optimizers import Moments as Moments
from funcnet.optimizers import Momentum as Momentum
from funcnet.optimizers import Nesterov as Nesterov
from funcnet.optimizers import Optimizer as Optimizer
from funcnet.optimizers import RMSprop as RMSprop
from funcnet.optimizers import WeightDecay as WeightDecay
from funcnet.optimizers import clip_by_global_norm as clip_by_global_norm
from funcnet.optimizers import clip_by_value as clip_by_value
from funcnet.optimizers import global_norm as global_norm
from funcnet.optimizers import learning_rates as learning_rates
from funcnet.optimizers import sgd_update as sgd_update
from funcnet.preparation import one_hot as one_hot
from funcnet.preparation import scale_images as scale_images
from funcnet.preparation import split as split
from funcnet.records import register_name as register_name
from funcnet.replay import StepProgram as StepProgram
from funcnet.replay import keep_programs as keep_programs
from funcnet.replay import program as program
from funcnet.schedules import Schedule as Schedule
from funcnet.schedules import constant as constant
from funcnet.schedules import cosine_decay as cosine_decay
from funcnet.schedules import exponential_decay as exponential_decay
from funcnet.schedules import join_schedules as join_schedules
from funcnet.schedules import linear_warmup as linear_warmup
from funcnet.schedules import step_decay as step_decay
from funcnet.tracing import whole as whole
from funcnet.training import EpochLog as EpochLog
from funcnet.training import Step as Step
from funcnet.training import TrainState as TrainState
from funcnet.training import averaged as averaged
from funcnet.training import sgd_step as sgd_step
from funcnet.training import train as train
from funcnet.training import train_epoch as train_epoch
from funcnet.training import train_step as train_step
from funcnet.trees import cast as cast
from funcnet.trees import equal as equal

from funcnet.modes import training as training  # isort: skip  # last: the function, not the module of its name

if TYPE_CHECKING:
    from funcnet import datasets as datasets
    from funcnet.audits import Divergence as Divergence
    from funcnet.audits import Recheck as Recheck
    from funcnet.audits import first_divergence as first_divergence
    from funcnet.audits import recheck as recheck
    from funcnet.augmentation import RandomFlip as RandomFlip
    from funcnet.augmentation import RandomNoise as RandomNoise
    from funcnet.augmentation import RandomShift as RandomShift
    from funcnet.checking import check_gradients as check_gradients
    from funcnet.checking import numerical_gradient as numerical_gradient
    from funcnet.checkpoints import load as load
    from funcnet.checkpoints import save as save
    from funcnet.contract import selftest as selftest
    from funcnet.diagnosis import NonFinite as NonFinite
    from funcnet.diagnosis import first_nonfinite as first_nonfinite
    from funcnet.explanations import Explanation as Explanation
    from funcnet.explanations import explain as explain
    from funcnet.fingerprints import Environment as Environment
    from funcnet.fingerprints import environment as environment
    from funcnet.fingerprints import fingerprint as fingerprint
    from funcnet.inspection import Summary as Summary
    from funcnet.inspection import SummaryRow as SummaryRow
    from funcnet.inspection import summary as summary
    from funcnet.laws import LayerReport as LayerReport
    from funcnet.laws import check_layer as check_layer
    from funcnet.monitoring import GradientStatistics as GradientStatistics
    from funcnet.monitoring import gradient_statistics as gradient_statistics
    from funcnet.runs import Run as Run
    from funcnet.runs import RunRow as RunRow
    from funcnet.runs import audited_train as audited_train
    from funcnet.runs import load_run as load_run

__all__ = [
    "ELU",
    "GELU",
    "SGD",
    "Accumulation",
    "Adagrad",
    "Adam",
    "AdamW",
    "Array",
    "Averaging",
    "AvgPool2D",
    "Batch",
    "BatchNorm",
    "CheckpointError",
    "ClipByGlobalNorm",
    "ClipByValue",
    "ConfigError",
    "Conv2D",
    "DTypeError",
    "DatasetFormatError",
    "Dense",
    "Divergence",
    "Dropout",
    "Environment",
    "EpochLog",
    "Explanation",
    "Fit",
    "Flatten",
    "FloatDType",
    "Frozen",
    "FuncnetError",
    "GELUTanh",
    "GlobalAvgPool2D",
    "GradientError",
    "GradientStatistics",
    "Huber",
    "Identity",
    "Key",
    "LabelError",
    "LawError",
    "Layer",
    "LayerNorm",
    "LayerReport",
    "LeakyReLU",
    "Loss",
    "MaxPool2D",
    "Minibatches",
    "Moments",
    "Momentum",
    "Nesterov",
    "Network",
    "NonFinite",
    "NonFiniteError",
    "Optimizer",
    "Parallel",
    "Pullback",
    "RMSNorm",
    "RMSprop",
    "RandomFlip",
    "RandomNoise",
    "RandomShift",
    "ReLU",
    "Recheck",
    "Repeat",
    "ReplayWarning",
    "Reshape",
    "Residual",
    "Run",
    "RunRow",
    "Schedule",
    "ShapeError",
    "SiLU",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "Softplus",
    "Standardize",
    "Statistic",
    "Step",
    "StepProgram",
    "StructureError",
    "Summary",
    "SummaryRow",
    "Tanh",
    "TrainState",
    "Weight",
    "WeightDecay",
    "accuracy",
    "activations",
    "audited_train",
    "averaged",
    "backward",
    "batch_norm",
    "binary_cross_entropy",
    "calibrate",
    "cast",
    "check_gradients",
    "check_layer",
    "clip_by_global_norm",
    "clip_by_value",
    "constant",
    "conv2d",
    "cosine_decay",
    "datasets",
    "dense",
    "environment",
    "equal",
    "evaluate",
    "explain",
    "exponential_decay",
    "fingerprint",
    "first_divergence",
    "first_nonfinite",
    "fit",
    "forward",
    "global_norm",
    "gradient_statistics",
    "hinge",
    "huber",
    "initializers",
    "join_schedules",
    "keep_programs",
    "layer_norm",
    "learning_rates",
    "linear_warmup",
    "load",
    "load_run",
    "mean_absolute_error",
    "mean_squared_error",
    "metrics",
    "minibatches",
    "mlp",
    "numerical_gradient",
    "one_hot",
    "output_shape",
    "outputs",
    "poisson",
    "portable",
    "predict",
    "predict_proba",
    "program",
    "recheck",
    "register_elementwise",
    "register_layer",
    "register_name",
    "rms_norm",
    "save",
    "scale_images",
    "selftest",
    "sgd_step",
    "sgd_update",
    "softmax_cross_entropy",
    "split",
    "standardize",
    "step_decay",
    "summary",
    "train",
    "train_epoch",
    "train_step",
    "training",
    "value_and_grad",
    "vjp",
    "whole",
]


_LAZY = {
    "Summary": "inspection",
    "SummaryRow": "inspection",
    "summary": "inspection",
    "LayerReport": "laws",
    "check_layer": "laws",
    "GradientStatistics": "monitoring",
    "gradient_statistics": "monitoring",
    "Explanation": "explanations",
    "explain": "explanations",
    "first_nonfinite": "diagnosis",
    "NonFinite": "diagnosis",
    "RandomNoise": "augmentation",
    "RandomFlip": "augmentation",
    "RandomShift": "augmentation",
    "recheck": "audits",
    "load_run": "runs",
    "first_divergence": "audits",
    "audited_train": "runs",
    "RunRow": "runs",
    "Run": "runs",
    "Recheck": "audits",
    "Divergence": "audits",
    "check_gradients": "checking",
    "datasets": "datasets",
    "load": "checkpoints",
    "save": "checkpoints",
    "Environment": "fingerprints",
    "environment": "fingerprints",
    "fingerprint": "fingerprints",
    "numerical_gradient": "checking",
    "selftest": "contract",
}


def __dir__() -> list[str]:
    return sorted(__all__)


if not TYPE_CHECKING:  # what is loaded late is imported above for the checkers, which must see a typing error

    def __getattr__(name: str) -> object:
        if name in _LAZY:  # loaded when asked for: their imports cost more than all the rest
            from importlib import import_module  # noqa: PLC0415

            module = import_module(f"funcnet.{_LAZY[name]}")
            return module if name == "datasets" else getattr(module, name)
        raise AttributeError(f"module 'funcnet' has no attribute {name!r}")
