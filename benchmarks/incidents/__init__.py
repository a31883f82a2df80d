"""Incidents of the three runs with injected faults: what is found, how late, and what is false.

Imports `service.incidents`, `models`, the recipe of `training` and the reports of the harness.
"""
