"""Scenes of the three sensors as cloud-optimised GeoTIFFs, and the STAC catalogue of them."""
