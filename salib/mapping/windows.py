"""Windows over a grid of patches: what the model sees at once, and how much each answer counts."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64


class Stretch(NamedTuple):
    """A window along one axis, in patches."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """How many patches."""
        return self.stop - self.start

    def meets(self, start: int, stop: int) -> bool:
        """Whether it holds patches of a range."""
        return self.start < stop and self.stop > start


def stretches(patches: int, window: int, overlap: int) -> list[Stretch]:
    """Windows of one size along an axis, evenly spaced, that share at least `overlap` patches.

    Args:
        patches: along the axis.
        window: patches that the model sees at once; where there are fewer, it sees all of them.
        overlap: at least 1, less than `window`.
    """
    if patches <= window:
        return [Stretch(0, patches)]
    steps = -(-(patches - window) // (window - overlap))
    starts = [number * (patches - window) // steps for number in range(steps + 1)]
    return [Stretch(start, start + window) for start in starts]


def weights(window: int) -> Float64[np.ndarray, " window"]:
    """How much a window's answer for each patch counts along an axis: most in its middle.

    Windows that share a patch are averaged with the cube of its depth in each. Heads that attend
    near ask for the deepest window alone, heads that attend far for a plain average. Measured on a
    procedural scene (windows of 32 patches, 8 shared; off the answer of one window over the scene,
    in spreads of the vectors): cut in the middle of what is shared 0.283, and a step across the cut
    7 % larger than elsewhere; averaged by depth 0.263 and 1 %, by its cube 0.274 and 2 %. Where
    attention is local, only the cube keeps coming nearer as more is shared.
    """
    from_start = np.arange(window) + 0.5
    return np.minimum(from_start, window - from_start) ** 3


def in_patches(patch_px: int, window_px: int | None, overlap_px: int | None) -> tuple[int, int]:
    """Window and overlap in patches; 32 patches and a quarter of the window where not given.

    Raises:
        ValueError: if they are not whole patches, or leave a window nothing to share or to keep.
    """
    window_px = 32 * patch_px if window_px is None else window_px
    if window_px < 2 * patch_px or window_px % patch_px:
        raise ValueError(
            f"window_px must be a multiple of the model's patch of {patch_px} px, two or more, got "
            f"{window_px}: {max(2, round(window_px / patch_px)) * patch_px} is the nearest"
        )
    if overlap_px is None:
        overlap_px = max(1, window_px // patch_px // 4) * patch_px
    if not 0 < overlap_px < window_px or overlap_px % patch_px:
        raise ValueError(
            f"overlap_px must be a multiple of the model's patch of {patch_px} px, above 0 and "
            f"below window_px={window_px}, got {overlap_px}: a quarter of the window is usual"
        )
    return window_px // patch_px, overlap_px // patch_px
