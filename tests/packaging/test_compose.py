"""The compose file and the container's recipe: what they name is there, and agrees with the rest."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from django.test import Client

from tests.packaging.conftest import ROOT

pytestmark = pytest.mark.daemons

PACKAGING = ROOT / "packaging"
RECIPE = (PACKAGING / "Containerfile").read_text()
READ_YAML = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))"


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """The file as compose understands it, beside the files that an administrator makes. Compose checks its schema."""
    folder = tmp_path_factory.mktemp("compose") / "packaging"
    shutil.copytree(PACKAGING, folder)
    shutil.copy(folder / "landfall.env.example", folder / "landfall.env")
    (folder / "database.password").write_text("change-me\n")
    compose = ["docker-compose", "--file", str(folder / "compose.yaml"), "--profile", "tools", "config"]
    done = subprocess.run(compose, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return plain(done.stdout)


def plain(text: str) -> Mapping[str, Any]:
    """YAML as values; Debian's Python reads it."""
    done = subprocess.run(["/usr/bin/python3", "-c", READ_YAML], input=text, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def written() -> Mapping[str, Any]:
    """The services as they stand in the file."""
    return dict(plain((PACKAGING / "compose.yaml").read_text())["services"])


def test_compose_accepts_the_file_and_knows_its_services(resolved: Mapping[str, Any]) -> None:
    assert set(resolved["services"]) == {"database", "migrate", "web", "worker", "nginx"}


def test_every_file_and_volume_that_is_named_is_there(resolved: Mapping[str, Any]) -> None:
    made_by_hand = {"landfall.env", "database.password", "./tls"}
    for name, service in written().items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            known = source in made_by_hand or source in resolved["volumes"] or (PACKAGING / source).exists()
            assert known, (name, source)
        assert set(service.get("secrets", [])) <= set(resolved["secrets"])
        assert set(service.get("depends_on", [])) <= set(resolved["services"])
    ignored = (ROOT / ".gitignore").read_text()
    assert all(f"/packaging/{name.removeprefix('./').rstrip('/')}" in ignored for name in made_by_hand)


def test_only_nginx_can_be_reached_from_outside(resolved: Mapping[str, Any]) -> None:
    assert [name for name, service in resolved["services"].items() if service.get("ports")] == ["nginx"]


@pytest.mark.django_db(transaction=True)
def test_health_is_asked_where_landfall_tells_it(resolved: Mapping[str, Any]) -> None:
    test = " ".join(resolved["services"]["web"]["healthcheck"]["test"])
    found = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", test)
    assert found
    assert found[1] in resolved["services"]["web"]["command"]
    assert Client().get(found[2]).status_code == 200


def test_the_health_check_is_a_program_that_runs() -> None:
    _, python, option, program = written()["web"]["healthcheck"]["test"]
    assert (python, option) == ("python", "-c")
    compile(program, "healthcheck", "exec")


def test_nginx_in_its_container_finds_the_web_process(resolved: Mapping[str, Any]) -> None:
    upstream = (PACKAGING / "nginx" / "compose-upstream.conf").read_text()
    host, port = re.findall(r"server (\w+):(\d+);", upstream)[0]
    assert host in resolved["services"]
    assert port in resolved["services"][host]["command"]
    mounted = {volume.split(":")[1] for volume in written()["nginx"]["volumes"]}
    config = (PACKAGING / "nginx" / "landfall.conf").read_text()
    for needed in re.findall(r"(?:include|ssl_certificate(?:_key)?) (\S+);", config):
        assert any(needed == target or needed.startswith(f"{target}/") for target in mounted), needed


def test_a_worker_gets_the_time_that_it_needs_to_hand_over(resolved: Mapping[str, Any]) -> None:
    unit = (PACKAGING / "systemd" / "landfall-worker@.service").read_text()
    assert "TimeoutStopSec=90" in unit
    assert resolved["services"]["worker"]["stop_grace_period"] in ("90s", "1m30s")


def instructions() -> Iterator[tuple[str, str]]:
    """The recipe's instructions and what follows each."""
    for line in re.sub(r"\\\n\s*", " ", RECIPE).splitlines():
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            yield word, rest


def test_what_the_recipe_copies_is_there_and_is_sent_to_the_builder() -> None:
    sent = [line[1:] for line in (PACKAGING / "Containerfile.dockerignore").read_text().splitlines() if line[:1] == "!"]
    copied = [name for word, rest in instructions() if word == "COPY" for name in rest.split()[:-1]]
    assert sorted(copied) == sorted(sent)
    assert all((ROOT / name).exists() for name in copied)


def test_every_package_of_ours_that_landfall_imports_is_copied() -> None:
    copied = {name for word, rest in instructions() if word == "COPY" for name in rest.split()[:-1]}
    layers = {"accounts", "servers", "images", "metadata", "deploy", "config"}
    imported = {
        found
        for layer in layers
        for path in (ROOT / layer).rglob("*.py")
        for found in re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
        if (ROOT / found).is_dir() and (ROOT / found / "__init__.py").exists()
    }
    assert imported <= copied


def test_the_containers_commands_are_landfalls() -> None:
    commands = {path.stem for path in ROOT.glob("*/management/commands/*.py")} | {"migrate"}
    told = [service.get("command") for service in written().values()]
    started = {command[0] for command in told if isinstance(command, list)}
    assert started == {"migrate", "serve", "worker"}
    assert started <= commands
    default = next(rest for word, rest in instructions() if word == "CMD")
    assert json.loads(default)[0] in commands


def test_it_runs_as_nobody_in_particular_and_keeps_no_secret() -> None:
    users = [rest for word, rest in instructions() if word == "USER"]
    assert users == ["landfall"]
    secret = re.compile(r"secret|password|seal_keys", re.IGNORECASE)
    assert not [rest for word, rest in instructions() if word in ("ENV", "ARG") and secret.search(rest)]
