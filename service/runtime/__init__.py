"""What one application holds while it runs, and how its bundle and classes change.

Imports every room but `api`, `server`, `stream` and `offline`.
"""
