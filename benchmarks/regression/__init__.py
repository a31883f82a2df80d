"""This checkout beside an earlier commit, in one run.

Imports `benchmarks.harness` only.
"""
