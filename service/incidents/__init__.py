"""Incidents: verdicts become states of keys, states become incidents, incidents become alerts.

Imports `models`, and the database of `service.classes`.
"""
