"""From matrices to a fitted encoder and a calibrated decision rule.

Imports `models` and `training.dataset`.
"""
