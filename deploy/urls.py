"""The pages about servers and their installs."""

from django.urls import path

from deploy.pages import board, install, reinstall, servers

urlpatterns = [
    path("", servers.servers, name="servers"),
    path("servers/<hostname:name>/", servers.server, name="server"),
    path("servers/<hostname:name>/reinstall/", reinstall.reinstall, name="reinstall"),
    path("installs/<uuid:uuid>/", install.install_page, name="install"),
    path("installs/<uuid:uuid>/cancel/", install.cancel, name="install-cancel"),
    path("installs/<uuid:uuid>/retry/", install.retry, name="install-retry"),
    path("installs/<uuid:uuid>/log/<slug:step>/<int:attempt>/", install.log_page, name="install-lines"),
    path("installs/<uuid:uuid>/log/<slug:step>/<int:attempt>.txt", install.log_download, name="install-log"),
    path("board/", board.board, name="board"),
]
