"""Tables without a server: classify one, export feedback.

Imports `service.formats`, `service.bundles`, `service.classes` and `service.settings`.
"""
