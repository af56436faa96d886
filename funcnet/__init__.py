"""funcnet: pure-function neural networks on NumPy and attrs.

A layer is a frozen record of parameters, forward and backward are pure functions, the update is a separate function,
and an epoch is a fold. This page is the public API.
"""

from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING

from funcnet import arithmetic as arithmetic
from funcnet import metrics as metrics
from funcnet import random as random
from funcnet.arithmetic import portable_bits as _portable_bits
from funcnet.core.arrays import Array as Array
from funcnet.core.arrays import FloatDType as FloatDType
from funcnet.core.arrays import Mask as Mask
from funcnet.core.arrays import Statistic as Statistic
from funcnet.core.arrays import Weight as Weight
from funcnet.core.errors import CheckpointError as CheckpointError
from funcnet.core.errors import ConfigError as ConfigError
from funcnet.core.errors import DatasetFormatError as DatasetFormatError
from funcnet.core.errors import DTypeError as DTypeError
from funcnet.core.errors import FuncnetError as FuncnetError
from funcnet.core.errors import GradientError as GradientError
from funcnet.core.errors import LabelError as LabelError
from funcnet.core.errors import LawError as LawError
from funcnet.core.errors import NonFiniteError as NonFiniteError
from funcnet.core.errors import ReplayWarning as ReplayWarning
from funcnet.core.errors import ShapeError as ShapeError
from funcnet.core.errors import StructureError as StructureError
from funcnet.core.named_arrays import named_arrays as named_arrays
from funcnet.core.named_arrays import with_named_arrays as with_named_arrays
from funcnet.core.names import register_name as register_name
from funcnet.core.trees import astype as astype
from funcnet.core.trees import equal as equal
from funcnet.core.trees import map_parameters as map_parameters
from funcnet.core.trees import trained_arrays as trained_arrays
from funcnet.data.batches import Minibatches as Minibatches
from funcnet.data.batches import minibatches as minibatches
from funcnet.data.preparation import one_hot as one_hot
from funcnet.data.preparation import scale_images as scale_images
from funcnet.data.preparation import split as split
from funcnet.data.windows import windows as windows
from funcnet.layers.activations import ELU as ELU
from funcnet.layers.activations import GELU as GELU
from funcnet.layers.activations import SELU as SELU
from funcnet.layers.activations import GELUTanh as GELUTanh
from funcnet.layers.activations import HardSwish as HardSwish
from funcnet.layers.activations import Identity as Identity
from funcnet.layers.activations import LeakyReLU as LeakyReLU
from funcnet.layers.activations import Mish as Mish
from funcnet.layers.activations import ReLU as ReLU
from funcnet.layers.activations import Sigmoid as Sigmoid
from funcnet.layers.activations import SiLU as SiLU
from funcnet.layers.activations import Softplus as Softplus
from funcnet.layers.activations import Softsign as Softsign
from funcnet.layers.activations import Tanh as Tanh
from funcnet.layers.attention import MultiHeadAttention as MultiHeadAttention
from funcnet.layers.attention import multi_head_attention as multi_head_attention
from funcnet.layers.batch_norm import BatchNorm as BatchNorm
from funcnet.layers.batch_norm import batch_norm as batch_norm
from funcnet.layers.conv import Conv2D as Conv2D
from funcnet.layers.conv import conv2d as conv2d
from funcnet.layers.conv1d import Conv1D as Conv1D
from funcnet.layers.conv1d import conv1d as conv1d
from funcnet.layers.dense import Dense as Dense
from funcnet.layers.dense import dense as dense
from funcnet.layers.dropout import Dropout as Dropout
from funcnet.layers.elementwise import register_elementwise as register_elementwise
from funcnet.layers.embedding import Embedding as Embedding
from funcnet.layers.embedding import embedding as embedding
from funcnet.layers.frozen import Frozen as Frozen
from funcnet.layers.global_pooling import GlobalAvgPool2D as GlobalAvgPool2D
from funcnet.layers.global_pooling import GlobalMaxPool2D as GlobalMaxPool2D
from funcnet.layers.gru import GRU as GRU
from funcnet.layers.gru import gru as gru
from funcnet.layers.lstm import LSTM as LSTM
from funcnet.layers.lstm import lstm as lstm
from funcnet.layers.masked import Masked as Masked
from funcnet.layers.normalization import LayerNorm as LayerNorm
from funcnet.layers.normalization import RMSNorm as RMSNorm
from funcnet.layers.normalization import layer_norm as layer_norm
from funcnet.layers.normalization import rms_norm as rms_norm
from funcnet.layers.parallel import Parallel as Parallel
from funcnet.layers.pooling import AvgPool2D as AvgPool2D
from funcnet.layers.pooling import MaxPool2D as MaxPool2D
from funcnet.layers.positions import LearnedPositions as LearnedPositions
from funcnet.layers.positions import SinusoidalPositions as SinusoidalPositions
from funcnet.layers.positions import learned_positions as learned_positions
from funcnet.layers.prelu import PReLU as PReLU
from funcnet.layers.prelu import prelu as prelu
from funcnet.layers.repeat import Repeat as Repeat
from funcnet.layers.residual import Residual as Residual
from funcnet.layers.rnn import RNN as RNN
from funcnet.layers.rnn import rnn as rnn
from funcnet.layers.shapes import Flatten as Flatten
from funcnet.layers.shapes import Reshape as Reshape
from funcnet.layers.softmax import Softmax as Softmax
from funcnet.layers.standardize import Standardize as Standardize
from funcnet.layers.standardize import standardize as standardize
from funcnet.layers.steps import LastStep as LastStep
from funcnet.layers.steps import MeanOverTime as MeanOverTime
from funcnet.layers.unrolling import bidirectional as bidirectional
from funcnet.layers.unrolling import unroll as unroll
from funcnet.loops.epochs import EpochLog as EpochLog
from funcnet.loops.epochs import train as train
from funcnet.loops.epochs import train_epoch as train_epoch
from funcnet.loops.fitting import Fit as Fit
from funcnet.loops.fitting import fit as fit
from funcnet.loops.plateau import ReduceOnPlateau as ReduceOnPlateau
from funcnet.loops.reducers import Reducer as Reducer
from funcnet.loops.reducers import SerialReducer as SerialReducer
from funcnet.loops.steps import TrainState as TrainState
from funcnet.loops.steps import averaged as averaged
from funcnet.loops.steps import flushed as flushed
from funcnet.loops.steps import sgd_step as sgd_step
from funcnet.loops.steps import train_step as train_step
from funcnet.loops.together import train_together as train_together
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
from funcnet.models import transformer_block as transformer_block
from funcnet.network.batch import Batch as Batch
from funcnet.network.inference import evaluate as evaluate
from funcnet.network.inference import outputs as outputs
from funcnet.network.inference import predict as predict
from funcnet.network.inference import predict_proba as predict_proba
from funcnet.network.layer import Layer as Layer
from funcnet.network.layer import Network as Network
from funcnet.network.layer import Pullback as Pullback
from funcnet.network.layer import register_layer as register_layer
from funcnet.network.loss import Loss as Loss
from funcnet.network.masks import masked as masked
from funcnet.network.modes import calibrate as calibrate
from funcnet.network.modes import plain as plain
from funcnet.network.modes import training as training
from funcnet.network.passes import activations as activations
from funcnet.network.passes import backward as backward
from funcnet.network.passes import forward as forward
from funcnet.network.passes import output_shape as output_shape
from funcnet.network.passes import value_and_grad as value_and_grad
from funcnet.network.passes import vjp as vjp
from funcnet.network.tasks import Binary as Binary
from funcnet.network.tasks import Multiclass as Multiclass
from funcnet.network.tasks import Multilabel as Multilabel
from funcnet.network.tasks import Regression as Regression
from funcnet.network.tasks import Task as Task
from funcnet.optimizers import SGD as SGD
from funcnet.optimizers import Accumulation as Accumulation
from funcnet.optimizers import Adagrad as Adagrad
from funcnet.optimizers import Adam as Adam
from funcnet.optimizers import AdamW as AdamW
from funcnet.optimizers import Averaging as Averaging
from funcnet.optimizers import ClipByGlobalNorm as ClipByGlobalNorm
from funcnet.optimizers import ClipByValue as ClipByValue
from funcnet.optimizers import Lion as Lion
from funcnet.optimizers import Moments as Moments
from funcnet.optimizers import Momentum as Momentum
from funcnet.optimizers import NAdam as NAdam
from funcnet.optimizers import Nesterov as Nesterov
from funcnet.optimizers import Optimizer as Optimizer
from funcnet.optimizers import RMSprop as RMSprop
from funcnet.optimizers import WeightDecay as WeightDecay
from funcnet.optimizers import clip_by_global_norm as clip_by_global_norm
from funcnet.optimizers import clip_by_value as clip_by_value
from funcnet.optimizers import global_norm as global_norm
from funcnet.optimizers import learning_rates as learning_rates
from funcnet.optimizers import sgd_update as sgd_update
from funcnet.optimizers.schedules import Schedule as Schedule
from funcnet.optimizers.schedules import constant as constant
from funcnet.optimizers.schedules import cosine_decay as cosine_decay
from funcnet.optimizers.schedules import cosine_restarts as cosine_restarts
from funcnet.optimizers.schedules import exponential_decay as exponential_decay
from funcnet.optimizers.schedules import join_schedules as join_schedules
from funcnet.optimizers.schedules import linear_warmup as linear_warmup
from funcnet.optimizers.schedules import one_cycle as one_cycle
from funcnet.optimizers.schedules import piecewise_constant as piecewise_constant
from funcnet.optimizers.schedules import polynomial_decay as polynomial_decay
from funcnet.optimizers.schedules import step_decay as step_decay
from funcnet.random import initializers as initializers
from funcnet.random.keys import Key as Key
from funcnet.tracing import whole as whole
from funcnet.tracing.replay import Step as Step
from funcnet.tracing.replay import StepProgram as StepProgram
from funcnet.tracing.replay import keep_programs as keep_programs
from funcnet.tracing.replay import program as program

portable = _portable_bits

if TYPE_CHECKING:
    __all__: list[str]

    from funcnet import plots as plots
    from funcnet.data import datasets as datasets
    from funcnet.data.augmentation import RandomFlip as RandomFlip
    from funcnet.data.augmentation import RandomNoise as RandomNoise
    from funcnet.data.augmentation import RandomShift as RandomShift
    from funcnet.data.tables import Table as Table
    from funcnet.data.tables import table as table
    from funcnet.inspection.explanations import Explanation as Explanation
    from funcnet.inspection.explanations import explain as explain
    from funcnet.inspection.gradient_statistics import GradientStatistics as GradientStatistics
    from funcnet.inspection.gradient_statistics import gradient_statistics as gradient_statistics
    from funcnet.inspection.nonfinite import NonFinite as NonFinite
    from funcnet.inspection.nonfinite import first_nonfinite as first_nonfinite
    from funcnet.inspection.summary import Summary as Summary
    from funcnet.inspection.summary import SummaryRow as SummaryRow
    from funcnet.inspection.summary import summary as summary
    from funcnet.interop import sklearn as _sklearn
    from funcnet.interop.keras import from_keras as from_keras
    from funcnet.interop.mpi import MPIReducer as MPIReducer
    from funcnet.interop.onnx import OnnxGraph as OnnxGraph
    from funcnet.interop.onnx import register_onnx as register_onnx
    from funcnet.interop.onnx import to_onnx as to_onnx
    from funcnet.interop.scipy import scipy_minimize as scipy_minimize
    from funcnet.interop.sklearn import from_sklearn as from_sklearn
    from funcnet.interop.torch import from_torch as from_torch
    from funcnet.interop.torch import reorder_flat as reorder_flat
    from funcnet.interop.torch import to_torch as to_torch
    from funcnet.runs.array_files import load_arrays as load_arrays
    from funcnet.runs.audited import audited_train as audited_train
    from funcnet.runs.checkpoints import load as load
    from funcnet.runs.checkpoints import read_notes as read_notes
    from funcnet.runs.checkpoints import save as save
    from funcnet.runs.environment import Environment as Environment
    from funcnet.runs.environment import environment as environment
    from funcnet.runs.fingerprints import fingerprint as fingerprint
    from funcnet.runs.recheck import Divergence as Divergence
    from funcnet.runs.recheck import Recheck as Recheck
    from funcnet.runs.recheck import first_divergence as first_divergence
    from funcnet.runs.recheck import recheck as recheck
    from funcnet.runs.rows import Run as Run
    from funcnet.runs.rows import RunRow as RunRow
    from funcnet.runs.rows import load_run as load_run
    from funcnet.runs.selftest import selftest as selftest
    from funcnet.testing.gradients import check_gradients as check_gradients
    from funcnet.testing.gradients import numerical_gradient as numerical_gradient
    from funcnet.testing.laws import LayerReport as LayerReport
    from funcnet.testing.laws import check_layer as check_layer

    estimators = _sklearn
else:  # imported on first use: these modules take longer to import than all the others together
    _LAZY = {
        "RandomFlip": "data.augmentation",
        "RandomNoise": "data.augmentation",
        "RandomShift": "data.augmentation",
        "datasets": "data.datasets",
        "Table": "data.tables",
        "table": "data.tables",
        "Explanation": "inspection.explanations",
        "explain": "inspection.explanations",
        "GradientStatistics": "inspection.gradient_statistics",
        "gradient_statistics": "inspection.gradient_statistics",
        "NonFinite": "inspection.nonfinite",
        "first_nonfinite": "inspection.nonfinite",
        "Summary": "inspection.summary",
        "SummaryRow": "inspection.summary",
        "summary": "inspection.summary",
        "from_keras": "interop.keras",
        "from_torch": "interop.torch",
        "reorder_flat": "interop.torch",
        "to_torch": "interop.torch",
        "load_arrays": "runs.array_files",
        "audited_train": "runs.audited",
        "load": "runs.checkpoints",
        "read_notes": "runs.checkpoints",
        "save": "runs.checkpoints",
        "Environment": "runs.environment",
        "environment": "runs.environment",
        "fingerprint": "runs.fingerprints",
        "Divergence": "runs.recheck",
        "Recheck": "runs.recheck",
        "first_divergence": "runs.recheck",
        "recheck": "runs.recheck",
        "Run": "runs.rows",
        "RunRow": "runs.rows",
        "load_run": "runs.rows",
        "selftest": "runs.selftest",
        "check_gradients": "testing.gradients",
        "numerical_gradient": "testing.gradients",
        "LayerReport": "testing.laws",
        "check_layer": "testing.laws",
    }
    # These modules need a library that may be absent, so ``import *`` leaves them out, and ``dir`` if it is absent.
    _OPTIONAL = {
        "MPIReducer": "interop.mpi",
        "OnnxGraph": "interop.onnx",
        "estimators": "interop.sklearn",
        "from_sklearn": "interop.sklearn",
        "plots": "plots",
        "register_onnx": "interop.onnx",
        "scipy_minimize": "interop.scipy",
        "to_onnx": "interop.onnx",
    }
    _HOOKS = {"load_ipython_extension": "inspection.notebooks"}  # IPython looks for this name
    _MODULES = ("arithmetic", "initializers", "metrics", "random")
    _HERE = [name for name, value in globals().items() if name[0] != "_" and not isinstance(value, _ModuleType)]
    __all__ = sorted({*_LAZY, *_MODULES, *_HERE} - {"TYPE_CHECKING"})  # noqa: PLE0605  # a list

    def __dir__() -> list[str]:
        return sorted({*__all__, *filter(_is_installed, _OPTIONAL)})

    def _is_installed(name: str) -> bool:
        """Whether the library that an optional name needs can be found."""
        from importlib.util import find_spec  # noqa: PLC0415

        library = {"MPIReducer": "mpi4py", "plots": "matplotlib"}.get(name) or _OPTIONAL[name].removeprefix("interop.")
        try:
            return find_spec(library) is not None
        except ValueError:  # sys.modules has None for a library that must not be imported
            return False

    def __getattr__(name: str) -> object:
        place = _LAZY.get(name) or _OPTIONAL.get(name) or _HOOKS.get(name)
        if place is None:
            raise AttributeError(f"module 'funcnet' has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415

        module = import_module(f"funcnet.{place}")
        return getattr(module, name, module)
