"""Pixels of scenes, local or remote, resampled to the grid of tiles."""
