"""What a kind of backend does not honour is refused by name, and nothing else is: said once, for every suite."""

import contextlib

import openai
import pytest


@contextlib.contextmanager
def unless_refused(target, field: str):
    """Around the body of a test that needs this field: where the kind of backend does not honour it, exactly its refusal must come."""
    if field not in target.refuses:
        yield
        return
    with pytest.raises(openai.BadRequestError) as failure:
        yield
    assert failure.value.code == "unsupported_parameter"
    assert failure.value.param.split(".")[0] in (field, "tool_choice" if field == "tools" else field)
