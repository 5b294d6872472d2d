"""`waypost init`: a configuration, a data directory and a certificate for a new host, and what to do next."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from waypost.cli.frame import called_as, fail


def _name(parse: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return an option's callback that checks names by a function of `config/names.py`."""

    def check(_context: click.Context, _parameter: click.Parameter, value: str | tuple[str, ...]) -> Any:
        from waypost.config import names

        try:
            if isinstance(value, str):
                return getattr(names, parse)(value)
            return tuple(dict.fromkeys(getattr(names, parse)(each) for each in value))
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return check


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--domain",
    "domains",
    required=True,
    multiple=True,
    metavar="NAME",
    callback=_name("parse_domain"),
    help="A domain whose mailboxes are on this host; may be repeated.",
)
@click.option(
    "--hostname",
    required=True,
    metavar="NAME",
    callback=_name("parse_host_name"),
    help="The full name of this host, such as mx.example.org.",
)
@click.option("--force", is_flag=True, help="Replace a configuration that exists. Mail and certificates stay.")
def init(directory: Path, domains: tuple[str, ...], hostname: str, force: bool) -> None:
    """Make a new host in DIR: waypost.toml, the data directory and a self-signed certificate."""
    from waypost.storage.folders import make_folder

    config = directory / "waypost.toml"
    try:
        if config.exists() and not force:
            fail(f"{config} exists already; --force replaces it")
        make_folder(directory / "data")
        made = [
            name
            for name, rsa in (("", False), ("rsa-", True))
            if _certificate(directory / "tls", name, hostname, domains, rsa=rsa)
        ]
        _write_configuration(config, hostname, domains)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    click.echo(f"Written: {config}")
    click.echo(f"Made:    {directory / 'data'}")
    for name in ("", "rsa-"):
        click.echo(
            f"{'Made:' if name in made else 'Kept:'}    {directory / 'tls' / f'{name}cert.pem'} and {name}key.pem"
        )
    _next_steps(config, hostname, domains)


def _write_configuration(config: Path, hostname: str, domains: tuple[str, ...]) -> None:
    from waypost.config.template import configuration

    fresh = config.with_name(config.name + ".new")
    fresh.write_text(configuration(hostname=hostname, domains=domains))
    fresh.replace(config)


def _certificate(folder: Path, name: str, hostname: str, domains: tuple[str, ...], *, rsa: bool) -> bool:
    """Make a certificate, unless one is there; returns whether it was made. `name` begins the names of its files."""
    certificate, key = folder / f"{name}cert.pem", folder / f"{name}key.pem"
    if certificate.exists() or key.exists():
        return False
    from datetime import UTC, datetime

    from waypost.service.certificates import self_signed

    folder.mkdir(exist_ok=True)
    public, private = self_signed(list(dict.fromkeys((hostname, *domains))), datetime.now(UTC), rsa=rsa)
    descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(private)
    certificate.write_bytes(public)
    return True


def _next_steps(config: Path, hostname: str, domains: tuple[str, ...]) -> None:
    option = f"--config {shlex.quote(str(config))}"
    program = called_as()
    click.echo("\nNext:")
    click.echo(f"  {program} account add alice@{domains[0]} {option}")
    click.echo(f"  {program} check {option}")
    click.echo(f"  {program} serve {option}")
    click.echo("\nPublish in DNS, with this host's public address for 192.0.2.1 (and an AAAA record if it has IPv6):")
    records = [(hostname, "A", "192.0.2.1"), (hostname, "TXT", '"v=spf1 a -all"')]
    for domain in domains:
        if domain == hostname:
            continue
        records += [(domain, "MX", f"10 {hostname}."), (domain, "TXT", '"v=spf1 mx -all"')]
    if hostname in domains:
        records.append((hostname, "MX", f"10 {hostname}."))
    width = max(len(name) for name, _, _ in records) + 1
    for name, kind, value in records:
        click.echo(f"  {name + '.':<{width}}  {kind:<3}  {value}")
    click.echo(f"\nAsk whoever gave you the address to set its PTR record (reverse name) to {hostname}.")
    click.echo("The certificate is self-signed: replace tls/cert.pem and tls/key.pem by one that mail programs trust.")
