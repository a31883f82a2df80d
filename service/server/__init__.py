"""Sockets, connections and worker processes: everything that depends on uvicorn.

Imports `service.runtime`, `service.web` and `service.observability`. Only `service.cli` imports
this room; without it, `service.app` runs on any ASGI server.
"""
