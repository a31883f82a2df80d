"""Consumers of a stream, one of them killed: what is lost, doubled or different.

Imports `benchmarks.harness`; tests/e2e/test_stream.py imports this.
"""
