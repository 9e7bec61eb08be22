"""Every URL of Landfall: the pages of people, and what machines call."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("accounts.urls")),
    path("", include("servers.urls")),
    path("", include("images.urls")),
    path("", include("metadata.urls")),
    path("", include("deploy.urls")),
    path("people/", admin.site.urls),
]

handler500 = "config.away.broken"
