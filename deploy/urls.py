"""The pages about servers and their installs."""

from django.urls import path

from deploy.pages import acts, board, failures, install, reinstall, servers, webhooks, workers

urlpatterns = [
    path("", servers.servers, name="servers"),
    path("servers/<hostname:name>/", servers.server, name="server"),
    path("servers/<hostname:name>/reinstall/", reinstall.reinstall, name="reinstall"),
    path("servers/<hostname:name>/reinstall/layout/", reinstall.custom_layout, name="custom-layout"),
    path("installs/<uuid:uuid>/", install.install_page, name="install"),
    path("installs/<uuid:uuid>/cancel/", acts.cancel, name="install-cancel"),
    path("installs/<uuid:uuid>/retry/", acts.retry, name="install-retry"),
    path("installs/<uuid:uuid>/hold/", acts.hold, name="install-hold"),
    path("installs/<uuid:uuid>/release/", acts.release, name="install-release"),
    path("installs/<uuid:uuid>/reset/", acts.force_reset, name="install-reset"),
    path("installs/<uuid:uuid>/passphrase/", acts.passphrase, name="install-passphrase"),
    path("installs/<uuid:uuid>/log/<slug:step>/<int:attempt>/", install.log_page, name="install-lines"),
    path("installs/<uuid:uuid>/log/<slug:step>/<int:attempt>.txt", install.log_download, name="install-log"),
    path("board/", board.board, name="board"),
    path("errors/", failures.failures, name="errors"),
    path("workers/", workers.workers, name="workers"),
    path("projects/<slug:slug>/webhooks/", webhooks.webhooks, name="webhooks"),
    path("projects/<slug:slug>/webhooks/<int:pk>/", webhooks.webhook, name="webhook"),
    path("projects/<slug:slug>/webhooks/<int:pk>/test/", webhooks.ping, name="webhook-ping"),
    path("projects/<slug:slug>/webhooks/<int:pk>/secret/", webhooks.secret, name="webhook-secret"),
    path("projects/<slug:slug>/webhooks/<int:pk>/switch/", webhooks.switch, name="webhook-switch"),
    path("projects/<slug:slug>/webhooks/<int:pk>/delete/", webhooks.delete, name="webhook-delete"),
    path("projects/<slug:slug>/webhooks/<int:pk>/deliveries/<uuid:uuid>/again/", webhooks.again, name="delivery-again"),
]
