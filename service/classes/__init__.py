"""Classes that a running service learns: their records, their database, what a change would do.

Imports `models`, and the base of responses in `service.web`.
"""
