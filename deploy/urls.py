"""The pages about servers and their installs."""

from django.urls import path

from deploy.pages import servers

urlpatterns = [
    path("", servers.servers, name="servers"),
    path("servers/<str:name>/", servers.server, name="server"),
]
