"""The optimizer of a training, its distillation loss, and the running average of weights."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from spiking_resnet.ann.activation import QCFS
from spiking_resnet.ann.recipe import TrainConfig


def optimizer_for(model: nn.Module, config: TrainConfig) -> torch.optim.SGD:
    """SGD as the recipe has it; biases, norms and thresholds decay as it says."""
    rules = config.rules
    thresholds = [module.threshold for module in model.modules() if isinstance(module, QCFS)]
    matrices = [value for value in model.parameters() if value.dim() > 1]
    vectors = [value for value in model.parameters() if value.dim() == 1]
    groups = [
        {"params": matrices, "weight_decay": config.decay},
        {"params": vectors, "weight_decay": config.decay if rules.decay_norms else 0.0},
    ]
    if thresholds:
        groups.append({"params": thresholds, "weight_decay": rules.threshold_decay})
    return torch.optim.SGD(
        groups,
        lr=config.learning_rate or rules.learning_rate,
        momentum=rules.momentum,
        nesterov=rules.nesterov,
    )


def distance(logits: Tensor, opinion: Tensor, temperature: float) -> Tensor:
    """Mean KL divergence of softened logits [N, classes] from a teacher's, times the squared
    temperature (Hinton, Vinyals, Dean, arXiv 1503.02531, section 2).
    """
    own = functional.log_softmax(logits / temperature, 1)
    wanted = functional.log_softmax(opinion / temperature, 1)
    divergence = functional.kl_div(own, wanted, reduction="batchmean", log_target=True)
    return divergence * temperature**2


@torch.no_grad()
def move_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move `average`, running statistics included, by 1 - decay towards the model."""
    new = model.state_dict()
    for key, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(new[key], 1 - decay)
        else:
            value.copy_(new[key])
