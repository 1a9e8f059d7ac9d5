from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from factories import make_images, make_member, make_project, make_ranking

pytestmark = pytest.mark.django_db

true_now = timezone.now


@pytest.mark.xfail(strict=True, reason="leases follow the clock of the web process that asks")
@pytest.mark.parametrize(("first_is_off_by", "second_is_off_by"), [(-1, 0), (0, 1)])
def test_a_web_process_whose_clock_is_an_hour_wrong_takes_no_image_from_anybody(
    client_of, monkeypatch, first_is_off_by, second_is_off_by
):
    project = make_project()
    make_ranking(project, make_images(project, 2))
    first, second = client_of(make_member(project)), client_of(make_member(project))

    def claim(client, hours):
        monkeypatch.setattr(timezone, "now", lambda: true_now() + timedelta(hours=hours))
        answer = client.post(reverse("api:claim", args=[project.pk]), {"n": 1}, "json")
        return answer.json()["leases"][0]

    held = claim(first, first_is_off_by)
    other = claim(second, second_is_off_by)

    assert other["image"]["id"] != held["image"]["id"]
    beat = first.post(reverse("api:heartbeat", args=[project.pk, held["token"]]), {}, "json")
    assert beat.status_code == 200
