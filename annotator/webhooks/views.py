"""The API of webhooks: parse, reach the object, call, answer. Leads only."""

from collections.abc import Iterator
from contextlib import contextmanager

from rest_framework.request import Request
from rest_framework.response import Response

from annotator.accounts import access
from annotator.accounts.access import person_of
from annotator.accounts.models import Role, Scope
from annotator.api.contract import Operation, page_of_many
from annotator.api.paging import PAGED, page_of
from annotator.api.problems import Problem
from annotator.api.views import APIView
from annotator.clock import database_now
from annotator.labeling.views import body_of
from annotator.outbound import RefusedError
from annotator.webhooks import answers, serializers, services
from annotator.webhooks.models import Delivery, Webhook
from annotator.webhooks.presenters import present_delivery, present_webhook

# What is said of an address that is not connected to (annotator.outbound).
ADDRESS_CODES = ("scheme", "not-public", "self", "port", "credentials", "malformed")


class WebhookAPIView(APIView):
    """What all of them share."""

    # Many a receiver is protected by nothing but its address.
    read_scope = Scope.MANAGE


class WebhooksView(WebhookAPIView):
    """The webhooks of a project."""

    parameters = PAGED
    secret_fields = ("secret",)
    in_steps = ("post",)
    contract = {
        "get": Operation(page_of_many(answers.WebhookOut), role=Role.LEAD),
        "post": Operation(
            answers.NewWebhookOut,
            status=201,
            body=serializers.WebhookIn,
            role=Role.LEAD,
            problems=("too-many-webhooks", *ADDRESS_CODES),
        ),
    }

    def get(self, request: Request, project_id: int) -> Response:
        """List them, newest first."""
        access.project_for(person_of(request), project_id, Role.LEAD)
        return page_of(request, Webhook.objects.filter(project=project_id), present_webhook)

    def post(self, request: Request, project_id: int) -> Response:
        """Create one; its secret is in the answer and nowhere else."""
        project = access.project_for(person_of(request), project_id, Role.LEAD)
        body = body_of(request, serializers.WebhookIn)
        with _refusals():
            created = services.create_webhook(
                project=project,
                actor=person_of(request),
                url=body["url"],
                events_wanted=body["events"],
                description=body["description"],
            )
        return Response({**present_webhook(created.webhook), "secret": created.secret}, status=201)


class WebhookView(WebhookAPIView):
    """One webhook."""

    in_steps = ("patch", "delete")
    contract = {
        "get": Operation(answers.WebhookOut, role=Role.LEAD),
        "patch": Operation(
            answers.WebhookOut,
            body=serializers.WebhookPatch,
            role=Role.LEAD,
            problems=ADDRESS_CODES,
        ),
        "delete": Operation(None, status=204, role=Role.LEAD),
    }

    def get(self, request: Request, webhook_id: int) -> Response:
        """Show it."""
        return Response(present_webhook(_webhook(request, webhook_id)))

    def patch(self, request: Request, webhook_id: int) -> Response:
        """Change it; `is_active` switches it off and on."""
        webhook = _webhook(request, webhook_id)
        changes = body_of(request, serializers.WebhookPatch)
        with _refusals():
            changed = services.update_webhook(
                webhook=webhook, actor=person_of(request), changes=changes
            )
        return Response(present_webhook(changed))

    def delete(self, request: Request, webhook_id: int) -> Response:
        """Forget it and its log."""
        services.delete_webhook(webhook=_webhook(request, webhook_id), actor=person_of(request))
        return Response(status=204)


class WebhookRotateView(WebhookAPIView):
    """The secret of a webhook."""

    without_body = ("post",)
    secret_fields = ("secret",)
    contract = {"post": Operation(answers.NewWebhookOut, role=Role.LEAD)}

    def post(self, request: Request, webhook_id: int) -> Response:
        """Make a new one, shown only now; for a day the former one signs as well."""
        webhook = _webhook(request, webhook_id)
        rotated = services.rotate_secret(webhook=webhook, actor=person_of(request))
        return Response({**present_webhook(rotated.webhook), "secret": rotated.secret})


class WebhookTestView(WebhookAPIView):
    """Trying a webhook."""

    without_body = ("post",)
    contract = {
        "post": Operation(
            answers.DeliveryOut, status=202, role=Role.LEAD, problems=("switched-off",)
        ),
    }

    def post(self, request: Request, webhook_id: int) -> Response:
        """Queue a message of kind ``webhook.test``."""
        webhook = _webhook(request, webhook_id)
        with _refusals():
            delivery = services.send_test(webhook=webhook, actor=person_of(request))
        return Response(present_delivery(delivery), status=202)


class DeliveriesView(WebhookAPIView):
    """The log of a webhook."""

    parameters = PAGED
    contract = {"get": Operation(page_of_many(answers.DeliveryOut), role=Role.LEAD)}

    def get(self, request: Request, webhook_id: int) -> Response:
        """List its deliveries with their attempts, newest first."""
        webhook = _webhook(request, webhook_id)
        return page_of(request, webhook.deliveries.prefetch_related("attempts"), present_delivery)


class RedeliverView(WebhookAPIView):
    """Sending a message again."""

    without_body = ("post",)
    contract = {
        "post": Operation(
            answers.DeliveryOut, status=202, role=Role.LEAD, problems=("switched-off",)
        ),
    }

    def post(self, request: Request, delivery_id: int) -> Response:
        """Queue it again under the same ``webhook-id``."""
        delivery = access.object_for(
            person_of(request),
            Delivery.objects.all(),
            project_path="webhook__project",
            at_least=Role.LEAD,
            pk=delivery_id,
        )
        with _refusals():
            queued = services.redeliver(
                delivery=delivery, actor=person_of(request), now=database_now()
            )
        return Response(present_delivery(queued), status=202)


def _webhook(request: Request, webhook_id: int) -> Webhook:
    return access.object_for(
        person_of(request), Webhook.objects.all(), at_least=Role.LEAD, pk=webhook_id
    )


@contextmanager
def _refusals() -> Iterator[None]:
    """Answer what a service refuses.

    Raises:
        Problem: 422 for an address, 409 for the rest.
    """
    try:
        yield
    except RefusedError as error:
        pointer = {"pointer": "/url", "code": error.code, "message": error.reason}
        raise Problem(422, error.code, error.reason, [pointer]) from error
    except services.TooManyWebhooksError as error:
        raise Problem(409, "too-many-webhooks", str(error)) from error
    except services.SwitchedOffError as error:
        raise Problem(409, "switched-off", str(error)) from error
