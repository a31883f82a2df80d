"""How good a model is: scores on test rows, what operators would see, few-shot, losses compared.

Imports `models`, `training.recipe`, `training.dataset` and `training.fitting`.
"""
