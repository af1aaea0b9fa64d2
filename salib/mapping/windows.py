"""Windows over a grid of patches: what the model sees at once, and what of it is kept."""

from itertools import pairwise
from typing import NamedTuple


class Stretch(NamedTuple):
    """A window along one axis, in patches: seen from `start` to `stop`, kept `first` to `last`."""

    start: int
    stop: int
    first: int
    last: int


def stretches(patches: int, window: int, overlap: int) -> list[Stretch]:
    """Windows of one size along an axis, each patch kept from the one in which it lies deepest.

    Windows share at least `overlap` patches with the next; the border between what two of them
    keep is the middle of what they share. Averaging the two would add the answer of the window
    that sees less around a patch to that of the one that sees more, and tie a patch to several
    windows; cutting needs one, so that windows can be computed in any order, anywhere, once.

    Args:
        patches: along the axis.
        window: patches that the model sees at once; where there are fewer, it sees all of them.
        overlap: at least 1, less than `window`.
    """
    if patches <= window:
        return [Stretch(0, patches, 0, patches)]
    steps = -(-(patches - window) // (window - overlap))
    starts = [number * (patches - window) // steps for number in range(steps + 1)]
    cuts = [(after + before + window) // 2 for before, after in pairwise(starts)]
    kept = pairwise([0, *cuts, patches])
    return [Stretch(start, start + window, *ends) for start, ends in zip(starts, kept, strict=True)]


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
