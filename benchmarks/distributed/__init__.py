"""Training in two processes beside training in one: records a second.

Imports `training` and `benchmarks.harness`.
"""
