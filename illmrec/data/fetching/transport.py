"""Requests that reach public addresses alone: names are resolved once, checked, and connected to as checked."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import httpx2

REDIRECTS = 5
_AGENT = "illmrec (a benchmark of recommender systems; research)"
_REMEMBERED = 60.0  # seconds that a checked address is used without asking again
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Refused(Exception):
    """A request that is not made, or an answer that is not taken; the message says why."""


@dataclass(frozen=True, kw_only=True)
class AddressRules:
    """Which addresses may be connected to: public ones.

    Attributes:
        allow_loopback: For tests against a server on this machine: addresses of the machine itself as well.
    """

    allow_loopback: bool = False

    def check(self, address: str) -> None:
        """Check a numeric address.

        Raises:
            Refused: If it is private, of this machine, of a link, of a group, or reserved.
        """
        ip = ipaddress.ip_address(address.partition("%")[0])
        for inner in _inside(ip):
            if self.allow_loopback and inner.is_loopback:
                continue
            if not inner.is_global or inner.is_multicast or inner.is_reserved:
                raise Refused(f"{address} is no public address")


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _inside(ip: Address) -> list[Address]:
    """Return an address, or the IPv4 addresses that it stands for."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return [ip.ipv4_mapped]
        if ip.sixtofour is not None:
            return [ip, ip.sixtofour]
        if ip.teredo is not None:
            return [ip, *ip.teredo]
        if ip in _NAT64:
            return [ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)]
    return [ip]


class CheckedTransport(httpx2.AsyncBaseTransport):
    """Resolves a host's name, checks every address of it, and connects to the first: no second look-up can differ.

    Each host has connections of its own, so that a certificate is checked for the host that was asked for.
    """

    def __init__(self, rules: AddressRules, *, per_host: int = 4) -> None:
        """Make a transport.

        Args:
            rules: Which addresses may be connected to.
            per_host: Connections to one host at a time.
        """
        self._rules = rules
        self._per_host = per_host
        self._context = httpx2.create_ssl_context(trust_env=False)
        self._hosts: dict[str, httpx2.AsyncHTTPTransport] = {}
        self._addresses: dict[tuple[str, int], tuple[float, str]] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Make a request.

        Raises:
            Refused: If the address is not one that may be connected to.
        """
        url = request.url
        if url.scheme not in ("http", "https"):
            raise Refused("only http and https are fetched")
        if not url.host:
            raise Refused("redirected to no address")
        if url.userinfo:
            raise Refused("the address holds a user's name or password")
        address = await self._address(url.host, url.port or (443 if url.scheme == "https" else 80))
        checked = httpx2.Request(
            request.method,
            url.copy_with(host=address),
            headers=request.headers,  # the host's name among them
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": url.host},
        )
        return await self._host(url.host).handle_async_request(checked)

    async def aclose(self) -> None:
        """Close all connections."""
        for host in self._hosts.values():
            await host.aclose()

    def _host(self, name: str) -> httpx2.AsyncHTTPTransport:
        if name not in self._hosts:
            limits = httpx2.Limits(max_connections=self._per_host, max_keepalive_connections=self._per_host)
            self._hosts[name] = httpx2.AsyncHTTPTransport(
                verify=self._context, trust_env=False, limits=limits
            )
        return self._hosts[name]

    async def _address(self, host: str, port: int) -> str:
        known = self._addresses.get((host, port))
        if known is not None and time.monotonic() - known[0] < _REMEMBERED:
            return known[1]
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpx2.ConnectError(f"{host} cannot be resolved ({error})") from None
        addresses = [str(sockaddr[0]) for *_, sockaddr in found]
        for address in addresses:
            self._rules.check(address)
        self._addresses[host, port] = time.monotonic(), addresses[0]
        return addresses[0]


def client(rules: AddressRules, *, per_host: int, idle: float) -> httpx2.AsyncClient:
    """Return a client for public addresses; proxies and netrc of the environment are not read.

    Args:
        rules: Which addresses may be connected to.
        per_host: Connections to one host at a time.
        idle: Seconds without a byte, or to connect, after which a request fails.
    """
    return httpx2.AsyncClient(
        transport=CheckedTransport(rules, per_host=per_host),
        trust_env=False,
        follow_redirects=False,
        timeout=httpx2.Timeout(idle, pool=None),
        # Packed answers could unpack to any size.
        headers={"User-Agent": _AGENT, "Accept-Encoding": "identity"},
    )


@contextlib.asynccontextmanager
async def answer(
    http: httpx2.AsyncClient, url: str, *, headers: Mapping[str, str] | None = None, packed: bool = False
) -> AsyncIterator[httpx2.Response]:
    """Give the answer to a request, its content not yet read; each redirect is checked as the first address is.

    Args:
        http: The client.
        url: The address.
        headers: Others than the client's.
        packed: Take an answer that calls itself packed by gzip: hosts say so of files that are ``.gz`` by themselves.

    Raises:
        Refused: If an address may not be connected to, or there are more than :data:`REDIRECTS` redirects.
        httpx2.HTTPError: If the network fails.
    """
    try:
        target = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:
        raise Refused(f"not an address ({error})") from None
    for _ in range(REDIRECTS + 1):
        response = await http.send(
            http.build_request("GET", target, headers=dict(headers or {})), stream=True
        )
        try:
            location = response.headers.get("location")
            if response.is_redirect and location:
                target = _joined(target, location)
                continue
            encoding = response.headers.get("content-encoding", "identity").lower()
            if encoding not in (("identity", "gzip", "x-gzip") if packed else ("identity",)):
                raise Refused("packed although it was asked for as it is")
            yield response
            return
        finally:
            await response.aclose()
    raise Refused(f"more than {REDIRECTS} redirects")


def _joined(base: httpx2.URL, location: str) -> httpx2.URL:
    try:
        return base.join(location)
    except (httpx2.InvalidURL, ValueError) as error:
        raise Refused(f"redirected to no address ({error})") from None


def in_words(error: BaseException) -> str:
    """Return what went wrong on the network, in few words."""
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, asyncio.TimeoutError | httpx2.TimeoutException):
        return "took too long"
    if isinstance(error, httpx2.RemoteProtocolError):
        return "redirected to no address" if "location header" in str(error) else "cut short"
    if isinstance(error, httpx2.ConnectError):
        return "host not reached"
    return f"{type(error).__name__}: {error}"[:120]
