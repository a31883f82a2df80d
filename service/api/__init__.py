"""The routes: each chooses a reader, a writer and the observers of its records.

Imports every room but `server` and `offline`.
"""
