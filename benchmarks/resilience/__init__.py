"""The service under overload, hostile bodies, swaps, kills and crowds of connections.

Imports `models` and `benchmarks.harness`.
"""
