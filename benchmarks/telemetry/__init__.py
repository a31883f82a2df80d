"""How fast metric points become records, what a series costs, and how near the shipped table is.

Imports `models`, `training` and `benchmarks.harness`.
"""
