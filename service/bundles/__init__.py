"""The bundles at hand: which one is served, whether it can be, and a shadow beside it.

Imports `service.observability`.
"""
