"""API routes of projects."""

from django.urls import path

from annotator.labeling import views

urlpatterns = [
    path("projects/", views.ProjectsView.as_view(), name="projects"),
    path("projects/archived/", views.ArchivedProjectsView.as_view(), name="archived_projects"),
    path(
        "projects/<id:project_id>/restore/",
        views.ProjectRestoreView.as_view(),
        name="project_restore",
    ),
    path("projects/<id:project_id>/", views.ProjectView.as_view(), name="project"),
    path("projects/<id:project_id>/classes/", views.ClassesView.as_view(), name="classes"),
    path(
        "projects/<id:project_id>/classes/<id:class_id>/",
        views.ClassView.as_view(),
        name="class",
    ),
    path(
        "projects/<id:project_id>/classes/deleted/",
        views.DeletedClassesView.as_view(),
        name="deleted_classes",
    ),
    path(
        "projects/<id:project_id>/classes/<id:class_id>/restore/",
        views.ClassRestoreView.as_view(),
        name="class_restore",
    ),
    path(
        "projects/<id:project_id>/images/<id:image_id>/restore/",
        views.ImageRestoreView.as_view(),
        name="image_restore",
    ),
    path("projects/<id:project_id>/members/", views.MembersView.as_view(), name="members"),
    path(
        "projects/<id:project_id>/members/<id:user_id>/",
        views.MemberView.as_view(),
        name="member",
    ),
    path(
        "projects/<id:project_id>/invitations/",
        views.InvitationsView.as_view(),
        name="invitations",
    ),
    path(
        "projects/<id:project_id>/invitations/<id:invitation_id>/",
        views.InvitationView.as_view(),
        name="invitation_revoke",
    ),
    path("projects/<id:project_id>/events/", views.EventsView.as_view(), name="events"),
]
