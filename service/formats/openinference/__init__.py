"""The Open Inference Protocol (V2): tensors in, tensors out.

Imports `models` and `service.formats` only.
"""
