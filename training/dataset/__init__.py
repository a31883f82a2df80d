"""From a table to matrices: read it, infer its schema, split it, encode it.

Imports `models` only.
"""
