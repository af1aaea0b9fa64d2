"""Tiles to samples, batches and steps: the one training loop and what it needs."""
