from django.apps import AppConfig
from django.contrib.admin import apps as admin


class AccountsConfig(AppConfig):
    name = "accounts"
    default = True


class PeopleConfig(admin.AdminConfig):
    """Django's admin, for people and projects alone, and for admins alone."""

    default = False
    default_site = "accounts.people.PeopleSite"
