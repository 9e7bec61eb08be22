"""How many installs run at once, who waits for whom, and that no race lets in one too many. On both engines."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import Project
from accounts.secret import Secret
from deploy import actions, limits, queue
from deploy import worker as worker_module
from deploy.context import dry_context
from deploy.driver import Driver
from deploy.events import Kind, Status
from deploy.models import Install
from deploy.step import Control, Done, Outcome, Step, StreamSource, WaitUntil
from deploy.steps import STEPS
from deploy.worker import Worker
from images.models import Image, OwnImage, Publication, PublicationState
from tests.builders import make_image, make_install, make_project, make_server, make_user
from tests.deploy.situations import ALL_STEPS, Course, prove, tame


@pytest.fixture(autouse=True)
def _no_limits(settings: Any) -> None:
    settings.LANDFALL_LIMIT = settings.LANDFALL_LIMIT_PROJECT = settings.LANDFALL_LIMIT_IMAGE = 0
    settings.LANDFALL_MIRROR_READERS = 0


@pytest.fixture
def image(db: None) -> Image:
    return make_image()


def request(project: Project | None = None, image: Image | None = None) -> Install:
    """An install that was just requested, of a server without a BMC."""
    return make_install(make_server(project, power_driver="manual"), image=image)


def admit() -> list[Install]:
    """Who is let in now, in the order of the request."""
    before = set(Install.objects.filter(admitted_at=None).values_list("pk", flat=True))
    limits.admit(timezone.now())
    return list(Install.objects.filter(pk__in=before, admitted_at__isnull=False).order_by("pk"))


def end(install: Install) -> None:
    """The install is over."""
    Course(install).cancelled()


def drive(install: Install, now: datetime | None = None) -> Install:
    claimed = queue.claim("worker", now or timezone.now())
    assert claimed
    assert claimed[0] == install
    Driver(*claimed, threading.Event(), tame()).drive()
    prove(install)
    return Install.objects.get(pk=install.pk)


def positions(*installs: Install) -> list[int | None]:
    places = [limits.place(Install.objects.get(pk=install.pk)) for install in installs]
    return [place.position if place else None for place in places]


# --- who is let in


@pytest.mark.django_db
def test_without_limits_everybody_is_let_in_at_once_and_has_no_place_in_line() -> None:
    installs = [request() for _ in range(5)]
    assert all(install.admitted_at for install in installs)
    assert positions(*installs) == [None] * 5
    assert queue.due(timezone.now()).count() == 5


@pytest.mark.django_db
def test_the_line_is_served_first_come_first_served_as_places_become_free(settings: Any) -> None:
    settings.LANDFALL_LIMIT = 2
    one, two, three, four = (request() for _ in range(4))
    assert admit() == [one, two]
    assert admit() == []
    assert positions(one, two, three, four) == [None, None, 1, 2]
    end(two)
    assert positions(three, four) == [None, 1]
    assert admit() == [three]
    end(one)
    end(three)
    assert admit() == [four]


@pytest.mark.django_db
def test_who_stands_in_line_is_driven_by_nobody(settings: Any) -> None:
    settings.LANDFALL_LIMIT = 1
    first, second = request(), request()
    assert not queue.due(timezone.now()).exists()
    admit()
    assert drive(first).status == Status.SUCCEEDED
    assert queue.claim("worker", timezone.now()) is None
    admit()
    assert drive(second).status == Status.SUCCEEDED


def own_image(url: str) -> Image:
    """An image that a customer brings from there."""
    image = make_image()
    OwnImage.objects.create(image=image, url=Secret(f"{url}?signature=x"), checksum="sha256:0", shown_url=url)
    return image


@pytest.mark.django_db
def test_customers_own_images_share_the_limit_of_an_image_by_the_host_that_they_come_from(settings: Any) -> None:
    settings.LANDFALL_LIMIT_IMAGE = 1
    first = request(image=own_image("https://one.example/a.qcow2"))
    same_host = request(image=own_image("https://one.example/b.qcow2"))
    other_host = request(image=own_image("https://two.example/a.qcow2"))
    assert admit() == [first, other_host]
    assert positions(same_host) == [1]
    end(first)
    assert admit() == [same_host]


def publish(image: Image) -> Image:
    """The image with a stream."""
    Publication.objects.create(
        image=image, state=PublicationState.DONE, requested_at=timezone.now(), sha256="cd" * 32, size=77
    )
    return image


@pytest.mark.django_db
def test_readers_spread_over_the_mirrors_and_none_has_more_than_its_number(settings: Any) -> None:
    settings.LANDFALL_MIRRORS = ["http://one.example/images", "http://two.example"]
    settings.LANDFALL_MIRROR_READERS = 2
    image = publish(make_image())
    installs = [request(image=image) for _ in range(5)]
    other = request()
    assert admit() == [*installs[:4], other]
    mirrors = [Install.objects.get(pk=install.pk).mirror for install in (*installs[:4], other)]
    assert mirrors == [*settings.LANDFALL_MIRRORS * 2, ""]
    assert limits.place(Install.objects.get(pk=installs[4].pk)) == limits.Place(
        1, "at most 2 installs from the same mirror run at once"
    )
    end(installs[1])
    assert admit() == [installs[4]]
    last = Install.objects.get(pk=installs[4].pk)
    assert last.mirror == "http://two.example"
    assert dry_context(last, last.server.facts()).image.stream == StreamSource(
        ("http://two.example/" + "cd" * 32, "http://one.example/images/" + "cd" * 32), "cd" * 32, 77, with_token=False
    )


@pytest.mark.django_db
def test_what_belongs_to_one_project_is_read_from_landfall_with_a_token(settings: Any) -> None:
    settings.LANDFALL_MIRRORS = ["http://one.example/images"]
    project = make_project()
    install = request(project, publish(make_image(project=project)))
    stream = dry_context(install, install.server.facts()).image.stream
    assert stream
    assert stream.with_token
    assert stream.urls == (f"{settings.LANDFALL_MACHINE_URL}/machine/images/" + "cd" * 32,)


@pytest.mark.django_db
def test_a_project_over_its_limit_does_not_keep_back_the_others(settings: Any) -> None:
    settings.LANDFALL_LIMIT_PROJECT = 1
    busy, other = make_project(), make_project()
    first, second, third = request(busy), request(busy), request(other)
    assert admit() == [first, third]
    assert positions(first, second, third) == [None, 1, None]
    place = limits.place(second)
    assert place
    assert "project" in place.why


@pytest.mark.django_db
def test_an_image_over_its_limit_does_not_keep_back_the_others(settings: Any) -> None:
    settings.LANDFALL_LIMIT_IMAGE = 1
    popular, other = make_image(), make_image()
    first, second, third = request(image=popular), request(image=popular), request(image=other)
    assert admit() == [first, third]
    place = limits.place(second)
    assert place
    assert "image" in place.why


@pytest.mark.django_db
def test_all_limits_hold_at_once(settings: Any, image: Image) -> None:
    settings.LANDFALL_LIMIT, settings.LANDFALL_LIMIT_PROJECT, settings.LANDFALL_LIMIT_IMAGE = 3, 2, 2
    mine, yours = make_project(), make_project()
    a = [request(mine, image) for _ in range(3)]
    b = [request(yours, image), request(yours), request(yours)]
    # two of mine; the image is taken then; one of yours from another image; then all places are
    assert admit() == [a[0], a[1], b[1]]
    assert positions(a[2], b[0], b[2]) == [1, 2, 3]
    end(a[0])
    assert admit() == [a[2]]
    end(a[1])
    assert admit() == [b[0]]


@pytest.mark.django_db
def test_positions_are_counted_among_those_who_wait_for_the_same(settings: Any) -> None:
    settings.LANDFALL_LIMIT_PROJECT = 1
    mine, yours = make_project(), make_project()
    queued = [request(project) for project in (mine, yours, mine, yours, mine)]
    admit()
    assert positions(*queued) == [None, None, 1, 1, 2]
    assert {place.position for place in limits.places().values()} == {1, 2}


# --- who has a place, and who needs none


@pytest.mark.django_db
def test_a_place_is_taken_while_a_step_waits_or_backs_off_and_is_free_while_it_is_held(settings: Any) -> None:
    settings.LANDFALL_LIMIT = 1
    first, second = request(), request()
    admit()
    course = Course(first).planned()
    course.start("rescue")
    course.wait("rescue")
    assert admit() == []
    course.fail("rescue", resume_from="rescue")
    assert admit() == []
    course.event(Kind.HOLD_REQUESTED, before="rescue")
    assert admit() == []
    course.event(Kind.HELD, before="rescue")
    assert admit() == [second]


@pytest.mark.django_db
def test_the_released_and_the_retried_stand_in_line_again_behind_those_who_came_before(settings: Any) -> None:
    settings.LANDFALL_LIMIT = 1
    ops = make_user("ops")
    released, retried, other = request(), request(), request()
    assert admit() == [released]
    actions.hold(released, ops, "rescue")
    assert drive(released).status == Status.HELD
    assert admit() == [retried]
    end(retried)
    actions.retry(retried, ops)
    actions.release(released, ops)
    assert positions(other, retried, released) == [None, 1, 2]
    assert admit() == [other]
    end(other)
    assert admit() == [retried]
    end(retried)
    assert admit() == [released]
    assert drive(released).status == Status.SUCCEEDED


@pytest.mark.django_db
def test_what_is_cancelled_in_line_needs_no_place_to_end(settings: Any) -> None:
    settings.LANDFALL_LIMIT = 1
    first, second, third = request(), request(), request()
    admit()
    Install.objects.filter(pk=first.pk).update(wake_at=None)
    actions.cancel(second, make_user("ops"))
    assert drive(second).status == Status.CANCELLED
    assert positions(first, second, third) == [None, None, 1]
    assert not prove(second).cycling


@pytest.mark.django_db
def test_a_forced_end_makes_room(settings: Any) -> None:
    settings.LANDFALL_LIMIT = 1
    first, second = request(), request()
    admit()
    actions.force_reset(first, make_user("ops"), "it hangs")
    assert admit() == [second]


@pytest.mark.django_db
def test_when_a_limit_is_lowered_nobody_is_sent_back_and_nobody_let_in(settings: Any) -> None:
    settings.LANDFALL_LIMIT = 3
    installs = [request() for _ in range(4)]
    assert admit() == installs[:3]
    settings.LANDFALL_LIMIT = 1
    assert all(install.admitted_at for install in Install.objects.filter(pk__lt=installs[3].pk))
    for install in installs[:2]:
        end(install)
        assert admit() == []
    end(installs[2])
    assert admit() == [installs[3]]


@pytest.mark.django_db
def test_when_the_limits_are_taken_away_the_whole_line_is_let_in(settings: Any) -> None:
    settings.LANDFALL_LIMIT = 1
    installs = [request() for _ in range(3)]
    settings.LANDFALL_LIMIT = 0
    assert admit() == installs


@pytest.mark.django_db
def test_a_line_that_nobody_stands_in_costs_one_query(django_assert_num_queries: Any, settings: Any) -> None:
    settings.LANDFALL_LIMIT = 1
    request()
    admit()
    with django_assert_num_queries(1):
        limits.admit(timezone.now())


# --- races


def race(number: int, work: Any) -> None:
    """Does it in so many threads at the same time."""
    barrier, errors = threading.Barrier(number), []

    def one() -> None:
        try:
            barrier.wait()
            work()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=one) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def placed() -> list[Install]:
    """Who has a place."""
    return list(Install.objects.filter(admitted_at__isnull=False, status__in=["queued", "running", "waiting"]))


@pytest.mark.django_db(transaction=True)
def test_of_racing_workers_none_lets_in_one_too_many(settings: Any, image: Image) -> None:
    settings.LANDFALL_LIMIT, settings.LANDFALL_LIMIT_PROJECT, settings.LANDFALL_LIMIT_IMAGE = 5, 2, 3
    projects = [make_project() for _ in range(3)]
    line = [request(projects[number % 3], image if number % 2 else None) for number in range(15)]
    told: list[int] = []
    for round_ in range(3):
        race(8, lambda: told.append(limits.admit(timezone.now())))
        running = placed()
        assert len(running) == 5
        assert max(Counter(install.project_id for install in running).values()) <= 2
        assert max(Counter(install.image_id for install in running).values()) <= 3
        assert sum(told) == 5 * (round_ + 1)
        for install in running:
            end(install)
    assert not Install.objects.filter(status__in=["queued"]).exists()
    assert len(line) == 15


@pytest.fixture
def seen_at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many installs were at work at every moment at which one began to be; the real steps are put away."""
    at_work: set[int] = set()
    lock = threading.Lock()
    seen: list[int] = []

    def works(control: Control) -> Outcome:
        install = control.leased.install.pk  # type: ignore[attr-defined]
        with lock:
            at_work.add(install)
            seen.append(len(at_work))
        time.sleep(0.15)
        with lock:
            at_work.discard(install)
        return Done()

    def waits_a_little(control: Control) -> Outcome:
        started = control.state.of("plan").started_at
        assert started
        until = started + timedelta(seconds=0.2)
        return Done() if control.now >= until else WaitUntil(until, "the clock")

    steps: dict[str, Step] = dict(tame(wipe=works, copy=works, plan=waits_a_little))
    for name, step in steps.items():
        monkeypatch.setitem(STEPS, name, step)
    monkeypatch.setattr(worker_module, "POLL", 0.05)
    yield seen


@pytest.mark.django_db(transaction=True)
def test_two_workers_never_have_more_at_work_than_the_limit_and_end_them_all(
    settings: Any, seen_at_once: list[int]
) -> None:
    settings.LANDFALL_LIMIT = 3
    installs = [request() for _ in range(9)]
    workers = [Worker(slots=6, name=f"worker {number}") for number in range(2)]

    def run(worker: Worker) -> None:
        worker.run()
        connection.close()

    threads = [threading.Thread(target=run, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    most = 0
    end_of_patience = time.monotonic() + 60
    try:
        while Install.objects.exclude(status=Status.SUCCEEDED).exists():
            assert time.monotonic() < end_of_patience
            most = max(most, len(placed()))
            time.sleep(0.02)
    finally:
        for worker in workers:
            worker.stop()
        for thread in threads:
            thread.join()
    assert max(seen_at_once) <= 3
    assert most == 3
    for install in installs:
        assert prove(install).status is Status.SUCCEEDED
        begun = Counter(event.data["step"] for event in install.history() if event.kind is Kind.STEP_STARTED)
        assert begun == dict.fromkeys((name for name in ALL_STEPS if name != "licence"), 1)
