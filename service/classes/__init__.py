"""Classes and profiles that a running service learns: their database, what a change would do.

Imports `models`, and the base of responses in `service.web`.
"""
