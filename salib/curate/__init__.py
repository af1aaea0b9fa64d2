"""Scenes of a STAC catalogue to aligned tiles."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "run": ["Engine", "curate"],
        "search.catalog": ["Rules"],
    },
)
