"""Throughput, latency and memory of the service beside other model servers of the same graph.

Imports `benchmarks.harness`; `peers` also what its servers are made with, each by itself.
"""
