"""Why an encoder knows scale: which heads and layers carry it, and what a picture must show."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.linear_model import RidgeCV
from torch import Tensor

from exhibits.scale import Classifier, Pictures
from salib.attention import Geometry
from salib.model.precision import autocast

FROZEN_M = 7.75
"""Metres per pixel that a frozen head is told, whatever the picture's are."""


def layers_of(
    model: Classifier, shown: Pictures, *, frozen: Float[Tensor, "layers heads"] | None = None
) -> list[Float[Tensor, "count dim"]]:
    """Mean tokens after each layer, and last after the norm that the head reads.

    Args:
        model: with a bias of attention (Eq. 2).
        shown: pictures, each with its own metres per pixel.
        frozen: 1 where a head of a layer is told `FROZEN_M` in place of them.
    """
    encoder, transformer = model.encoder, model.encoder.encoder("lores").transformer
    found: list[list[Tensor]] = [[] for _ in range(len(transformer.layers) + 1)]
    with torch.no_grad(), autocast("auto", torch.device("cpu")):
        for image, gsd_m in zip(shown.images, shown.gsd_m, strict=True):
            pixels = torch.from_numpy(image)[None].movedim(-1, 1).float()
            pixels = encoder.encoder("lores").standardise(pixels)
            tokens = encoder.tokenize("lores", pixels, gsd_m[None])
            x = tokens.x
            for number, layer in enumerate(transformer.layers):
                slopes = encoder.slopes
                if frozen is not None:
                    slopes = torch.where(frozen[number] > 0, slopes * FROZEN_M / gsd_m, slopes)
                where = (tokens.xy, tokens.xy, slopes, encoder.config.reference_m)
                x = layer(x, Geometry(*where, impl="reference"))
                found[number].append(x.mean(dim=1))
            found[-1].append(transformer.norm(x).mean(dim=1))
    return [torch.cat(part).float() for part in found]


def frozen_accuracy(
    model: Classifier, shown: Pictures, frozen: Float[Tensor, "layers heads"]
) -> float:
    """Accuracy when some heads are told another GSD than the picture's."""
    with torch.no_grad():
        scores = model.head(layers_of(model, shown, frozen=frozen)[-1])
    return float((scores.argmax(dim=1) == shown.labels).float().mean())


def one_frozen(model: Classifier, shown: Pictures) -> dict[str, float]:
    """Accuracy with nothing frozen, with each head of all layers, and with each layer's heads."""
    layers, heads = model.encoder.config.depth, model.encoder.config.heads
    none = torch.zeros(layers, heads)
    found = {"nothing": frozen_accuracy(model, shown, none)}
    for head in range(heads):
        some = none.clone()
        some[:, head] = 1
        found[f"head {head + 1}"] = frozen_accuracy(model, shown, some)
        found[f"all but head {head + 1}"] = frozen_accuracy(model, shown, 1 - some)
    for layer in range(layers):
        some = none.clone()
        some[layer] = 1
        found[f"layer {layer + 1}"] = frozen_accuracy(model, shown, some)
    return found


def flat_answers(model: Classifier, gsd_m: Float[Tensor, " count"]) -> Float[Tensor, "count 4"]:
    """Scores of one flat picture whose metres per pixel are stated differently."""
    flat = torch.full((1, 64, 64, 3), 120, dtype=torch.uint8)
    with torch.no_grad():
        return torch.cat([model(flat, each[None]) for each in gsd_m])


def probe(model: Classifier, shown: Pictures, *, seed: int) -> list[float]:
    """How well each layer's mean tokens tell a GSD that was assigned to the pictures at random.

    R2 of a ridge regression on half of the pictures, on the other half: 0 is blind. As the assigned
    GSD has nothing to do with the pixels, only attention can have brought it in.
    """
    rng = np.random.default_rng(seed)
    assigned = torch.from_numpy(np.exp(rng.uniform(np.log(3), np.log(20), len(shown.images))))
    told = replace(shown, gsd_m=assigned.float())
    target, half = assigned.log().numpy(), len(assigned) // 2
    found = []
    for features in layers_of(model, told):
        fit: Any = RidgeCV(np.logspace(-3, 3, 7)).fit(features[:half].numpy(), target[:half])
        found.append(float(fit.score(features[half:].numpy(), target[half:])))
    return found


def effective_tokens(slope: float, patch_m: float, *, side: int, reference_m: float) -> float:
    """How many tokens a query in the middle attends to if the bias alone counts: exp(entropy)."""
    at = (torch.arange(side) - side // 2).double() * patch_m
    apart = torch.hypot(at[:, None], at[None]).flatten() / reference_m
    weights = (-slope * apart).softmax(dim=0)
    return float((-(weights * weights.log()).sum()).exp())
