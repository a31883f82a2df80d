"""From records to verdicts: the scheduler, the served model, what drove a verdict.

Imports `models`, `service.formats`, `service.bundles` and `service.observability`.
"""
