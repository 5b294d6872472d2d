"""The login desk: who gets in, what others learn, and what it costs."""

import asyncio
import base64
import itertools
import logging
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from waypost.login import checker
from waypost.login.desk import LoginAttempt, LoginDesk
from waypost.login.hashing import HashingBusy, HashPool
from waypost.login.memory import LoginMemory
from waypost.login.outcomes import Challenge, LoginFault, LoginRefused, Welcome
from waypost.login.passwords import NO_PASSWORD, SCRAM_ITERATIONS, make_credentials, verify_password
from waypost.login.throttle import Origin, Throttle
from waypost.protocol.sasl import ScramClient
from waypost.protocol.session import TlsInfo
from waypost.storage import Account, StorageError, StorageFull

SECOND = 1_000_000
TLS = TlsInfo("TLSv1.3", "x", server_end_point=b"e" * 32)
PASSWORD = "can we fix it?"
CREDENTIALS = make_credentials(PASSWORD)
BOB = Account(1, "bob@builder.test", CREDENTIALS, 0, False, 0, 1, 0)
CLOSED = replace(BOB, id=2, address="closed@builder.test", disabled=True)
PEER, ATTACKER = "192.0.2.1", "192.0.2.66"


class Directory:
    def __init__(self) -> None:
        self.accounts = {account.address: account for account in (BOB, CLOSED)}
        self.broken = False

    async def account(self, address: str) -> Account | None:
        if self.broken:
            raise StorageError("the disk is gone")
        return self.accounts.get(address)


class Networks:
    """From where accounts have logged in."""

    def __init__(self) -> None:
        self.known: set[tuple[str, str]] = set()
        self.broken: StorageError | None = None

    async def knows(self, account: str, network: str) -> bool:
        return (account, network) in self.known

    async def remember(self, account: str, network: str, now: int) -> None:
        if self.broken is not None:
            raise self.broken
        self.known.add((account, network))

    async def expire(self, before: int) -> None:
        raise NotImplementedError


class Office:
    """A desk with its directory, its clock, and a count of the hashes that it paid for."""

    def __init__(self) -> None:
        self.now = 1_795_500_000 * SECOND
        self.directory = Directory()
        self.networks = Networks()
        self.memory = LoginMemory.create(lambda length: bytes(range(length)))
        self.waits: list[float] = []
        self.nonces = itertools.count()
        self.desk = self.new_desk()
        self.hashes: list[str] = []

    def new_desk(self) -> LoginDesk:
        """A desk in another worker, or in the next generation."""
        return LoginDesk(
            self.directory,  # type: ignore[arg-type]
            self.networks,
            now=lambda: self.now,
            memory=self.memory,
            random=lambda length: bytes(range(length)),
            nonce=lambda: f"server{next(self.nonces)}",
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += int(seconds * SECOND)
        await asyncio.sleep(0)

    async def fault(self, user: str, password: str, peer: str = PEER) -> LoginRefused:
        with pytest.raises(LoginRefused) as refused:
            await self.desk.check_password(user, password, peer)
        return refused.value

    async def sasl(self, mechanism: str, *messages: bytes | None, peer: str = PEER) -> Challenge | Welcome:
        attempt = self.desk.begin(mechanism, tls=TLS, peer=peer)
        for message in messages:
            said = await attempt.step(message)
        return said

    async def scram(self, user: str, password: str, *, plus: bool = False, peer: str = PEER) -> Account:
        binding = ("tls-server-end-point", b"e" * 32) if plus else None
        client = ScramClient(user, password, plus=plus, binding=binding, nonce="abc")
        attempt = self.desk.begin(client.name, tls=TLS, peer=peer)
        said = await attempt.step(client.start())
        while isinstance(said, Challenge):
            said = await attempt.step(client.step(said.data))
        assert client.done
        return said.account


@pytest.fixture
def office(monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    office = Office()

    def counted(argon2: str, prepared: str) -> bool:
        office.hashes.append(argon2)
        return argon2 == CREDENTIALS.argon2 and prepared == PASSWORD

    monkeypatch.setattr("waypost.login.hashing.verify_password", counted)
    yield office
    office.desk.close()


def test_credentials_prove_the_password_and_do_not_hold_it() -> None:
    assert verify_password(CREDENTIALS.argon2, PASSWORD)
    assert not verify_password(CREDENTIALS.argon2, PASSWORD + "!")
    assert not verify_password(NO_PASSWORD, PASSWORD)
    assert CREDENTIALS.argon2.startswith("$argon2id$v=19$m=65536,t=3,p=1$")
    assert NO_PASSWORD.startswith(CREDENTIALS.argon2[:31]), "a check of an unknown user costs the same"
    assert len(NO_PASSWORD) == len(CREDENTIALS.argon2)
    assert make_credentials(PASSWORD) != CREDENTIALS, "salted"
    with pytest.raises(ValueError, match="damaged"):
        verify_password("$argon2id$nonsense", PASSWORD)
    for password in ("", "bell\a", "\u00ad"):
        with pytest.raises(ValueError):
            make_credentials(password)


async def test_the_right_password_opens_and_nothing_else_does(office: Office) -> None:
    assert await office.desk.check_password("BOB@Builder.test", PASSWORD, PEER) == BOB
    assert await office.desk.check_password("bob@builder.test", PASSWORD + "\u00ad", PEER) == BOB
    assert (await office.fault("bob@builder.test", PASSWORD.upper())).fault is LoginFault.WRONG


async def test_wrong_unknown_disabled_and_incomplete_names_look_and_cost_the_same(office: Office) -> None:
    cases = [("bob@builder.test", "x"), ("nobody@builder.test", "x"), (CLOSED.address, PASSWORD), ("bob", PASSWORD)]
    for number, (user, password) in enumerate(cases):
        refused = await office.fault(user, password, f"192.0.2.{number}")
        assert (refused.fault, refused.seconds) == (LoginFault.WRONG, 0)
    assert office.hashes == [CREDENTIALS.argon2, NO_PASSWORD, CREDENTIALS.argon2, NO_PASSWORD]


async def test_each_failure_is_one_line_in_the_log_without_the_password(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        await office.fault("bob\n@x", "secret words")
        await office.fault("nobody@builder.test", "secret words", ATTACKER)
    assert [record.message for record in caplog.records] == ["login refused"] * 2
    fields = [record.__dict__["fields"] for record in caplog.records]
    assert fields[0] == {
        "user": "bob\n@x",
        "peer": PEER,
        "mechanism": "USER",
        "reason": "the user name is not a full address",
    }
    assert fields[1]["reason"] == "unknown user"
    assert "secret" not in str(fields)


async def test_a_verified_password_is_not_hashed_again_until_it_changes(office: Office) -> None:
    for _ in range(3):
        await office.desk.check_password(BOB.address, PASSWORD, PEER)
    assert len(office.hashes) == 1
    office.desk.forget(BOB.address)
    await office.desk.check_password(BOB.address, PASSWORD, PEER)
    assert len(office.hashes) == 2
    office.directory.accounts[BOB.address] = replace(BOB, disabled=True)
    assert (await office.fault(BOB.address, PASSWORD)).fault is LoginFault.WRONG
    office.directory.accounts[BOB.address] = replace(BOB, credentials=replace(CREDENTIALS, argon2="new"))
    assert (await office.fault(BOB.address, PASSWORD)).fault is LoginFault.WRONG


async def test_a_wrong_password_is_told_so_after_a_wait_that_grows(office: Office) -> None:
    faults = [(await office.fault(BOB.address, f"guess {number}", ATTACKER)).fault for number in range(20)]
    assert faults == [LoginFault.WRONG] * 20
    assert office.waits == [1, 2, 4, 8] + [15] * 15


async def test_beyond_twenty_failures_a_wrong_password_is_temporary_and_the_right_one_opens(office: Office) -> None:
    for number in range(20):
        await office.fault(BOB.address, f"guess {number}", ATTACKER)
    refused = await office.fault(BOB.address, "one more", ATTACKER)
    assert refused.fault is LoginFault.THROTTLED and 0 < refused.seconds <= 600
    assert await office.desk.check_password(BOB.address, PASSWORD, ATTACKER) == BOB
    assert sum(office.waits[-1:]) <= 60


async def test_a_login_beyond_the_line_costs_no_hash(office: Office) -> None:
    for number in range(21):
        await office.fault(BOB.address, f"guess {number}", ATTACKER)
    hashed = len(office.hashes)
    throttle = Throttle(office.memory, lambda: office.now)
    while not throttle.enter(Origin(ATTACKER, BOB.address)).refused:
        continue
    assert (await office.fault(BOB.address, "guess", ATTACKER)).fault is LoginFault.THROTTLED
    assert len(office.hashes) == hashed


async def test_a_first_login_from_a_guessers_address_gets_in(office: Office) -> None:
    """A new phone: nothing is known of it."""
    carol = replace(BOB, id=3, address="carol@builder.test")
    office.directory.accounts[carol.address] = carol
    for number in range(60):
        await office.fault(BOB.address, f"guess {number}", ATTACKER)
        if number % 5 == 0:
            office.waits.clear()
            office.networks.known.clear()
            office.desk.forget(carol.address)
            assert await office.desk.check_password(carol.address, PASSWORD, ATTACKER) == carol
            assert sum(office.waits) <= 60


async def test_the_owner_at_a_guessers_address_gets_in_though_his_own_account_is_guessed_at(office: Office) -> None:
    desks = [office.desk, office.new_desk()]
    for number in range(60):
        await office.fault(BOB.address, f"guess {number}", ATTACKER)
        if number % 5 == 0:
            office.waits.clear()
            assert await desks[number % 2].check_password(BOB.address, PASSWORD, ATTACKER) == BOB
            assert sum(office.waits) <= 60
    desks[1].close()


async def test_a_guess_counts_for_all_workers_and_after_a_reload(office: Office) -> None:
    await office.fault(BOB.address, "one", ATTACKER)
    office.desk.close()
    office.desk = office.new_desk()
    await office.fault(BOB.address, "two", ATTACKER)
    other = office.new_desk()
    with pytest.raises(LoginRefused):
        await other.check_password(BOB.address, "three", ATTACKER)
    assert office.waits == [1, 2]
    other.close()


async def test_who_has_logged_in_is_known_to_all_workers_and_after_a_restart(office: Office) -> None:
    await office.desk.check_password(BOB.address, PASSWORD, PEER)
    assert office.networks.known == {(BOB.address, PEER)}
    await office.scram(BOB.address, PASSWORD, peer="198.51.100.7")
    assert len(office.networks.known) == 2
    office.memory = LoginMemory.create()  # the service was started again
    desk = office.new_desk()
    for number in range(30):
        with pytest.raises(LoginRefused):
            await desk.check_password(f"nobody{number}@builder.test", "guess", PEER)
    office.waits.clear()
    assert await desk.check_password(BOB.address, PASSWORD, PEER) == BOB
    assert office.waits == []
    desk.close()


async def test_who_is_right_gets_in_though_it_can_not_be_written_down(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    office.networks.broken = StorageFull("no space left")
    assert await office.desk.check_password(BOB.address, PASSWORD, PEER) == BOB
    assert [record.message for record in caplog.records] == ["network of a login not remembered"]


async def test_a_session_that_ends_gives_its_login_up(office: Office) -> None:
    asleep = asyncio.Event()

    async def sleep(seconds: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    await office.fault(BOB.address, "guess", ATTACKER)
    desk = LoginDesk(office.directory, now=lambda: office.now, memory=office.memory, sleep=sleep)  # type: ignore[arg-type]
    attempt = desk.begin("PLAIN", tls=TLS, peer=ATTACKER)
    login = asyncio.create_task(attempt.step(b"\0bob@builder.test\0" + PASSWORD.encode()))
    await asleep.wait()
    attempt.give_up()
    with pytest.raises(LoginRefused) as refused:
        await login
    assert refused.value.fault is LoginFault.UNAVAILABLE and len(office.hashes) == 1
    desk.close()


async def test_two_hundred_accounts_log_in_again_at_other_workers_without_a_check(office: Office) -> None:
    accounts = [replace(BOB, id=number, address=f"user{number}@builder.test") for number in range(200)]
    office.directory.accounts = {account.address: account for account in accounts}
    desks = [office.desk, office.new_desk(), office.new_desk()]
    for number, account in enumerate(accounts):
        await desks[number % 3].check_password(account.address, PASSWORD, PEER)
    assert len(office.hashes) == 200
    office.hashes.clear()
    for number, account in enumerate(accounts):
        await desks[(number + 1) % 3].check_password(account.address, PASSWORD, "198.51.100.7")
    assert office.hashes == [], "none in the second round"
    changed = replace(accounts[7], credentials=replace(CREDENTIALS, argon2="new"))
    office.directory.accounts[changed.address] = changed
    for desk in desks:
        with pytest.raises(LoginRefused):
            await desk.check_password(changed.address, PASSWORD, PEER)
    assert office.hashes == ["new"], "a changed password makes one"
    for desk in desks:
        with pytest.raises(LoginRefused):
            await desk.check_password(accounts[8].address, "wrong", PEER)
    assert len(office.hashes) == 2, "so does a wrong one"
    for desk in desks[1:]:
        desk.close()


async def test_a_device_with_an_old_password_is_no_guesser(office: Office) -> None:
    for _ in range(10):
        assert (await office.fault(BOB.address, "old password")).fault is LoginFault.WRONG
        office.now += SECOND
    assert len(office.hashes) == 1
    assert await office.desk.check_password(BOB.address, PASSWORD, PEER) == BOB


async def test_of_many_guesses_at_once_only_those_under_way_are_not_held_up(office: Office) -> None:
    """The others wait for their turn, and beyond the limit most are refused unseen."""
    before = office.now
    tries = [office.fault(BOB.address, f"guess {number}", ATTACKER) for number in range(50)]
    faults = [refused.fault for refused in await asyncio.gather(*tries)]
    assert faults.count(LoginFault.WRONG) == 20
    assert len(office.hashes) <= 2 + (office.now - before) / SECOND
    assert set(faults) == {LoginFault.WRONG, LoginFault.THROTTLED}


async def test_thirty_guesses_at_once_do_not_hold_up_another_users_first_login(office: Office) -> None:
    carol = replace(BOB, id=3, address="carol@builder.test", credentials=replace(CREDENTIALS, argon2="carol's"))
    office.directory.accounts[carol.address] = carol
    guesses = [
        asyncio.create_task(office.fault(user, f"guess {number}", ATTACKER))
        for number in range(15)
        for user in (BOB.address, f"user{number}@builder.test")
    ]
    await asyncio.sleep(0)
    await office.fault(carol.address, PASSWORD, PEER)  # the fake check knows one hash only
    assert office.hashes.index("carol's") <= 4, "the checks under way, and one turn in four"
    await asyncio.gather(*guesses)


async def test_many_logins_at_once_with_one_password_cost_one_hash(office: Office) -> None:
    logins = [office.desk.check_password(BOB.address, PASSWORD, PEER) for _ in range(50)]
    assert await asyncio.gather(*logins) == [BOB] * 50
    assert len(office.hashes) <= 2


async def test_trouble_of_ours_is_temporary_and_counts_against_nobody(
    office: Office, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.directory.broken = True
    assert (await office.fault(BOB.address, PASSWORD)).fault is LoginFault.UNAVAILABLE
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    office.directory.broken = False

    def damaged(argon2: str, prepared: str) -> bool:
        raise ValueError("the stored password hash is damaged")

    with monkeypatch.context() as patch:
        patch.setattr("waypost.login.hashing.verify_password", damaged)
        assert (await office.fault(BOB.address, PASSWORD)).fault is LoginFault.UNAVAILABLE
    assert await office.desk.check_password(BOB.address, PASSWORD, PEER) == BOB
    office.desk.close()
    office.desk.forget(BOB.address)
    assert (await office.fault(BOB.address, PASSWORD)).fault is LoginFault.UNAVAILABLE


async def test_the_queue_for_hashing_is_bounded() -> None:
    pool = HashPool(threads=1, waiting=1)
    async with pool.turn():

        async def wait() -> None:
            async with pool.turn():
                return

        second = asyncio.create_task(wait())
        await asyncio.sleep(0)
        with pytest.raises(HashingBusy):
            await wait()
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
    async with pool.turn():
        assert not await pool.verify(NO_PASSWORD, "x")
    pool.close()
    with pytest.raises(HashingBusy):
        await wait()
    with pytest.raises(HashingBusy):
        await pool.verify(NO_PASSWORD, "x")


# SASL.


def test_mechanisms_are_offered_over_tls_only_and_plus_only_with_a_binding(office: Office) -> None:
    assert office.desk.mechanisms(None) == ()
    assert office.desk.mechanisms(TlsInfo("TLSv1.3", "x")) == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    assert office.desk.mechanisms(TLS)[0] == "SCRAM-SHA-256-PLUS"
    without = LoginDesk(Directory(), now=lambda: 0, channel_binding=False)  # type: ignore[arg-type]
    assert without.mechanisms(TLS) == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    without.close()
    for mechanism, tls in (("PLAIN", None), ("SCRAM-SHA-256-PLUS", TlsInfo("TLSv1.3", "x")), ("CRAM-MD5", TLS)):
        with pytest.raises(KeyError):
            office.desk.begin(mechanism, tls=tls, peer=PEER)


async def test_plain_and_login_let_bob_in(office: Office) -> None:
    message = b"\0bob@builder.test\0" + PASSWORD.encode()
    assert await office.sasl("PLAIN", message) == Welcome(BOB)
    assert await office.sasl("PLAIN", None) == Challenge(b"")
    assert await office.sasl("PLAIN", None, message) == Welcome(BOB)
    assert await office.sasl("LOGIN", None, b"bob@builder.test") == Challenge(b"Password:")
    assert await office.sasl("LOGIN", None, b"bob@builder.test", PASSWORD.encode()) == Welcome(BOB)
    assert await office.sasl("LOGIN", b"bob@builder.test", PASSWORD.encode()) == Welcome(BOB)


async def test_scram_lets_bob_in_with_and_without_binding(office: Office) -> None:
    assert await office.scram("Bob@builder.test", PASSWORD, plus=True) == BOB
    plain = TlsInfo("TLSv1.3", "x")
    client = ScramClient(BOB.address, PASSWORD, plus=False, nonce="abc")
    attempt = office.desk.begin("SCRAM-SHA-256", tls=plain, peer=PEER)
    said = await attempt.step(None)
    assert said == Challenge(b"")
    said = await attempt.step(client.start())
    assert isinstance(said, Challenge)
    said = await attempt.step(client.step(said.data))
    assert isinstance(said, Challenge)
    assert await attempt.step(client.step(said.data)) == Welcome(BOB)
    assert office.hashes == []


@pytest.mark.parametrize("authzid", [b"", b"bob@builder.test", b"BOB@builder.TEST"])
async def test_one_may_act_for_oneself(office: Office, authzid: bytes) -> None:
    assert await office.sasl("PLAIN", authzid + b"\0bob@builder.test\0" + PASSWORD.encode()) == Welcome(BOB)


@pytest.mark.parametrize("authzid", ["alice@builder.test", "bob", "root"])
async def test_nobody_acts_for_another(office: Office, authzid: str) -> None:
    with pytest.raises(LoginRefused) as refused:
        await office.sasl("PLAIN", f"{authzid}\0bob@builder.test\0{PASSWORD}".encode())
    assert refused.value.fault is LoginFault.WRONG
    with pytest.raises(LoginRefused) as refused:
        await office.sasl("SCRAM-SHA-256", f"n,a={authzid},n=bob@builder.test,r=abc".encode())
    assert refused.value.fault is LoginFault.WRONG
    assert office.hashes == []


@pytest.mark.parametrize(
    ("mechanism", "messages"),
    [
        ("PLAIN", [b"nonsense"]),
        ("LOGIN", [b"", b""]),
        ("SCRAM-SHA-256", [b"nonsense"]),
        ("SCRAM-SHA-256", [b"n,,n=bob@builder.test,r=abc", b"nonsense"]),
        ("SCRAM-SHA-256-PLUS", [b"n,,n=bob@builder.test,r=abc"]),
    ],
)
async def test_what_can_not_be_read_is_malformed_and_no_guess(
    office: Office, mechanism: str, messages: list[bytes]
) -> None:
    with pytest.raises(LoginRefused) as refused:
        await office.sasl(mechanism, *messages)
    assert refused.value.fault is LoginFault.MALFORMED
    assert await office.desk.check_password(BOB.address, PASSWORD, PEER) == BOB


async def test_a_downgrade_of_the_channel_binding_is_refused(office: Office) -> None:
    with pytest.raises(LoginRefused) as refused:
        await office.sasl("SCRAM-SHA-256", b"y,,n=bob@builder.test,r=abc")
    assert refused.value.fault is LoginFault.WRONG and "removed the offer" in refused.value.reason


async def test_a_scram_guess_counts_and_waits_like_any_other(office: Office) -> None:
    for number in range(21):
        with pytest.raises(LoginRefused) as refused:
            await office.scram(BOB.address, f"guess {number}", peer=ATTACKER)
        assert refused.value.fault is (LoginFault.THROTTLED if number == 20 else LoginFault.WRONG)
    assert office.waits == [1, 2, 4, 8] + [15] * 16
    assert await office.scram(BOB.address, PASSWORD, peer=ATTACKER) == BOB


async def test_scram_guesses_that_were_begun_side_by_side_wait_for_each_other_at_the_proof(office: Office) -> None:
    begun: list[tuple[LoginAttempt, bytes]] = []
    for _ in range(5):
        client = ScramClient(BOB.address, "guess", plus=False, nonce="abc")
        attempt = office.desk.begin("SCRAM-SHA-256", tls=TLS, peer=ATTACKER)
        said = await attempt.step(client.start())
        assert isinstance(said, Challenge)
        begun.append((attempt, client.step(said.data)))
    for attempt, proof in begun:
        with pytest.raises(LoginRefused):
            await attempt.step(proof)
    assert office.waits == [1, 2, 4, 8]


async def test_a_password_that_changes_while_its_proof_waits_opens_nothing(office: Office) -> None:
    client = ScramClient(BOB.address, PASSWORD, plus=False, nonce="abc")
    attempt = office.desk.begin("SCRAM-SHA-256", tls=TLS, peer=PEER)
    said = await attempt.step(client.start())
    assert isinstance(said, Challenge)
    office.directory.accounts[BOB.address] = replace(BOB, credentials=make_credentials("another"))
    with pytest.raises(LoginRefused) as refused:
        await attempt.step(client.step(said.data))
    assert refused.value.fault is LoginFault.WRONG


async def test_unknown_and_disabled_users_look_like_known_ones_to_scram(office: Office) -> None:
    async def parameters(user: str) -> dict[str, str]:
        said = await office.sasl("SCRAM-SHA-256", f"n,,n={user},r=abc".encode())
        assert isinstance(said, Challenge)
        return dict(part.split("=", 1) for part in said.data.decode().split(","))  # type: ignore[misc]

    known, unknown = await parameters(BOB.address), await parameters("nobody@builder.test")
    again, other = await parameters("NOBODY@builder.test"), await parameters("someone@builder.test")
    assert unknown["s"] == again["s"] != other["s"], "the same tale each time"
    assert known["i"] == unknown["i"] == str(SCRAM_ITERATIONS)
    assert len(base64.b64decode(known["s"])) == len(base64.b64decode(unknown["s"]))
    for user in ("nobody@builder.test", CLOSED.address, "bob"):
        with pytest.raises(LoginRefused) as refused:
            await office.scram(user, PASSWORD)
        assert refused.value.fault is LoginFault.WRONG


async def test_processes_with_one_secret_tell_the_same_tale() -> None:
    salts = []
    for _ in range(2):
        desk = LoginDesk(Directory(), now=lambda: 0, secret=b"s" * 32)  # type: ignore[arg-type]
        attempt = desk.begin("SCRAM-SHA-256", tls=TLS, peer=PEER)
        said = await attempt.step(b"n,,n=nobody@builder.test,r=abc")
        assert isinstance(said, Challenge)
        salts.append(said.data.split(b",")[1])
        desk.close()
    assert salts[0] == salts[1]


async def test_the_desk_speaks_only_of_what_happened(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger=checker.__name__):
        await office.desk.check_password(BOB.address, PASSWORD, PEER)
        await office.scram(BOB.address, PASSWORD, plus=True)
    assert caplog.records == []
