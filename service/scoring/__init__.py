"""The one way from chunks of records to verdicts, and the scheduler that shares it fairly.

Imports `service.formats` and `service.web`.
"""
