"""Sockets, connections and worker processes: everything that leans on uvicorn.

Imports `runtime`, `bundles`, `observability`, `settings` and `web`; only the CLI imports it.
"""
