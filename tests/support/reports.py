"""What schemathesis has to know, and a document cannot say: which answers are reports."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def filter_case(_context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> bool:
    """Pass over a report of records that do not fit, which is a 200, and over dry runs."""
    if case.query.get("dry_run") in (True, "true") and case.method.upper() == "POST":
        return False  # its check is sure that what is answered with 2xx is there afterwards
    enrols = "/classes" in case.path and isinstance(case.body, dict) and case.body.get("records")
    if enrols and case.query.get("force") not in (True, "true"):
        return False  # records that do not belong together are a 422
    positive = case.meta is not None and case.meta.generation.mode.is_positive
    return positive or case.query.get("on_invalid") != "report"
