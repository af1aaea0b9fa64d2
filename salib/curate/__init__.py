"""Scenes of a STAC catalogue to aligned tiles; the only importer of raster and STAC packages."""
