"""How good a model is: scores on test rows, few-shot enrolment, and a comparison of losses.

Imports `models`, `training.recipe`, `training.dataset` and `training.fitting`.
"""
