"""Wire formats of monitoring systems: bytes become metric points.

Imports `models` and `service.formats`; it knows no HTTP and no model.
"""
