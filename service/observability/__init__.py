"""What operators see: metrics, drift, logs and traces.

Imports `models`, `service.settings` and `service.web`.
"""
