"""A million damaged requests to the whole application, and what must be true of every answer.

Imports `models`, `service` and `benchmarks.harness`.
"""
