"""The addresses that machines call; rescue system and phone-home unit know them by heart."""

from django.urls import path, re_path

from metadata import views

urlpatterns = [
    path("boot/files/<str:name>", views.boot_file, name="boot-file"),
    path("boot/<str:mac>", views.boot, name="boot"),
    path("machine/key", views.key, name="machine-key"),
    path("machine/ready", views.ready, name="machine-ready"),
    path("machine/phone-home", views.phone_home, name="machine-phone-home"),
    re_path(r"^machine/images/(?P<sha256>[0-9a-f]{64})$", views.image, name="machine-image"),
]
