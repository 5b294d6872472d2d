"""SASL mechanisms: the examples of their RFCs, an implementation that is not ours, and hostile messages."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramClient as TheirClient
from scramp import ScramException, ScramMechanism

from waypost.protocol.sasl import (
    LoginClient,
    PlainClient,
    PreparationError,
    SaslError,
    ScramClient,
    choose,
    prep,
    saslprep,
)
from waypost.protocol.sasl.scram import ScramKeys, bindings, derive_keys
from waypost.protocol.sasl.server import Distrusted, LoginServer, PasswordClaim, PlainServer, ScramClaim, ScramServer
from waypost.protocol.session import TlsInfo

NONCE = "rOprNGfwEbeRWgbNEkqO"  # RFC 7677 section 3
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
KEYS = derive_keys("pencil", SALT, 4096)
END_POINT = ("tls-server-end-point", b"e" * 32)
TLS = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", server_end_point=END_POINT[1])


def scram_client(**changes: object) -> ScramClient:
    settings: dict[str, object] = {"plus": False, "binding": None, "nonce": NONCE} | changes
    return ScramClient("user", "pencil", **settings)  # type: ignore[arg-type]


def scram_server(*, plus: bool = False, offered: dict[str, bytes] | None = None) -> ScramServer:
    return ScramServer(plus=plus, bindings=offered or {}, nonce=SERVER_NONCE)


def converse(client: ScramClient, server: ScramServer, keys: ScramKeys = KEYS) -> ScramClaim:
    """Let both sides talk to the end."""
    claim = server.first(client.start())
    proof = server.final(client.step(server.challenge(keys)))
    assert not client.done
    assert client.step(proof) == b""
    assert client.done
    return claim


# SASLprep.


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("e\u0301", "\u00e9"),
        ("\u0627\u0628", "\u0627\u0628"),
        ("\U0001f407", "\U0001f407"),
    ],
)
def test_saslprep_prepares_as_rfc_4013_section_3_shows(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize("text", ["\u0007", "\u06271", "a\u0627", "", "\u00ad", "\ud800", "\u200e", "\ue000", "\x7f"])
def test_saslprep_refuses_what_rfc_4013_prohibits(text: str) -> None:
    with pytest.raises(PreparationError):
        saslprep(text)


def test_a_text_of_any_length_takes_little_to_prepare(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    monkeypatch.setattr(prep, "_PROHIBITED", ((lambda character: bool(looked_at.append(character)), "nothing"),))
    assert len(saslprep("\ufdfa" * 1024)) == 18 * 1024
    assert len(looked_at) == len(set(looked_at)), "each character once"
    for text in ("\ufdfa" * 1025, "a" * 100_000):
        with pytest.raises(PreparationError, match="longer than 1024 characters"):
            saslprep(text)


@given(st.text())
def test_saslprep_is_stable_or_refuses(text: str) -> None:
    try:
        prepared = saslprep(text)
    except PreparationError:
        return
    assert saslprep(prepared) == prepared


# PLAIN and LOGIN.


def test_plain_reads_the_examples_of_rfc_4616() -> None:
    assert PlainServer().step(b"\0tim\0tanstaaftanstaaf") == PasswordClaim("", "tim", "tanstaaftanstaaf")
    assert PlainServer().step(b"Ursel\0Kurt\0xipj3plmq") == PasswordClaim("Ursel", "Kurt", "xipj3plmq")
    assert PlainServer().step(None) == b""


@pytest.mark.parametrize("message", [b"", b"\0", b"\0\0", b"\0a\0", b"\0\0b", b"a\0b\0c\0d", b"\0\xff\0x", b"tim\0pw"])
def test_plain_refuses_what_is_no_plain_message(message: bytes) -> None:
    with pytest.raises(SaslError):
        PlainServer().step(message)


@given(st.text(min_size=1), st.text(min_size=1))
def test_what_the_plain_client_says_the_server_reads(user: str, password: str) -> None:
    try:
        client = PlainClient(user, password)
    except (ValueError, UnicodeEncodeError):
        assert "\0" in user + password or not (user + password).isascii()
        return
    claim = PlainServer().step(client.start())
    assert client.done and isinstance(claim, PasswordClaim) and claim.authzid == ""


@pytest.mark.parametrize("initial", [True, False])
def test_login_asks_for_the_name_and_then_for_the_password(initial: bool) -> None:
    client, server = LoginClient("tim", "secret"), LoginServer()
    said = server.step(client.start() if initial else None)
    while isinstance(said, bytes):
        assert not client.done
        said = server.step(client.step(said))
    assert said == PasswordClaim("", "tim", "secret")
    assert client.done
    with pytest.raises(SaslError):
        client.step(b"Again:")


# SCRAM.


def test_the_scram_exchange_of_rfc_7677() -> None:
    client, server = scram_client(), scram_server()
    first = client.start()
    assert first == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert server.first(first) == ScramClaim("", "user")
    challenge = server.challenge(KEYS)
    assert challenge == f"r={NONCE}{SERVER_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode()
    final = client.step(challenge)
    assert final == f"c=biws,r={NONCE}{SERVER_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode()
    proof = server.final(final)
    assert proof == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    assert client.step(proof) == b"" and client.done


def test_scram_plus_binds_to_the_channel() -> None:
    server = scram_server(plus=True, offered=dict([END_POINT]))
    client = scram_client(plus=True, binding=END_POINT)
    assert client.start().startswith(b"p=tls-server-end-point,,")
    converse(scram_client(plus=True, binding=END_POINT), server)


def test_a_client_bound_to_another_channel_is_distrusted() -> None:
    server = scram_server(plus=True, offered=dict([END_POINT]))
    client = scram_client(plus=True, binding=(END_POINT[0], b"m" * 32))
    server.first(client.start())
    with pytest.raises(Distrusted):
        server.final(client.step(server.challenge(KEYS)))


def test_an_offer_of_plus_that_was_taken_away_is_noticed() -> None:
    client = scram_client(binding=END_POINT)
    assert client.start().startswith(b"y,,"), "it could bind, and saw no -PLUS"
    with pytest.raises(Distrusted):
        scram_server(offered=dict([END_POINT])).first(client.start())
    converse(scram_client(binding=END_POINT), scram_server())  # a server that really has none


@pytest.mark.parametrize(
    ("plus", "message"),
    [
        (True, b"n,,n=user,r=abc"),
        (True, b"y,,n=user,r=abc"),
        (True, b"p=tls-unique,,n=user,r=abc"),
        (True, b"p=tls-exporter,,n=user,r=abc"),
        (False, b"p=tls-server-end-point,,n=user,r=abc"),
        (False, b"q,,n=user,r=abc"),
        (False, b"n,user,n=user,r=abc"),
        (False, b"n,,n=,r=abc"),
        (False, b"n,,n=us=er,r=abc"),
        (False, b"n,,m=x,n=user,r=abc"),
        (False, b"n,,r=abc,n=user"),
        (False, b"n,,n=user,r="),
        (False, b"n,,n=user,r=a\x01"),
        (False, b"n,,n=us\0er,r=abc"),
        (False, b"n,,n=\xff,r=abc"),
        (False, b"n,,n=user,r=abc,bad"),
        (False, b"n," + b"a" * 20000),
        (False, b""),
    ],
)
def test_malformed_first_messages_are_refused(plus: bool, message: bytes) -> None:
    with pytest.raises(SaslError):
        scram_server(plus=plus, offered=dict([END_POINT]) if plus else None).first(message)


def test_the_name_may_have_commas_and_equal_signs_and_an_identity_may_be_named() -> None:
    claim = scram_server().first(b"n,a=a=2Cb,n=a=2Cb=3Dc=3D2C,r=abc,x=extension")
    assert claim == ScramClaim("a,b", "a,b=c=2C")


def answer_of(change: str = "", with_: str = "") -> tuple[ScramServer, bytes]:
    client, server = scram_client(), scram_server()
    server.first(client.start())
    return server, client.step(server.challenge(KEYS)).replace(change.encode(), with_.encode())


def test_only_a_proof_of_the_same_login_is_believed() -> None:
    for change, with_ in ((SERVER_NONCE, "other"), ("c=biws", "c=biwx!"), (",p=", ",q="), ("dHzb", "dHz")):
        server, final = answer_of(change, with_)
        with pytest.raises(SaslError):
            server.final(final)
    for change, with_ in (("c=biws", "c=eSws"), ("dHzb", "dHzc")):
        server, final = answer_of(change, with_)
        with pytest.raises(Distrusted):
            server.final(final)
    server, final = answer_of()
    assert server.final(final).startswith(b"v=")


@pytest.mark.parametrize(
    "challenge",
    [
        b"r=other,s=c2FsdA==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO,s=c2FsdA==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOabc,s=c2FsdA==,i=4095",
        b"r=rOprNGfwEbeRWgbNEkqOabc,s=c2FsdA==,i=1000001",
        b"r=rOprNGfwEbeRWgbNEkqOabc,s=c2FsdA==,i=99999999999999999999999",
        b"r=rOprNGfwEbeRWgbNEkqOabc,s=c2FsdA==,i=-4096",
        b"r=rOprNGfwEbeRWgbNEkqOabc,s=!,i=4096",
        b"m=1,r=rOprNGfwEbeRWgbNEkqOabc,s=c2FsdA==,i=4096",
        b"e=unknown-user",
        b"\xff",
        b"",
    ],
)
def test_the_client_answers_no_challenge_that_it_can_not_trust(challenge: bytes) -> None:
    client = scram_client()
    client.start()
    with pytest.raises(SaslError):
        client.step(challenge)
    assert not client.done


@pytest.mark.parametrize("final", [b"v=AAAA", b"e=other-error", b"", b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="])
def test_a_server_that_does_not_know_the_password_is_found_out(final: bytes) -> None:
    client, server = scram_client(), scram_server()
    server.first(client.start())
    client.step(server.challenge(KEYS))
    with pytest.raises(SaslError):
        client.step(final)
    assert not client.done


def test_nothing_may_follow_the_end_of_a_login() -> None:
    client = scram_client()
    converse(client, scram_server())
    with pytest.raises(SaslError):
        client.step(b"v=more")


# Somebody else's implementation.


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("password", ["pencil", "I\u00adX", "p\u00e4ss, w=rd"])
def test_their_client_logs_in_to_our_server(plus: bool, password: str) -> None:
    name = "SCRAM-SHA-256-PLUS" if plus else "SCRAM-SHA-256"
    client = TheirClient([name], "us,er=", password, channel_binding=END_POINT if plus else None)
    server = scram_server(plus=plus, offered=dict([END_POINT]) if plus else None)
    assert server.first(client.get_client_first().encode()) == ScramClaim("", "us,er=")
    client.set_server_first(server.challenge(derive_keys(saslprep(password), SALT, 10_000)).decode())
    client.set_server_final(server.final(client.get_client_final().encode()).decode())


@pytest.mark.parametrize("plus", [False, True])
def test_our_client_logs_in_to_their_server(plus: bool) -> None:
    mechanism = ScramMechanism("SCRAM-SHA-256-PLUS" if plus else "SCRAM-SHA-256")
    salt, stored_key, server_key, iterations = mechanism.make_auth_info("I\u00adX")
    server = mechanism.make_server(
        lambda user: (salt, stored_key, server_key, iterations), channel_binding=END_POINT if plus else None
    )
    client = ScramClient("us,er=", "IX", plus=plus, binding=END_POINT if plus else None, nonce=NONCE)
    server.set_client_first(client.start().decode())
    server.set_client_final(client.step(server.get_server_first().encode()).decode())
    assert client.step(server.get_server_final().encode()) == b"" and client.done


def test_their_server_refuses_our_client_with_a_wrong_password() -> None:
    mechanism = ScramMechanism("SCRAM-SHA-256")
    salt, stored_key, server_key, iterations = mechanism.make_auth_info("right")
    server = mechanism.make_server(lambda user: (salt, stored_key, server_key, iterations))
    client = scram_client()
    server.set_client_first(client.start().decode())
    with pytest.raises(ScramException):
        server.set_client_final(client.step(server.get_server_first().encode()).decode())


# The choice.


@pytest.mark.parametrize(
    ("offered", "tls", "name"),
    [
        (("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "LOGIN"), TLS, "SCRAM-SHA-256-PLUS"),
        (("PLAIN", "scram-sha-256"), TLS, "SCRAM-SHA-256"),
        (("SCRAM-SHA-256-PLUS", "PLAIN"), TlsInfo("TLSv1.3", "x"), "PLAIN"),
        (("LOGIN", "XOAUTH2"), TLS, "LOGIN"),
        (("PLAIN", "LOGIN"), None, None),
        (("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"), None, "SCRAM-SHA-256"),
        ((), TLS, None),
    ],
)
def test_the_best_mechanism_is_chosen(offered: tuple[str, ...], tls: TlsInfo | None, name: str | None) -> None:
    chosen = choose(offered, "user", "pencil", tls)
    assert (chosen.name if chosen else None) == name


def test_the_chosen_client_says_whether_it_could_bind() -> None:
    plain_tls = TlsInfo("TLSv1.3", "x")
    exporter = TlsInfo("TLSv1.3", "x", server_end_point=b"e", exporter=b"x" * 32)
    for tls, start in ((TLS, b"y,,"), (plain_tls, b"n,,"), (exporter, b"y,,")):
        client = choose(["SCRAM-SHA-256"], "user", "pencil", tls)
        assert client is not None and client.start().startswith(start)
    bound = choose(["SCRAM-SHA-256-PLUS"], "user", "pencil", exporter)
    assert bound is not None and bound.start().startswith(b"p=tls-exporter,,")
    assert list(bindings(exporter)) == ["tls-exporter", "tls-server-end-point"]


# No input crashes anything.


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_no_message_crashes_a_server(messages: list[bytes]) -> None:
    for server in (PlainServer(), LoginServer()):
        for message in messages:
            try:
                said = server.step(message)
            except SaslError:
                break
            assert isinstance(said, bytes | PasswordClaim)


_ATTRIBUTES = st.lists(st.sampled_from(["n,,", "y,,", "p=x,", "n=u", "r=abc", "c=biws", "p=AAAA", "m=1", "=", ","]))


@given(st.binary(max_size=80) | _ATTRIBUTES.map(lambda parts: ",".join(parts).encode()), st.binary(max_size=80))
def test_no_message_crashes_a_scram_server(first: bytes, final: bytes) -> None:
    server = scram_server()
    with pytest.raises(SaslError):  # nobody proved anything
        server.first(first)
        server.challenge(KEYS)
        server.final(final)


@given(st.binary(max_size=80) | _ATTRIBUTES.map(lambda parts: ",".join(parts).encode()))
def test_no_challenge_crashes_a_client(challenge: bytes) -> None:
    for client in (scram_client(), PlainClient("user", "pencil"), LoginClient("user", "pencil")):
        client.start()
        try:
            said = client.step(challenge)
        except SaslError:
            continue
        assert isinstance(said, bytes)
