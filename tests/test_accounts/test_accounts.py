from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse
from factories import HOUR, make_member, make_project, make_user, now
from rest_framework.test import APIClient

from annotator.accounts import services
from annotator.accounts.models import ApiToken, Membership, Role, User

pytestmark = pytest.mark.django_db


def test_a_token_signs_a_program_in_until_it_is_revoked_or_expires():
    user = make_user()
    created = services.create_token(user=user, name="script", now=now(), lifetime=HOUR)
    client = APIClient(headers={"Authorization": f"Bearer {created.secret}"})

    assert client.get("/api/v1/me/").json()["username"] == user.username

    assert services.find_token(secret=created.secret, now=now() + 2 * HOUR) is None
    token = ApiToken.objects.get()
    assert created.secret not in (token.secret_hash, token.prefix)
    services.revoke_token(token=token, now=now(), actor=user)
    assert client.get("/api/v1/me/").status_code == 401


def test_create_token_prints_a_working_token_and_names_the_users_there_are(capsys):
    make_user("ada")

    call_command("create_token", "ada")

    secret = capsys.readouterr().out.strip()
    assert services.find_token(secret=secret, now=now())
    with pytest.raises(CommandError, match="ada"):
        call_command("create_token", "nobody")


def test_the_first_admin_gets_a_random_password_once(capsys):
    call_command("ensure_admin")
    printed = capsys.readouterr().out
    call_command("ensure_admin")

    password = printed.split("ADMIN_PASSWORD=")[1].strip()
    assert len(password) >= 12
    assert User.objects.get().check_password(password)
    assert capsys.readouterr().out == ""


def test_an_invitation_makes_a_new_person_a_member_once(client):
    project = make_project()
    lead = make_member(project, Role.LEAD)
    made = services.invite(project_id=project.pk, role=Role.REVIEWER, actor=lead, now=now())
    where = reverse("invitation", args=[made.secret])

    assert client.get(where).status_code == 200
    weak = client.post(where, {"username": "eve", "password": "12345"})
    joined = client.post(where, {"username": "eve", "password": "tulips in the rain"})

    assert b"too short" in weak.content
    assert joined.status_code == 302
    assert Membership.objects.get(user__username="eve").role == Role.REVIEWER
    client.logout()
    assert client.get(where).status_code == 410


def test_an_invitation_never_lowers_a_role():
    project = make_project()
    lead = make_member(project, Role.LEAD)
    made = services.invite(project_id=project.pk, role=Role.ANNOTATOR, actor=lead, now=now())

    services.accept_invitation(secret=made.secret, user=lead, now=now())

    assert Membership.objects.get(user=lead).role == Role.LEAD


def test_an_expired_or_revoked_invitation_cannot_be_used():
    project = make_project()
    lead, guest = make_member(project, Role.LEAD), make_user()
    made = services.invite(project_id=project.pk, role=Role.ANNOTATOR, actor=lead, now=now())

    with pytest.raises(services.InvitationInvalidError):
        services.accept_invitation(secret=made.secret, user=guest, now=now() + timedelta(days=8))

    services.revoke_invitation(invitation=project.invitations.get(), actor=lead, now=now())
    with pytest.raises(services.InvitationInvalidError):
        services.accept_invitation(secret=made.secret, user=guest, now=now())


def test_the_only_lead_cannot_leave_or_step_down():
    lead = make_user()
    project = make_project(lead=lead)

    with pytest.raises(services.LastLeadError):
        services.set_role(project_id=project.pk, user=lead, role=Role.ANNOTATOR, actor=lead)
    with pytest.raises(services.LastLeadError):
        services.remove_member(project_id=project.pk, user=lead, actor=lead)

    other = make_member(project, Role.LEAD)
    services.remove_member(project_id=project.pk, user=lead, actor=other)
    assert not Membership.objects.filter(user=lead).exists()


def test_guessing_passwords_is_stopped_after_ten_tries(client):
    make_user("ada")
    where = reverse("login")

    for _ in range(10):
        client.post(where, {"username": "ada", "password": "wrong"})
    right = client.post(where, {"username": "ada", "password": "correct horse"})
    other = client.post(where, {"username": "bob", "password": "wrong"})

    assert b"Too many attempts" in right.content
    assert b"Too many attempts" not in other.content


PAGES = ["images", "progress", "queue_settings", "people", "project_settings", "label"]


def test_every_page_answers_for_a_lead_and_hides_from_strangers(client):
    lead, stranger = make_user(), make_user()
    project = make_project(lead=lead)

    for name in PAGES:
        client.force_login(lead)
        assert client.get(reverse(name, args=[project.pk])).status_code == 200, name
        client.force_login(stranger)
        assert client.get(reverse(name, args=[project.pk])).status_code == 404, name
        client.logout()
        assert client.get(reverse(name, args=[project.pk])).status_code == 302, name


@pytest.mark.parametrize("name", ["home", "project_new", "account", "password_change"])
def test_every_page_of_ones_own_answers_and_asks_strangers_to_sign_in(client, name):
    assert client.get(reverse(name)).status_code == 302

    client.force_login(make_user())
    assert client.get(reverse(name)).status_code == 200


def test_the_system_page_is_for_site_admins(client):
    client.force_login(make_user())
    assert client.get(reverse("system")).status_code == 403

    client.force_login(make_user(admin=True))
    assert client.get(reverse("system")).status_code == 200


def test_an_annotator_sees_no_settings_and_no_people_page(client):
    project = make_project()
    client.force_login(make_member(project))

    assert client.get(reverse("people", args=[project.pk])).status_code == 403
    assert client.get(reverse("project_settings", args=[project.pk])).status_code == 403
    assert client.get(reverse("queue_settings", args=[project.pk])).status_code == 200


def test_no_page_changes_anything_when_it_is_only_looked_at(client):
    lead = make_user()
    project = make_project(lead=lead)
    client.force_login(lead)
    before = project.events.count()

    for name in PAGES:
        client.get(reverse(name, args=[project.pk]))

    assert project.events.count() == before
    assert not hasattr(project, "queue_settings")


def test_instructions_cannot_run_scripts(client):
    lead = make_user()
    text = "# Hello\n<script>alert(1)</script> [x](javascript:alert(1)) ![y](data:text/html,z)"
    project = make_project(lead=lead, instructions=text, name="<script>alert(2)</script>")
    client.force_login(lead)

    page = client.get(reverse("label", args=[project.pk])).content.decode()

    assert "<h1>Hello</h1>" in page
    assert "<script>alert" not in page
    assert 'href="javascript:' not in page
    assert 'src="data:' not in page
