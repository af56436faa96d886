"""Updates, separate from gradients: ``sgd_update``, and optimizers, which are records with two pure functions.

The state of an optimizer is its moments, which are named networks: ``Moments.of()`` for SGD,
``Moments.of(velocity=...)`` for Momentum.
"""

from funcnet.optimizers.adaptive import Adagrad as Adagrad
from funcnet.optimizers.adaptive import Adam as Adam
from funcnet.optimizers.adaptive import AdamW as AdamW
from funcnet.optimizers.adaptive import Lion as Lion
from funcnet.optimizers.adaptive import NAdam as NAdam
from funcnet.optimizers.adaptive import RMSprop as RMSprop
from funcnet.optimizers.descent import SGD as SGD
from funcnet.optimizers.descent import Momentum as Momentum
from funcnet.optimizers.descent import Nesterov as Nesterov
from funcnet.optimizers.descent import sgd_update as sgd_update
from funcnet.optimizers.gradients import clip_by_global_norm as clip_by_global_norm
from funcnet.optimizers.gradients import clip_by_value as clip_by_value
from funcnet.optimizers.gradients import global_norm as global_norm
from funcnet.optimizers.moments import Moments as Moments
from funcnet.optimizers.protocol import Optimizer as Optimizer
from funcnet.optimizers.protocol import learning_rates as learning_rates
from funcnet.optimizers.wrappers import Accumulation as Accumulation
from funcnet.optimizers.wrappers import Averaging as Averaging
from funcnet.optimizers.wrappers import ClipByGlobalNorm as ClipByGlobalNorm
from funcnet.optimizers.wrappers import ClipByValue as ClipByValue
from funcnet.optimizers.wrappers import WeightDecay as WeightDecay
