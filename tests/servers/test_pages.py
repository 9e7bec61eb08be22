"""The list of servers, a server's page, and the inventory."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import Project, Role
from deploy import journal
from deploy.events import Kind
from deploy.models import Install
from deploy.pages import fleet
from deploy.steps import steps_for
from servers.models import Nic, Server
from servers.storage.draw import drawing, drawing_of
from servers.storage.layout import raid1
from servers.templatetags.disks import disks
from tests.builders import GIB, make_disk, make_image, make_install, make_project, make_server, make_user
from tests.pages import browser, forbidden_parts, queries, text

pytestmark = pytest.mark.django_db

FAILURE = {
    "code": "rescue-silent", "blame": "hardware", "message": "It never called.", "fix": "Look at its console.",
    "command": "", "exit_status": None, "tail": [],
}  # fmt: skip


def run(install: Install, until: str = "", ends: Kind | None = None) -> Install:
    """The install after all steps, or up to the start of `until`, where it may end."""
    steps = steps_for(licensed=False)
    journal.append(install, Kind.PLANNED, {"steps": list(steps)})
    for step in steps:
        attempt = {"step": step, "attempt": 1}
        journal.append(install, Kind.STEP_STARTED, attempt)
        if step == until:
            break
        result = {"ssh": "debian@192.0.2.14", "port": 2222, "host_keys": ["SHA256:abc"]} if step == "verify" else {}
        journal.append(install, Kind.STEP_SUCCEEDED, {**attempt, "result": result})
    if ends is Kind.STEP_FAILED:
        journal.append(install, ends, {"step": until, "attempt": 1, "failure": FAILURE})
    if ends is Kind.CANCELLED:
        journal.append(install, Kind.CANCEL_REQUESTED, {"by": "carol"})
        journal.append(install, ends, {})
    install.refresh_from_db()
    return install


def row_of(server: Server) -> fleet.ServerRow:
    (row,) = fleet.rows_of(fleet.with_installs(Server.objects.filter(pk=server.pk)).prefetch_related("disks"))
    return row


# --- who sees what


def test_a_customer_sees_the_servers_of_the_own_projects_and_no_others() -> None:
    mine, other = make_project("Acme"), make_project("Blue")
    make_server(mine, name="web-1.acme.example")
    make_server(other, name="web-2.blue.example")
    client = browser(make_user(projects=[mine]))
    page = text(client, "/")
    assert "web-1.acme.example" in page
    assert "web-2.blue.example" not in page
    text(client, "/servers/web-1.acme.example/")
    text(client, "/servers/web-2.blue.example/", 404)
    assert "web-2.blue.example" not in text(client, "/?q=web-2")
    assert "web-2.blue.example" not in text(client, "/?project=blue")


def test_ops_see_every_server_and_the_inventory_is_for_admins() -> None:
    make_server(name="web-1.example.net")
    urls = ("/inventory/", "/inventory/add/", "/inventory/web-1.example.net/")
    for role, status in ((Role.CUSTOMER, 404), (Role.OPS, 404), (Role.ADMIN, 200)):
        client = browser(make_user(role))
        for url in urls:
            text(client, url, status)
        assert client.post("/inventory/add/", {}).status_code == (400 if role is Role.ADMIN else 404)
    text(browser(make_user(Role.OPS)), "/servers/web-1.example.net/")


def test_the_bmc_is_not_shown_to_customers() -> None:
    server = make_server(make_project("Acme"), bmc_url="https://bmc.example.net")
    url = f"/servers/{server.name}/"
    assert "bmc.example.net" not in text(browser(make_user(projects=[server.project])), url)
    assert "bmc.example.net" in text(browser(make_user(Role.OPS)), url)


def test_whoever_is_not_logged_in_sees_nothing() -> None:
    server = make_server()
    for url in ("/", f"/servers/{server.name}/", "/inventory/"):
        assert browser().get(url)["Location"].startswith("/login/?next=")


# --- the list


def test_an_empty_list_says_what_to_do_first() -> None:
    assert "You belong to no project yet" in text(browser(make_user()), "/")
    assert "Add an SSH key" in text(browser(make_user(projects=[make_project()])), "/")
    assert "Add a server" in text(browser(make_user(Role.ADMIN)), "/")


def test_a_server_is_found_by_name_address_serial_and_mac() -> None:
    project = make_project()
    make_server(project, name="web-1.example.net", address="192.0.2.77", serial="ABC123", mac="52:54:00:aa:bb:cc")
    make_server(project, name="db-1.example.net", address="192.0.2.78", serial="XYZ789", mac="52:54:00:aa:bb:dd")
    client = browser(make_user(Role.OPS))
    for q in ("web-1", "2.77", "abc123", "52-54-00-AA-BB-CC", "web 192"):
        page = text(client, f"/?q={q}")
        assert "web-1.example.net" in page, q
        assert "db-1.example.net" not in page, q
    assert "No server is like that" in text(client, "/?q=%00%27%3Cscript%3E")
    assert "web-1.example.net" in text(client, "/?q=%00")
    text(client, "/servers/web%00/", 404)
    assert "No server is like that" in text(client, "/?status=nonsense")
    assert "web-1.example.net" in text(client, "/?page=999")
    assert "web-1.example.net" in text(client, "/?page=x")


def test_while_one_types_only_what_is_found_is_sent() -> None:
    make_server(name="web-1.example.net")
    client = browser(make_user(Role.ADMIN))
    for url in ("/", "/inventory/"):
        whole = client.get(f"{url}?q=web")
        part = client.get(f"{url}?q=web", headers={"HX-Request": "true"})
        assert "<html" in whole.content.decode()
        assert "<html" not in part.content.decode()
        assert "web-1.example.net" in part.content.decode()
        assert part.content.decode().count('id="count" hx-swap-oob="true"') == 1
        assert "hx-swap-oob" not in whole.content.decode()
        assert "HX-Request" in part["Vary"]
        assert "HX-Request" in whole["Vary"]


def test_a_server_is_found_by_the_status_of_its_latest_install() -> None:
    project = make_project()
    names = {status: f"{status}.example.net" for status in ("new", "succeeded", "failed", "running")}
    servers = {status: make_server(project, name=name) for status, name in names.items()}
    run(make_install(servers["succeeded"]))
    run(make_install(servers["failed"]), "rescue", Kind.STEP_FAILED)
    run(make_install(servers["running"]), "copy")
    client = browser(make_user(Role.OPS))
    for status, name in names.items():
        page = text(client, f"/?status={status}")
        assert [one for one in names.values() if one in page] == [name]


def test_what_runs_on_a_server_is_what_its_last_successful_install_put_there() -> None:
    server = make_server(disks=2)
    assert (row_of(server).status, row_of(server).system) == ("new", None)
    first = run(make_install(server))
    assert row_of(server).system == first
    harmless = run(make_install(server), "rescue", Kind.STEP_FAILED)
    assert (row_of(server).latest, row_of(server).system) == (harmless, first)
    assert not row_of(server).erased


@pytest.mark.parametrize("ends", [Kind.STEP_FAILED, Kind.CANCELLED, None])
def test_once_the_disks_were_wiped_nothing_runs_until_an_install_succeeds(ends: Kind | None) -> None:
    server = make_server(disks=2)
    run(make_install(server))
    broken = run(make_install(server), "copy", ends)
    row = row_of(server)
    assert (row.erased, row.system, row.live) == (True, None, None if ends else broken)
    client = browser(make_user(Role.OPS))
    page = text(client, f"/servers/{server.name}/")
    assert ("There is no operating system on this server" in page) is bool(ends)
    assert "debian@192.0.2.14" not in page


# --- a server's page


def test_a_server_says_how_to_log_in_and_what_its_disks_hold() -> None:
    server = make_server(disks=2)
    run(make_install(server, layout=raid1()))
    page = text(browser(make_user(projects=[server.project])), f"/servers/{server.name}/")
    assert "ssh debian@192.0.2.14 -p 2222" in page
    assert "SHA256:abc" in page
    assert "RAID1 root" in page
    assert server.nics.get().mac in page


def test_a_server_that_is_being_installed_leads_to_the_install_and_not_to_another_one() -> None:
    server = make_server(disks=2)
    install = run(make_install(server), "copy")
    page = text(browser(make_user(Role.OPS)), f"/servers/{server.name}/")
    assert install.get_absolute_url() in page
    assert "/reinstall/" not in page


def test_a_failed_attempt_and_a_stopped_one_look_different_in_the_bars() -> None:
    server = make_server(disks=2)
    run(make_install(server), "rescue", Kind.STEP_FAILED)
    run(make_install(server), "rescue", Kind.CANCELLED)
    installs = fleet.last_installs(server)
    bars = fleet.bars(installs, fleet.histories(installs), timezone.now())
    assert [bar.stretches[-1].ended for bar in bars] == ["stopped", "failed"]


def test_bars_are_to_one_scale_and_an_open_step_lasts_until_now() -> None:
    server = make_server(disks=2)
    install = run(make_install(server), "rescue")
    (bar,) = fleet.bars([install], fleet.histories([install]), timezone.now() + timedelta(minutes=5))
    assert 300 <= bar.seconds < 330
    assert [(one.x, one.width) for one in bar.stretches] == [("0.00%", "100.00%")]


def test_a_server_without_disks_or_installs_has_a_page() -> None:
    server = make_server(disks=0, facts_at=None, vendor="", cpus=0, memory_bytes=0)
    page = text(browser(make_user(Role.ADMIN)), f"/servers/{server.name}/")
    assert "Not seen yet" in page
    assert "Never installed by Landfall" in page


def test_what_a_machine_says_of_itself_is_escaped() -> None:
    disk = make_disk(model="<script>alert(1)</script>", serial='"><img src=x onerror=alert(1)>')
    server = make_server(disks=[disk], product="<b>R6515</b>")
    for url in ("/", f"/servers/{server.name}/"):
        page = text(browser(make_user(Role.ADMIN)), url)
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "<b>R6515" not in page


def test_the_queries_of_a_page_do_not_grow_with_its_rows() -> None:
    project = make_project()
    client = browser(make_user(Role.ADMIN, projects=[project]))
    server = make_server(project, disks=2)
    run(make_install(server))
    urls = ("/", f"/servers/{server.name}/", "/inventory/", f"/inventory/{server.name}/")
    before = [queries(client, url) for url in urls]
    for _ in range(3):
        run(make_install(server))
        run(make_install(make_server(project, disks=2)))
        Nic.objects.create(server=server, mac=f"52:54:00:ff:00:{Nic.objects.count():02x}")
    assert [queries(client, url) for url in urls[:3]] == before[:3]
    assert before[0] <= 10
    assert before[1] <= 12


def test_no_page_needs_what_the_content_security_policy_forbids() -> None:
    server = make_server(disks=2)
    run(make_install(server))
    client = browser(make_user(Role.ADMIN))
    for url in ("/", f"/servers/{server.name}/", "/inventory/", "/inventory/add/", f"/inventory/{server.name}/"):
        response = client.get(url)
        assert forbidden_parts(response.content.decode()) == []
        assert "style-src 'self'" in response["Content-Security-Policy"]


# --- the drawing


def test_a_drawing_fills_its_width_and_says_the_same_as_a_table() -> None:
    server = make_server(disks=[make_disk("/dev/sda", size=500 * GIB), make_disk("/dev/sdb", size=1000 * GIB)])
    plan = make_install(server, layout=raid1()).plan()
    context = disks(drawing(plan))
    for row in context["rows"]:
        last = row.shapes[-1]
        assert float(last.x[:-1]) + float(last.width[:-1]) == pytest.approx(100, abs=0.02)
    small, large = (float(row.width[:-1]) for row in context["rows"])
    assert small == pytest.approx(large / 2, abs=1)
    assert len(context["table"]) == sum(len(row.shapes) for row in context["rows"])


def test_members_of_an_array_share_their_colour_and_name() -> None:
    plan = make_install(make_server(disks=2), layout=raid1()).plan()
    roots = [shape for row in disks(drawing(plan))["rows"] for shape in row.shapes if shape.segment.mount == "/"]
    assert len(roots) == 2
    assert {(shape.segment.array, shape.classes) for shape in roots} == {("RAID1 root", "seg-filesystem tie-1")}


def test_a_kept_disk_says_that_it_is_kept_and_is_drawn_grey() -> None:
    server = make_server(disks=[make_disk("/dev/sda", serial="KEEPME"), make_disk("/dev/sdb")])
    kept, other = disks(drawing_of(server.facts(), keep=["KEEPME"]))["rows"]
    assert kept.kept == "kept, will not be touched"
    assert {shape.classes for shape in kept.shapes} == {"seg-kept"}
    assert other.kept == ""
    assert "kept, will not be touched" in kept.spoken


# --- the inventory's forms


def good(owner: Project, **changes: Any) -> dict[str, Any]:
    """A server's form as it would be sent, one card and one disk in it."""
    return {
        "name": "web-9.example.net", "project": owner.pk, "address": "192.0.2.9", "ssh_port": "22",
        "firmware": "uefi", "serial": "SN9", "power_driver": "redfish", "bmc_url": "https://192.0.2.40",
        "bmc_system": "", "bmc_user": "root", "new_bmc_password": "calvin", "bmc_verify_tls": "on",
        "nics-TOTAL_FORMS": "2", "nics-INITIAL_FORMS": "0", "nics-MIN_NUM_FORMS": "1", "nics-MAX_NUM_FORMS": "32",
        "nics-0-mac": " 52-54-00-AB-CD-EF ", "nics-0-name": "eno1", "nics-0-address_cidr": "", "nics-0-gateway": "",
        "nics-0-nameservers": "", "nics-1-mac": "",
        "disks-TOTAL_FORMS": "2", "disks-INITIAL_FORMS": "0", "disks-MIN_NUM_FORMS": "0", "disks-MAX_NUM_FORMS": "64",
        "disks-0-path": "sda", "disks-0-size": "960 GB", "disks-0-serial": "S1", "disks-0-wwn": "", "disks-1-path": "",
        **changes,
    }  # fmt: skip


def test_a_server_is_entered_with_its_cards_and_disks() -> None:
    client, project = browser(make_user(Role.ADMIN)), make_project()
    done = client.post("/inventory/add/", good(project))
    assert done["Location"] == "/servers/web-9.example.net/"
    server = Server.objects.get()
    assert server.bmc_password.reveal() == "calvin"
    assert [(nic.mac, nic.name) for nic in server.nics.all()] == [("52:54:00:ab:cd:ef", "eno1")]
    (disk,) = server.facts().disks
    assert (disk.path, disk.serial) == ("/dev/sda", "S1")
    assert 960 * 10**9 - 4096 < disk.size <= 960 * 10**9
    text(client, done["Location"])


@pytest.mark.parametrize(
    "field, value",
    [
        ("name", ""), ("name", "bad_name"), ("name", "-web.example"), ("name", "192.0.2.1"),
        ("name", "a" * 64 + ".example"), ("name", "../../etc"), ("name", "web\n.example"), ("name", "wéb.example"),
        ("project", ""), ("project", "9999"), ("address", "not an address"), ("address", "300.1.1.1"),
        ("address", "<b>"), ("ssh_port", "0"), ("ssh_port", "70000"), ("ssh_port", "ssh"), ("firmware", "coreboot"),
        ("firmware", ""), ("power_driver", "magic"), ("bmc_url", "ftp://192.0.2.1"),
        ("bmc_url", "https://root:calvin@192.0.2.1"), ("bmc_url", "javascript:alert(1)"), ("bmc_url", ""),
        ("bmc_user", ""), ("new_bmc_password", ""), ("bmc_system", "a b"), ("bmc_system", "../x"),
        ("bmc_system", "x" * 300), ("nics-0-name", "eno 1"), ("nics-0-name", "../eno1"), ("ssh_port", "-1"),
        ("nics-0-mac", ""), ("nics-0-mac", "52:54:00"), ("nics-0-mac", "01:00:5e:00:00:01"), ("nics-0-mac", "zz" * 6),
        ("nics-0-address_cidr", "192.0.2.9"), ("nics-0-address_cidr", "192.0.2.9/64"),
        ("nics-0-gateway", "192.0.2.1"), ("nics-0-gateway", "x"), ("nics-0-nameservers", "dns.example"),
        ("nics-1-mac", "52:54:00:ab:cd:ef"), ("nics-TOTAL_FORMS", "x"), ("nics-TOTAL_FORMS", "100000"),
        ("disks-0-size", "huge"), ("disks-0-size", "1 KB"), ("disks-0-size", "-5 GB"),
        ("disks-0-path", "/dev/../etc"), ("disks-1-path", "/dev/sda"), ("disks-TOTAL_FORMS", ""),
    ],
)  # fmt: skip
def test_odd_input_is_refused_with_a_sentence_and_nothing_is_saved(field: str, value: str) -> None:
    changes = {field: value} | ({"disks-1-size": "960 GB"} if field == "disks-1-path" else {})
    page = browser(make_user(Role.ADMIN)).post("/inventory/add/", good(make_project(), **changes))
    assert page.status_code == 400
    assert "field-error" in page.content.decode() or "ManagementForm" in page.content.decode()
    assert not Server.objects.exists()
    assert "calvin" not in page.content.decode().replace("root:calvin", "")


def test_a_mac_belongs_to_one_card_of_one_server() -> None:
    other = make_server(name="web-1.example.net", mac="52:54:00:ab:cd:ef")
    page = browser(make_user(Role.ADMIN)).post("/inventory/add/", good(other.project))
    assert "web-1.example.net has this MAC" in page.content.decode()


def edited(server: Server, **changes: Any) -> dict[str, Any]:
    """The form of a stored server as it would be sent back."""
    nic = server.nics.get()
    return good(
        server.project,
        **{
            "name": server.name, "nics-TOTAL_FORMS": "2", "nics-INITIAL_FORMS": "1", "nics-0-id": nic.pk,
            "nics-0-mac": nic.mac, "new_bmc_password": "", **changes,
        },
    )  # fmt: skip


def test_the_last_card_cannot_be_taken_out() -> None:
    server = make_server(name="web-1.example.net")
    page = browser(make_user(Role.ADMIN)).post(
        "/inventory/web-1.example.net/", edited(server, **{"nics-0-DELETE": "on"})
    )
    assert "Leave at least one card" in page.content.decode()
    assert server.nics.count() == 1


def test_a_blank_password_keeps_the_stored_one_and_the_page_never_shows_it() -> None:
    server = make_server(name="web-1.example.net")
    client = browser(make_user(Role.ADMIN))
    assert "of the BMC" not in text(client, "/inventory/web-1.example.net/")
    client.post("/inventory/web-1.example.net/", edited(server, bmc_user="other"))
    server = Server.objects.get()
    assert (server.bmc_user, server.bmc_password.reveal()) == ("other", "of the BMC")
    client.post("/inventory/web-1.example.net/", edited(server, new_bmc_password="fresh"))
    assert Server.objects.get().bmc_password.reveal() == "fresh"


def test_a_password_that_no_key_opens_can_be_replaced() -> None:
    server = make_server(name="web-1.example.net")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE servers_server SET bmc_password = 'gAAAAABlost' WHERE id = %s", [server.pk])
    client = browser(make_user(Role.ADMIN))
    text(client, "/inventory/web-1.example.net/")
    text(client, "/servers/web-1.example.net/")
    done = client.post("/inventory/web-1.example.net/", edited(server, new_bmc_password="fresh"))
    assert done.status_code == 302
    assert Server.objects.get().bmc_password.reveal() == "fresh"


def test_an_inspected_server_keeps_its_disks_when_it_is_edited() -> None:
    server = make_server(name="web-1.example.net", disks=2)
    client = browser(make_user(Role.ADMIN))
    client.post("/inventory/web-1.example.net/", edited(server, **{"disks-0-path": "sdz"}))
    assert [disk.path for disk in Server.objects.get().disks.all()] == ["/dev/vda", "/dev/vdb"]


def test_a_renamed_server_with_a_mistake_keeps_its_name_in_the_title() -> None:
    server = make_server(name="web-1.example.net")
    client = browser(make_user(Role.ADMIN))
    page = client.post("/inventory/web-1.example.net/", edited(server, name="web-2.example.net", ssh_port="0"))
    assert page.status_code == 400
    assert 'Edit <span class="mono">web-1.example.net' in page.content.decode()


def test_a_page_is_no_longer_than_fifty_servers() -> None:
    project = make_project()
    Server.objects.bulk_create(
        Server(project=project, name=f"web-{number:03}.example.net", firmware="uefi", address="192.0.2.1")
        for number in range(53)
    )
    client = browser(make_user(Role.ADMIN))
    for url in ("/", "/inventory/"):
        assert text(client, url).count("data-row") == 50
        assert text(client, f"{url}?page=2").count("data-row") == 3
        assert "?q=web&amp;page=2" in text(client, f"{url}?q=web")


def test_an_image_with_a_licence_is_shown_by_its_name() -> None:
    server = make_server(disks=2)
    run(make_install(server, image=make_image(name="RHEL 8.10", flavour="rhel-8")))
    assert "RHEL 8.10" in text(browser(make_user(Role.OPS)), f"/servers/{server.name}/")
