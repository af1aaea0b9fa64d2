"""Attention: the one place where Eq. (1) and Eq. (2) meet."""

from salib.attention.geometry import Geometry
from salib.attention.run import IMPLEMENTATIONS, attend, reference, resolve

__all__ = ["IMPLEMENTATIONS", "Geometry", "attend", "reference", "resolve"]
