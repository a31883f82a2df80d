"""The one way from the chunks of a request to verdicts, and the scheduler that shares it fairly.

Imports `service.formats` and `service.web`.
"""
