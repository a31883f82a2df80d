"""Wire formats of records and of answers: JSON and Arrow, bytes to matrices and back.

Imports `models` only: status codes are the business of `service.web`.
"""
