"""What it gives that small requests go through the model together: `python -m benchmarks.batching`.

Imports the harness.
"""
