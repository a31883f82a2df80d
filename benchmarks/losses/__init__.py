"""The losses of the article beside those of pytorch-metric-learning: time, memory, exactness.

Imports `training` and `benchmarks.harness`.
"""
