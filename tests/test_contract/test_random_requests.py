"""Requests made up from the schema, good and bad: no error of the server, no answer it hides.

``pytest -m slow tests/test_contract/test_random_requests.py --long`` tries for about an hour.
"""

import pytest
import schemathesis
from api_kit import api_routes, fill, values_for
from contract_kit import template_of
from django.core.wsgi import get_wsgi_application
from django.db import transaction
from factories import make_member, make_project, make_user, now
from hypothesis import HealthCheck, Phase, given, settings
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
FEW, MANY = 3, 200


@pytest.fixture
def n_examples(request):
    return MANY if request.config.getoption("--long") else FEW


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


def headers_of(user, scope):
    made = services.create_token(user=user, name="random", now=now(), scope=scope)
    return {"Authorization": f"Bearer {made.secret}"}


def try_out(operation, values, headers, mode, n_examples):
    """Send requests of one operation; what each has changed is taken back."""

    @settings(
        max_examples=n_examples,
        deadline=None,
        database=None,
        derandomize=n_examples == FEW,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode, path_parameters=values))
    def send(case):
        with transaction.atomic():
            case.call_and_validate(headers=headers, checks=CHECKS)
            transaction.set_rollback(True)

    send()


@pytest.mark.parametrize("caller", CALLERS)
def test_whatever_is_sent_gets_an_answer_the_schema_knows(caller, world, n_examples):
    project, users = world
    scope = Scope.READ if caller == "reading" else Scope.MANAGE
    headers = headers_of(users[caller], scope)
    owner = users["lead" if caller == "stranger" else caller]
    schema = schemathesis.openapi.from_dict(api_schema())
    schema.app = get_wsgi_application()
    n_tried = 0
    for route in api_routes():
        methods = schema[template_of(f"api/v1/{route.pattern}")]
        for method in methods:
            # What stands in the address is made anew for each method, and taken back.
            with transaction.atomic():
                values = values_for(route, owner, project)
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    try_out(methods[method], values, headers, mode, n_examples)
                    n_tried += 1
                transaction.set_rollback(True)

    assert n_tried >= 2 * len(api_routes())
