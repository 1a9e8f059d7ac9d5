"""Requests made up from the schema, good and bad: no error of the server, no answer it hides.

``pytest -m slow tests/test_contract/test_random_requests.py --long`` tries for about an hour.
"""

import contextlib
import copy

import pytest
import schemathesis
from api_kit import api_routes, fill, values_for
from contract_kit import template_of
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from factories import make_member, make_project, make_user, now
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks as openapi

from annotator.accounts import services
from annotator.accounts.models import Role, Scope
from annotator.api.schema import api_schema

pytestmark = [pytest.mark.slow, pytest.mark.django_db, pytest.mark.timeout(7200)]

# A second opinion: tests/contract_kit.py checks the answers of all other tests by other means.
CHECKS = [
    not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
]
CALLERS = ["stranger", "annotator", "reviewer", "lead", "admin", "reading"]
# Who is let in everywhere gets furthest.
FEW = {"lead": 3}
MANY = 200


@schemathesis.serializer("application/offset+octet-stream")
def piece_of_an_upload(_, value):
    return {"data": value.data if hasattr(value, "data") else str(value).encode()}


@pytest.fixture(autouse=True)
def _the_connection_of_the_test_stays_open():
    """Between two requests a server closes it; Django's test client does the same as this."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.fixture
def world():
    """A project with images in an order, and everybody who may ask for something."""
    project = fill(make_project())
    lead = make_member(project, Role.LEAD)
    users = {
        "stranger": make_user(),
        "annotator": make_member(project, Role.ANNOTATOR),
        "reviewer": make_member(project, Role.REVIEWER),
        "lead": lead,
        "admin": make_user(admin=True),
        "reading": lead,
    }
    return project, users


def without_security(schema):
    """Return the schema without what it says of tokens: they are ours and not made up."""
    found = copy.deepcopy(schema)
    for methods in found["paths"].values():
        for operation in methods.values():
            operation.pop("security", None)
    return found


def headers_of(user, scope):
    made = services.create_token(user=user, name="random", now=now(), scope=scope)
    return {"Authorization": f"Bearer {made.secret}"}


def try_out(operation, values, headers, mode, n_examples, is_long):
    """Send requests of one operation; what each has changed is taken back."""

    @settings(
        max_examples=n_examples,
        deadline=None,
        database=None,
        derandomize=not is_long,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode, path_parameters=values))
    def send(case):
        with transaction.atomic():
            case.call_and_validate(headers=headers, checks=CHECKS)
            transaction.set_rollback(True)

    # With its address given, nothing about some operations can be wrong.
    with contextlib.suppress(Unsatisfiable):
        send()


@pytest.mark.parametrize("caller", CALLERS)
def test_whatever_is_sent_gets_an_answer_the_schema_knows(caller, world, request):
    project, users = world
    is_long = request.config.getoption("--long")
    n_examples = MANY if is_long else FEW.get(caller, 1)
    scope = Scope.READ if caller == "reading" else Scope.MANAGE
    headers = headers_of(users[caller], scope)
    owner = users["lead" if caller == "stranger" else caller]
    schema = schemathesis.openapi.from_dict(without_security(api_schema()))
    schema.app = get_wsgi_application()
    n_tried = 0
    for route in api_routes():
        methods = schema[template_of(f"api/v1/{route.pattern}")]
        for method in methods:
            # What stands in the address is made anew for each method, and taken back.
            with transaction.atomic():
                made = values_for(route, owner, project)
                values = {
                    name: value if isinstance(value, int) else str(value)
                    for name, value in made.items()
                }
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    try_out(methods[method], values, headers, mode, n_examples, is_long)
                    n_tried += 1
                transaction.set_rollback(True)

    assert n_tried >= 2 * len(api_routes())
