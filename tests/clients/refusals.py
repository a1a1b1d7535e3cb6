"""The fields that a kind of backend does not honour are refused with their names, and no others are. Shared
by all suites."""

import contextlib

import openai
import pytest


@contextlib.contextmanager
def unless_refused(target, field: str):
    """Wraps the body of a test that needs this field. If the kind of backend does not honour the field,
    exactly its refusal must come."""
    if field not in target.refuses:
        yield
        return
    with pytest.raises(openai.BadRequestError) as failure:
        yield
    assert failure.value.code == "unsupported_parameter"
    assert failure.value.param.split(".")[0] in (field, "tool_choice" if field == "tools" else field)
