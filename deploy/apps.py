from django.apps import AppConfig


class DeployConfig(AppConfig):
    name = "deploy"

    def ready(self) -> None:
        from metadata.signals import machine_called

        from .calls import take

        machine_called.connect(take, dispatch_uid="deploy.calls.take")
