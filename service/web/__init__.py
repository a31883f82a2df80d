"""What all HTTP routes share: problems, bodies, compression, keys and middleware.

Imports `service.formats`, whose errors it maps to status codes.
"""
