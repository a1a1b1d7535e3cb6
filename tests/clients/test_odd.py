"""A few of the odd requests of `odd.py`, always the same, for each kind of backend. `make odd` sends many
others."""

import openai_spec
import pytest

from odd import STANDS, run
from targets import TARGETS

SEED = 7431
# The engines are slow.
MOST = {"ollama": 400, "embedded": 50, "openai": 40}


@pytest.mark.parametrize("kind", [kind for kind in STANDS if kind in TARGETS])
def test_odd_requests_are_answered_as_they_should_be(kind, tmp_path):
    before = openai_spec.checked
    with STANDS[kind](tmp_path / "log") as stand:
        statuses, faults = run(stand, SEED, MOST[kind], seconds=600)
    assert not faults, "\n".join(faults[:5])
    assert statuses[200] and statuses[400] and statuses.total() == MOST[kind]
    assert not openai_spec.SPEC or openai_spec.checked > before
