"""What pydantic finds wrong with parameters and forms, in the plain words of all our errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, get_args

from fastapi.dependencies.models import Dependant
from pydantic_core.core_schema import ErrorType
from starlette.requests import Request

from models import FieldError, RecordError
from models.schema import describe

__all__ = ["faults_of", "known_parameters"]

_UNKNOWN = "a parameter not known"
_LOCATIONS = frozenset({"body", "cookie", "header", "path", "query"})
_EXPECTED: Final = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "date_from_datetime_parsing": "a date and a time",
    "datetime_from_date_parsing": "a date and a time",
    "datetime_object_invalid": "a date and a time",
    "datetime_parsing": "a date and a time",
    "datetime_type": "a date and a time",
    "dict_type": "an object",
    "extra_forbidden": "only keys that are known",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "a number greater than {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_type": "a whole number",
    "less_than": "a number less than {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "missing": "a value",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "string_pattern_mismatch": "text of the form {pattern}",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "at least {min_length} characters",
    "string_type": "text",
    "string_unicode": "text in UTF-8",
    "too_long": "at most {max_length} entries",
    "too_short": "at least {min_length} entries",
}
"""By the type of pydantic's error."""
_OF_PYDANTIC = frozenset(get_args(ErrorType))


def known_parameters(request: Request) -> None:
    """Refuse query parameters that a route does not take: `dryrun` is no dry run.

    Routes that only read and take none let them pass.

    Raises:
        RecordError: a parameter is not known.
    """
    given = request.query_params.keys()
    if not given:
        return
    known = sorted(_parameters(request.scope["route"].dependant))
    if not known and request.method in {"GET", "HEAD"}:
        return
    if other := [name for name in given if name not in known]:
        only = f"only {', '.join(known)}" if known else "no parameter"
        raise RecordError([FieldError(None, name[:100], only, _UNKNOWN) for name in other])


def _parameters(dependant: Dependant) -> Iterator[str]:
    yield from (parameter.alias for parameter in dependant.query_params)
    for each in dependant.dependencies:
        yield from _parameters(each)


def faults_of(errors: Sequence[Mapping[str, Any]]) -> list[FieldError]:
    """Return each error as a fault; an error that a validator of ours raised keeps its words.

    Args:
        errors: as `pydantic.ValidationError.errors()` or FastAPI lists them, with their input.
    """
    return [_fault(error) for error in errors]


def _fault(error: Mapping[str, Any]) -> FieldError:
    path, record, field = error["loc"], None, None
    # What follows the name of a parameter is which of its types was tried.
    if path and path[0] in _LOCATIONS:
        field = str(path[min(1, len(path) - 1)])
    else:
        record = next((part for part in path if isinstance(part, int)), None)
        field = next((part for part in reversed(path) if isinstance(part, str)), None)
    return FieldError(record, field, _expected(error), _got(error))


def _expected(error: Mapping[str, Any]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _EXPECTED:
        return _EXPECTED[kind].format_map(context)
    if kind == "value_error":
        return str(context["error"])
    return "another value" if kind in _OF_PYDANTIC else str(error["msg"])


def _got(error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "missing":
            return "nothing"
        case "extra_forbidden":
            return "a key that is not known"
        case kind if kind.endswith("_type"):
            return describe(error["input"])
    return "something else"
