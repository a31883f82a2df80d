"""From recorded metric points to a table of records, by the mapping that the service uses.

Imports `check`, `dataset` and `recipe`.
"""
