"""Readers of labelled tasks, and from raw pixel values to the input of an encoder."""

SPLITS = ("train", "valid", "test")
