"""Incidents: verdicts become states of keys, states become incidents, incidents become alerts.

Imports nothing of the service.
"""
