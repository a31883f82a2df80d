"""The routes: each chooses a reader, a scorer and a writer, or asks the runtime.

Imports every room but `server`, `offline` and `observability`.
"""
