"""What operators see: metrics, drift, recent traffic, logs and traces.

Imports `service.formats`, `service.settings` and `service.web`.
"""
