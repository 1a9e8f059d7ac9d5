"""API routes of projects."""

from django.urls import path

from annotator.labeling import views

urlpatterns = [
    path("projects/", views.ProjectsView.as_view(), name="projects"),
    path("projects/<int:project_id>/", views.ProjectView.as_view(), name="project"),
    path("projects/<int:project_id>/classes/", views.ClassesView.as_view(), name="classes"),
    path(
        "projects/<int:project_id>/classes/<int:class_id>/",
        views.ClassView.as_view(),
        name="class",
    ),
    path(
        "projects/<int:project_id>/images/<int:image_id>/", views.ImageView.as_view(), name="image"
    ),
    path("projects/<int:project_id>/members/", views.MembersView.as_view(), name="members"),
    path(
        "projects/<int:project_id>/members/<int:user_id>/",
        views.MemberView.as_view(),
        name="member",
    ),
    path(
        "projects/<int:project_id>/invitations/",
        views.InvitationsView.as_view(),
        name="invitations",
    ),
    path(
        "projects/<int:project_id>/invitations/<int:invitation_id>/",
        views.InvitationView.as_view(),
        name="invitation_revoke",
    ),
    path("projects/<int:project_id>/events/", views.EventsView.as_view(), name="events"),
]
