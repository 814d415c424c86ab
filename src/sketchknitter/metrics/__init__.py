"""Metrics: one file each. Drawings are compared in :mod:`sketchknitter.metrics.metric` alone.

``features`` is what a network says of drawings; the networks are the judge and ``inception``. What
generates may use these metrics and never the judge.
"""
