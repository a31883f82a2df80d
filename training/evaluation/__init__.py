"""What a bundle is worth: test scores, one-shot transfer, the comparison of losses.

Imports `models`, `training.dataset` and `training.fitting`.
"""
