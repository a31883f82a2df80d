"""Points a second of each decoder, and bodies of every wire format to measure and test them with.

Imports `models`, `service.ingest` and `benchmarks.harness`.
"""
