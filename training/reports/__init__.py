"""What people read: model card, figures, the comparison page and its animation.

Imports `models` and `training.evaluation`.
"""
