"""Signatures for methods that are made from functions."""

from __future__ import annotations

import inspect
from typing import Any, Callable, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def as_method(method: F, function: Callable[..., Any]) -> F:
    """Sets the signature of a method to ``self`` and that of a function, for help() and editors."""
    signature = inspect.signature(function)
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    result = str(signature.return_annotation)
    if result.startswith("Call[") and result.endswith("]"):
        result = result[len("Call[") : -1]
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[this, *signature.parameters.values()], return_annotation=result
    )
    return method
