"""What every benchmark stands on: server processes, load generators, real records, reports.

Imports no other room; a benchmark imports this one, and hardly any other.
"""
