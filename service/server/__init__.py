"""Sockets, connections and worker processes: everything that leans on uvicorn.

Imports `service.runtime`, `service.web` and `service.observability`.
"""
