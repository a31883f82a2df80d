"""Wire formats of records and verdicts: bytes become matrices, decisions become bytes.

Imports `models` only; it knows no HTTP and no status codes.
"""
