"""What ingest, incidents and the live page cost requests: `python -m benchmarks.live`."""
