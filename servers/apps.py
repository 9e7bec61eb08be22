from django.apps import AppConfig
from django.urls import register_converter

from .converters import HostName


class ServersConfig(AppConfig):
    name = "servers"

    def ready(self) -> None:
        register_converter(HostName, "hostname")
