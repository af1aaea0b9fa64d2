"""Predictions from frozen features: neighbours, linear, neural and segmentation heads."""
