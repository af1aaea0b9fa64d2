"""Rasters as others write them: where they lie, where they have data, and what it means."""
