"""What every HTTP route shares: problems, bodies, compression, keys, middleware.

Imports `service.settings` only.
"""
