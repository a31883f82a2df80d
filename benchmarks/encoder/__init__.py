"""Milliseconds of the encoder that ships, alone: in onnxruntime, by its options, and elsewhere.

Imports the harness.
"""
