"""What the live page costs the requests of others: `python -m benchmarks.live`."""
