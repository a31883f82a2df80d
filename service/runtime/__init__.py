"""What one application holds while it runs, and how its classes change.

Imports every room but `api`, `server` and `offline`.
"""
