"""One agreement with real certificates for the whole room."""

import pytest
from participants import Participants, make_participants


@pytest.fixture(scope="session")
def people() -> Participants:
    return make_participants()
