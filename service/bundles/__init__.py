"""The bundles at hand: which one is served, when that changes, and a shadow beside it.

Imports `service.observability`.
"""
