"""The tile archives that the paper's authors released: download and index."""
