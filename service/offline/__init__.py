"""Tables without a server: classify one, export feedback.

Imports `models`, `service.formats`, `service.bundles` and `service.classes`.
"""
