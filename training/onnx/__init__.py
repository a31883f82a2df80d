"""Export: from a torch encoder to a verified ONNX graph.

Imports `models` and `training.fitting`.
"""
