"""What people read: model card, figures, and the comparison of losses with its animation.

Imports `models`, `training.recipe`, `training.dataset`, `training.fitting`, `training.evaluation`.
"""
