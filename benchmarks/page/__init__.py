"""Pictures of the live page for the README, of real telemetry.

Imports the replay of `service.offline`, the mapping of `models` and the servers of the harness.
"""
