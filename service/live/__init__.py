"""What the live page shows: the latest records and devices, and events for whoever looks. No HTTP.

Imports `service.classes`, `service.observability`, `service.scoring` and `service.web`.
"""
