"""The models: tokens that carry their position, encoders, cross-encoders, decoder (Fig. 1)."""

from salib.model.fusion import ScaleAlibi, build_model
from salib.model.published import from_published, load_croma
from salib.model.store import load_model, save_model
from salib.model.tokens import Mask, Pretraining, Tokens, draw_mask, draw_masks, patchify

__all__ = [
    "Mask",
    "Pretraining",
    "ScaleAlibi",
    "Tokens",
    "build_model",
    "draw_mask",
    "draw_masks",
    "from_published",
    "load_croma",
    "load_model",
    "patchify",
    "save_model",
]
