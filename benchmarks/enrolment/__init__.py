"""What classes that a running service learns over HTTP do, cost and keep.

Imports `models`, `training`, `service.classes`, `benchmarks.harness` and `benchmarks.detection`.
"""
