"""Milliseconds of the encoder that ships, alone: in onnxruntime, by its options, leaner, elsewhere.

Imports the harness.
"""
