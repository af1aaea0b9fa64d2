"""The neural probe: one hidden layer of 2048 on frozen features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salib.evaluate.probes.data import Features, Prediction, ProbeData, Setting, score
from salib.evaluate.probes.fitting import Examples, fit_best, outputs

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU}


def neural(data: ProbeData, setting: Setting) -> Prediction:
    """Probabilities by a network of one hidden layer fitted on the train items (`fit_best`).

    Cross-entropy; of a multi-label task binary cross-entropy, chosen by valid micro mAP. A class
    without a train item is not predicted but by chance.
    """
    protocol, dim = setting.protocol, data.train.shape[1]

    def build() -> nn.Module:
        return nn.Sequential(
            nn.Linear(dim, protocol.hidden),
            ACTIVATIONS[protocol.activation](),
            nn.Linear(protocol.hidden, data.n_classes),
        )

    def probabilities(network: nn.Module, features: Features) -> Features:
        logits = torch.cat(list(outputs(network, features, protocol.batch)))
        return (logits.sigmoid() if data.is_multilabel else logits.softmax(1)).cpu().numpy()

    network = fit_best(
        build,
        Examples(data.train, data.train_labels),
        Examples(data.valid, data.valid_labels),
        loss=_label_loss if data.is_multilabel else _class_loss,
        score=lambda network: score(probabilities(network, data.valid), data.valid_labels),
        protocol=protocol,
        seed=setting.seed,
        device=setting.device,
    )
    return Prediction(probabilities(network, data.test))


def _class_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    return F.cross_entropy(logits, labels, reduction="sum"), len(labels)


def _label_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    targets = labels.to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    return loss, labels.numel()
