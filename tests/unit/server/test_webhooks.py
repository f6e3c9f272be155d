"""Webhooks: where they may lead, by a table; how the outbox is emptied, with clocks and a sender that a test sets."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import threading
from ipaddress import ip_address, ip_network

import pytest
from tests.conformance.stores.making import Clock, started, submitted

from safelight.errors import InvalidRequest, StoreUnusable, UnreadableFile
from safelight.jobs.memory import MemoryStore
from safelight.jobs.records import DeliveryState, Webhook
from safelight.server.problems import LookupsBusy
from safelight.server.webhooks import outbox as outboxes
from safelight.server.webhooks.addresses import LOOKUPS, Addresses, Lookups, is_public
from safelight.server.webhooks.outbox import Outbox, pause_s
from safelight.server.webhooks.sender import MAX_BODY, body_of
from safelight.server.webhooks.signature import SECRET_NAME, headers, secret_of
from safelight.settings.table import WebhookSettings

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# ---- addresses


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True), ("2606:2800:220:1::1", True), ("127.0.0.1", False), ("127.9.9.9", False),
        ("::1", False), ("10.0.0.1", False), ("172.16.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False),
        ("100.64.0.1", False), ("0.0.0.0", False), ("::", False), ("255.255.255.255", False), ("224.0.0.1", False),
        ("ff02::1", False), ("fe80::1", False), ("fd00::1", False), ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", False), ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False), ("240.0.0.1", False),
        ("2001:0:53aa:64c::1", False), ("192.0.2.1", False), ("198.18.0.1", False),
        ("fec0::1", False), ("3fff::1", False), ("2001:db8::1", False), ("5f00::1", False), ("2a00:1450::1", True),
    ],
)  # fmt: skip
def test_what_is_public(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


def addresses(*found: str, networks: tuple[str, ...] = ()) -> Addresses:
    """Where every name stands for `found`."""

    async def resolve(host: str, port: int) -> list:
        if not found:
            raise OSError("Name or service not known")
        return [ip_address(each) for each in found]

    return Addresses([ip_network(each) for each in networks], resolve)


@pytest.mark.parametrize(
    ("url", "found", "networks", "said"),
    [
        ("https://example.org/hook?x=1", ["93.184.216.34"], [], ""),
        ("https://example.org:8443", ["93.184.216.34", "2606:2800:220:1::1"], [], ""),
        ("http://example.org", ["93.184.216.34"], [], "not encrypted"),
        ("http://example.org", ["93.184.216.34"], ["10.0.0.0/8"], "not encrypted"),
        ("https://inner.example", ["10.1.2.3"], [], "10.1.2.3, which is not public"),
        ("https://inner.example", ["10.1.2.3"], ["10.0.0.0/8"], ""),
        ("http://inner.example", ["10.1.2.3"], ["10.0.0.0/8"], ""),
        ("http://both.example", ["10.1.2.3", "93.184.216.34"], ["10.0.0.0/8"], "not encrypted"),
        ("https://both.example", ["93.184.216.34", "10.1.2.3"], [], "not public"),
        ("https://inner.example", ["10.1.2.3"], ["192.168.0.0/16", "fd00::/8"], "not public"),
        ("https://nobody.example", [], [], "not found: Name or service not known"),
        ("ftp://example.org", ["93.184.216.34"], [], "no https URL"),
        ("file:///etc/passwd", ["93.184.216.34"], [], "no https URL"),
        ("example.org/hook", ["93.184.216.34"], [], "no https URL"),
        ("https://", ["93.184.216.34"], [], "no https URL"),
        ("https://user:secret@example.org", ["93.184.216.34"], [], "password"),
        ("https://example.org:0/", ["93.184.216.34"], [], "port 0"),
        ("https://example.org:70000/", ["93.184.216.34"], [], "port 70000"),
        ("https://exa\nmple.org", ["93.184.216.34"], [], "no URL"),
        ("https://example.org/" + "x" * 2000, ["93.184.216.34"], [], "2020 characters"),
    ],
)  # fmt: skip
async def test_where_a_webhook_may_lead(url: str, found: list[str], networks: list[str], said: str) -> None:
    there = addresses(*found, networks=tuple(networks))
    if not said:
        assert await there.of(there.parsed(url)) == [ip_address(each) for each in found]
        return
    with pytest.raises(InvalidRequest) as refused:
        await there.of(there.parsed(url))
    [fault] = refused.value.errors
    assert fault.path == "webhook.url" and said in fault.message and fault.hint


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "localhost", "[::1]",
                                  "[::ffff:7f00:1]", "0", "169.254.169.254", "[fe80::1]"])  # fmt: skip
async def test_the_systems_own_names_of_this_machine_are_refused(host: str) -> None:
    there = Addresses([])
    with pytest.raises(InvalidRequest, match=r"not public|not found|no URL"):
        await there.of(there.parsed(f"https://{host}/"))


class Names:
    """The system's lookups: `.hung` names have no answer until `answer` is set, all others are public."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = threading.Event()

    def __call__(self, host: str, port: int, **_) -> list:
        self.asked.append(host)
        if host.endswith(".hung"):
            self.answer.wait(20)
        return [(0, 0, 0, "", ("93.184.216.34", port)), (0, 0, 0, "", ("93.184.216.34", port))]


async def test_a_name_that_nobody_answers_for_is_asked_once_and_holds_up_nobody_else(monkeypatch) -> None:
    monkeypatch.setattr("safelight.server.webhooks.addresses.RESOLVE_S", 0.1)
    names = Names()
    there = Addresses([], Lookups(names))
    lookups = [there.of(there.parsed(f"https://slow.hung:{1000 + each}")) for each in range(LOOKUPS + 3)]
    failed = await asyncio.gather(*lookups, return_exceptions=True)
    assert all("no answer within 0.1 s" in str(each) for each in failed) and len(failed) == LOOKUPS + 3
    assert await there.of(there.parsed("https://quick.example")) == [ip_address("93.184.216.34")]
    assert names.asked == ["slow.hung", "quick.example"]
    names.answer.set()
    assert await there.of(there.parsed("https://slow.hung")) == [ip_address("93.184.216.34")]


async def test_where_every_lookup_hangs_a_good_name_is_not_said_to_be_none(monkeypatch) -> None:
    monkeypatch.setattr("safelight.server.webhooks.addresses.RESOLVE_S", 0.2)
    names = Names()
    there = Addresses([], Lookups(names))
    hung = [there.of(there.parsed(f"https://n{each}.hung")) for each in range(LOOKUPS)]
    await asyncio.gather(*hung, return_exceptions=True)
    with pytest.raises(LookupsBusy, match=r"quick\.example") as busy:
        await there.of(there.parsed("https://quick.example"))
    assert busy.value.hint and "quick.example" not in names.asked
    names.answer.set()
    assert await there.of(there.parsed("https://quick.example")) == [ip_address("93.184.216.34")]


# ---- the secret and the signature


def test_the_secret_is_drawn_once_and_for_this_account_alone(tmp_path) -> None:
    secret = secret_of(tmp_path / "home")
    assert len(secret) == 32 and secret_of(tmp_path / "home") == secret != secret_of(tmp_path / "other")
    if sys.platform != "win32":
        assert (tmp_path / "home" / SECRET_NAME).stat().st_mode & 0o777 == 0o600
    assert [each.name for each in (tmp_path / "home").iterdir()] == [SECRET_NAME]


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_!!", "whsec_c2hvcnQ=", "secret"])
def test_a_file_that_holds_no_secret_is_refused(tmp_path, text: str) -> None:
    (tmp_path / SECRET_NAME).write_text(text)
    with pytest.raises(UnreadableFile, match="no webhook secret") as refused:
        secret_of(tmp_path)
    assert "remove it" in refused.value.hint


def test_the_signature_is_that_of_the_published_scheme() -> None:
    """The example of github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    made = headers(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


# ---- the outbox

ALL = Webhook("https://example.org/hook", ("queued", "succeeded", "cancelled"))


class Post:
    """A sender that answers as it was told, and remembers."""

    def __init__(self, *answers: DeliveryState | Exception) -> None:
        self.answers = list(answers)
        self.sent: list[str] = []
        self.under_way = 0
        self.most: dict[str, int] = {}
        self.held = asyncio.Event()
        self.held.set()

    async def send(self, delivery):
        self.sent.append(delivery.id)
        self.under_way += 1
        self.most["all"] = max(self.most.get("all", 0), self.under_way)
        await self.held.wait()
        self.under_way -= 1
        answer = self.answers.pop(0) if self.answers else DeliveryState.DELIVERED
        if isinstance(answer, Exception):
            raise answer
        return answer, "" if answer is DeliveryState.DELIVERED else "it did not work"

    async def close(self) -> None:
        self.sent.append("closed")


async def until(true) -> None:
    async with asyncio.timeout(10):
        while not await true():
            await asyncio.sleep(0.002)


async def settled(store, job_id: str, state: DeliveryState = DeliveryState.DELIVERED) -> None:
    async def over() -> bool:
        return {each.state for each in (await store.get(job_id)).deliveries} == {state}

    await until(over)


@pytest.fixture
async def store():
    made = MemoryStore()
    await made.open()
    return made


async def test_what_is_there_and_what_comes_is_sent_once(store) -> None:
    early = await submitted(store, webhook=ALL)
    post = Post()
    box = Outbox(store, post, WebhookSettings())
    box.begin()
    await settled(store, early.id)
    late = await started(store, webhook=ALL)
    await store.succeed(late.id, 1, {}, {}, 0)
    await settled(store, late.id)
    await box.end()
    told = [each.id for job in (early, late) for each in (await store.get(job.id)).deliveries]
    assert sorted(post.sent[:-1]) == sorted(told) and post.sent[-1] == "closed" and len(told) == 3
    assert await store.undelivered() == []


async def test_a_message_is_tried_again_after_growing_pauses_and_then_given_up(store) -> None:
    tick = Clock()
    post = Post(*[DeliveryState.PENDING] * 9)
    box = Outbox(store, post, WebhookSettings(max_tries=4, first_retry_s=5.0), tick)
    job = await submitted(store, webhook=ALL)
    box.begin()
    for tries, pause in ((1, 5.0), (2, 10.0), (3, 20.0)):

        async def noted(tries=tries) -> bool:
            return (await store.get(job.id)).deliveries[0].tries == tries

        await until(noted)
        for before in (pause - 0.1, 0.2):
            assert len(post.sent) == tries
            tick.seconds += before
            await submitted(store)  # the clock is the test's: what happens makes the task look at it
            await asyncio.sleep(0.02)
    await settled(store, job.id, DeliveryState.DEAD)
    [dead] = (await store.get(job.id)).deliveries
    assert (dead.tries, dead.said) == (4, "it did not work") and len(post.sent) == 4
    await box.end()


def test_pauses() -> None:
    assert [pause_s(tries, 5.0) for tries in (0, 1, 2, 3, 10, 11, 99)] == [0, 5, 10, 20, 2560, 3600, 3600]


async def test_a_new_server_counts_the_pause_anew_and_keeps_the_tries(store) -> None:
    tick = Clock()
    job = await submitted(store, webhook=ALL)
    [due] = await store.undelivered()
    await store.tried(due, DeliveryState.PENDING, "refused")
    post = Post()
    box = Outbox(store, post, WebhookSettings(first_retry_s=5.0), tick)
    box.begin()
    await asyncio.sleep(0.05)
    assert post.sent == []
    tick.seconds += 5.1
    await submitted(store)
    await settled(store, job.id)
    assert (await store.get(job.id)).deliveries[0].tries == 2
    await box.end()


async def test_an_address_that_wants_no_more_is_left_alone(store) -> None:
    job = await submitted(store, webhook=ALL)
    post = Post(DeliveryState.DEAD)
    box = Outbox(store, post, WebhookSettings())
    box.begin()
    await settled(store, job.id, DeliveryState.DEAD)
    await box.end()
    assert len(post.sent) == 2


async def test_a_slow_host_leaves_room_for_the_others(store) -> None:
    for _ in range(outboxes.AT_ONCE * 2):
        await submitted(store, webhook=Webhook("https://slow.example", ("queued",)))
    other = await submitted(store, webhook=Webhook("https://quick.example", ("queued",)))
    post = Post()
    post.held.clear()
    box = Outbox(store, post, WebhookSettings())
    box.begin()
    [quick] = (await store.get(other.id)).deliveries

    async def quick_sent() -> bool:
        return quick.id in post.sent

    await until(quick_sent)
    assert post.most["all"] == outboxes.AT_ONCE // 4 + 1
    post.held.set()

    async def empty() -> bool:
        return not await store.undelivered()

    await until(empty)
    await box.end()


async def test_hosts_take_turns(store) -> None:
    for name in "aaaabbbb":
        await submitted(store, webhook=Webhook(f"https://{name}.example", ("queued",)))
    post, hosts = Post(), []
    send = post.send

    async def noting(delivery):
        hosts.append(delivery.url[8])
        return await send(delivery)

    post.send = noting
    box = Outbox(store, post, WebhookSettings())
    box.begin()

    async def empty() -> bool:
        return not await store.undelivered()

    await until(empty)
    await box.end()
    assert "".join(hosts) == "abababab"


class Paged(MemoryStore):
    """A store that notes how much of its outbox was read at once."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[int] = []

    async def undelivered(self, after: int = 0, limit: int = 1000):
        page = await super().undelivered(after, limit)
        self.pages.append(len(page))
        return page


async def test_what_waits_is_read_in_pages_and_costs_nothing_when_something_happens(monkeypatch) -> None:
    """Thousands of messages whose pauses are not over, while jobs come and go: nothing looks at them one by one."""
    read = []
    url = outboxes.httpx.URL
    monkeypatch.setattr(outboxes.httpx, "URL", lambda text: read.append(text) or url(text))
    store, tick, waiting = Paged(), Clock(), outboxes.PAGE * 5
    await store.open()
    for _ in range(waiting):
        await submitted(store, webhook=Webhook("https://down.example", ("queued",)))
    for each in await store.undelivered(0, waiting):
        await store.tried(each, DeliveryState.PENDING, "refused")
    store.pages.clear()
    post = Post()
    box = Outbox(store, post, WebhookSettings(first_retry_s=5.0), tick)
    box.begin()

    async def learnt() -> bool:
        return sum(store.pages) == waiting and store.pages[-1] == 0

    await until(learnt)
    assert max(store.pages) == outboxes.PAGE and len(read) == waiting
    for _ in range(5):
        other = await submitted(store, webhook=ALL)
        await settled(store, other.id)
    assert len(read) == waiting + 5 and len(post.sent) == 5
    tick.seconds += 5.1
    await submitted(store)

    async def empty() -> bool:
        return not await store.undelivered()

    await until(empty)
    assert len(set(post.sent)) == waiting + 5
    await box.end()


async def test_a_name_that_cannot_be_asked_for_now_costs_no_try(monkeypatch, store) -> None:
    monkeypatch.setattr(outboxes, "LOOKUP_PAUSE_S", 0.01)
    job = await submitted(store, webhook=ALL)
    post = Post(LookupsBusy("example.org"), LookupsBusy("example.org"))
    box = Outbox(store, post, WebhookSettings(max_tries=1))
    box.begin()
    await settled(store, job.id)
    await box.end()
    [told] = (await store.get(job.id)).deliveries
    assert told.tries == 1 and len(post.sent) == 4


class Full(MemoryStore):
    """A store that cannot be read or written a few times."""

    failing = 2

    async def tried(self, *args, **more):
        if self.failing:
            self.failing -= 1
            raise StoreUnusable("The disk is full.")
        return await super().tried(*args, **more)


async def test_what_cannot_be_noted_or_fails_inside_is_sent_again() -> None:
    store = Full()
    await store.open()
    job = await submitted(store, webhook=ALL)
    post = Post(DeliveryState.DELIVERED, ValueError("a fault"), DeliveryState.DELIVERED)
    box = Outbox(store, post, WebhookSettings(first_retry_s=0.05))
    box.begin()
    await settled(store, job.id)
    await box.end()
    assert len(post.sent) == 4 and len(set(post.sent)) == 2


class Unreadable(MemoryStore):
    """A store whose first looks into the outbox fail, each in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.errors = [StoreUnusable("locked"), ValueError("a fault"), OSError("the disk")]

    async def undelivered(self, after: int = 0, limit: int = 1000):
        if self.errors:
            raise self.errors.pop(0)
        return await super().undelivered(after, limit)


async def test_an_outbox_that_cannot_be_read_is_read_again(monkeypatch, caplog) -> None:
    monkeypatch.setattr(outboxes, "STORE_PAUSE_S", 0.01)
    store = Unreadable()
    await store.open()
    job = await submitted(store, webhook=ALL)
    box = Outbox(store, Post(), WebhookSettings())
    box.begin()
    await settled(store, job.id)
    await box.end()
    told = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert told == ["locked", "a fault", "the disk"]


async def test_a_long_event_leaves_its_data_out(store) -> None:
    job = await started(store, webhook=ALL)
    await store.succeed(job.id, 1, {"text": "x" * MAX_BODY}, {}, 0)
    short, long = [json.loads(body_of(each)) for each in await store.undelivered()]
    assert short["data"] == {"position": 1} and long["data"] is None
    assert (long["kind"], long["job_id"]) == ("succeeded", job.id)
    assert long["id"] == f"{job.id}-{long['sequence']}"
