"""Labelled tasks painted from the landscape, in GEO-Bench's format."""
