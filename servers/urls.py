"""The pages of the inventory. A server's own page is in `deploy`, because it shows installs."""

from django.urls import path

from servers import views

urlpatterns = [
    path("inventory/", views.inventory, name="inventory"),
    path("inventory/add/", views.server_add, name="server-add"),
    path("inventory/<hostname:name>/", views.server_edit, name="server-edit"),
]
