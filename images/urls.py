"""The pages of the catalogue and of the licences."""

from django.urls import path

from images import views

urlpatterns = [
    path("images/", views.images, name="images"),
    path("images/add/", views.image_add, name="image-add"),
    path("images/imports/<int:pk>/", views.image_import, name="image-import"),
    path("images/<int:pk>/", views.image, name="image"),
    path("images/<int:pk>/edit/", views.image_edit, name="image-edit"),
    path("images/<int:pk>/state/", views.image_state, name="image-state"),
    path("images/<int:pk>/publish/", views.image_publish, name="image-publish"),
    path("licences/", views.licences, name="licences"),
    path("licences/add/", views.licence_add, name="licence-add"),
    path("licences/<int:pk>/", views.licence_edit, name="licence-edit"),
]
