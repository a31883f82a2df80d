"""Incidents: verdicts become states of keys, states become incidents, incidents become alerts.

Imports `models`, the database of `service.classes`, and the base of responses in `service.web`.
"""
