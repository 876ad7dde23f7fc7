"""Logins by an identity provider (OpenID Connect Core 1.0), where ``lazaretto.toml`` names one.

The authorization code flow with PKCE for native programs (RFC 8252, RFC 7636): a person opens a page of the provider in
their browser, which sends them back to a port of their own machine. The identity token's signature is held against the
provider's published keys, and its issuer, audience, time and nonce are checked. Roles come from a claim, at each login;
who has none of the roles that are mapped does not come in.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from lazaretto.accounts import NAME, new_row, tell_account
from lazaretto.authorisation import PEOPLE
from lazaretto.errors import Forbidden, Unavailable, UsageError
from lazaretto.ledger import changing
from lazaretto.sessions import open_session
from lazaretto.tables import AccountRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from lazaretto.config import Workspace

SECRET_VARIABLE = "LAZARETTO_OIDC_SECRET"  # noqa: S105  the name of a variable
WAITS = 300.0
"""Seconds a person has to log in at the provider."""
_TIMEOUT = 20.0
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "Ed25519"]
"""Signatures that are believed: of public keys alone, for the provider's secret is not only the provider's."""


@dataclass(frozen=True)
class Provider:
    """What ``lazaretto.toml`` says of the provider, in its table ``[oidc]``."""

    issuer: str
    client_id: str
    name_claim: str
    """Claim with the name of the account."""
    roles_claim: str
    """Claim with the list of groups."""
    roles: dict[str, tuple[str, ...]]
    """Group -> roles."""


@dataclass(frozen=True)
class Person:
    """Whom an identity token is of."""

    name: str
    subject: str
    """Issuer and the provider's own id of them: never given to another."""
    roles: tuple[str, ...]


def log_in(
    workspace: Workspace, tell: Callable[[str], None], *, waits: float = WAITS, now: datetime | None = None
) -> tuple[str, str]:
    """Let a person log in at the provider; gives their name and the session's secret.

    Args:
        workspace: The workspace.
        tell: Called with the address that the person is to open in a browser.
        waits: Seconds they have for it.
        now: The time; the clock's by default.

    Raises:
        UsageError: No provider is configured.
        Unavailable: It cannot be reached, or nobody came back in time.
        Forbidden: It does not say who they are, or they have none of the roles.
    """
    provider = workspace.oidc
    if provider is None:
        raise UsageError("no identity provider is configured", hint="[oidc] in lazaretto.toml; see docs/people.md")
    moment = now or datetime.now(UTC)
    claims = _claims(provider, tell, waits, moment)
    person = person_of(provider, claims)
    with changing(workspace) as session:
        row = session.get(AccountRow, person.name)
        if row is None:
            row = new_row(person.name, person.roles, subject=person.subject)
            session.add(row)
            tell_account(session, "account.added", provider.issuer, row, moment)
        if row.subject != person.subject:
            raise Forbidden(
                f"the account {person.name} belongs to somebody else than the provider says",
                hint="an admin looks into it: names at the provider may have been given anew",
            )
        if not row.active:
            raise Forbidden(f"the account {person.name} is closed", hint="an admin can open it again")
        if tuple(json.loads(row.roles)) != person.roles:
            row.roles = json.dumps(person.roles)
            tell_account(session, "account.changed", provider.issuer, row, moment)
        secret = open_session(session, person.name, moment)
    return person.name, secret


def person_of(provider: Provider, claims: dict[str, Any]) -> Person:
    """Whom verified claims are of, and what they may be here.

    Raises:
        Forbidden: The claims lack a usable name, or no group of theirs is mapped to a role.
    """
    name, groups = claims.get(provider.name_claim), claims.get(provider.roles_claim, [])
    if not isinstance(name, str) or not NAME.fullmatch(name.lower()):
        raise Forbidden(f"the provider's claim {provider.name_claim!r} is no name of an account: {str(name)[:60]!r}")
    groups = [groups] if isinstance(groups, str) else groups
    found = {role for group in groups if isinstance(group, str) for role in provider.roles.get(group, ())}
    if not found:
        raise Forbidden(
            f"{name} is in no group that has a role here", hint="an admin maps groups to roles: [oidc.roles]"
        )
    return Person(name.lower(), f"{provider.issuer} {claims['sub']}", tuple(role for role in PEOPLE if role in found))


def _claims(provider: Provider, tell: Callable[[str], None], waits: float, now: datetime) -> dict[str, Any]:
    import requests
    from authlib.common.errors import AuthlibBaseError
    from authlib.integrations.requests_client import OAuth2Session

    verifier, nonce = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
    with _Return() as back, requests.Session() as plain:
        about = _document(plain, provider.issuer.rstrip("/") + "/.well-known/openid-configuration")
        if about.get("issuer") != provider.issuer:
            raise Forbidden(f"the provider says that it is {about.get('issuer')!r}, not {provider.issuer!r}")
        client = OAuth2Session(
            client_id=provider.client_id,
            client_secret=os.environ.get(SECRET_VARIABLE),
            redirect_uri=back.address,
            scope="openid profile email",
            code_challenge_method="S256",
            default_timeout=_TIMEOUT,
        )
        with client:
            address, state = client.create_authorization_url(
                about["authorization_endpoint"], code_verifier=verifier, nonce=nonce
            )
            tell(address)
            answer = back.wait(waits)
            try:
                token = client.fetch_token(
                    about["token_endpoint"], authorization_response=back.address + "?" + answer, state=state,
                    code_verifier=verifier,
                )  # fmt: skip
            except (AuthlibBaseError, requests.RequestException, ValueError) as error:
                raise Forbidden(f"the provider did not confirm the login: {str(error)[:200]}") from error
        return _verified(token, _document(plain, about["jwks_uri"]), provider, nonce, now)


def _verified(
    token: dict[str, Any], keys: dict[str, Any], provider: Provider, nonce: str, now: datetime
) -> dict[str, Any]:
    from joserfc import jwk, jwt
    from joserfc.errors import JoseError

    try:
        found = jwt.decode(token["id_token"], jwk.KeySet.import_key_set(keys), algorithms=_ALGORITHMS)  # type: ignore[arg-type]
        registry = jwt.JWTClaimsRegistry(
            now=int(now.timestamp()),
            leeway=60,
            iss={"essential": True, "value": provider.issuer},
            aud={"essential": True, "value": provider.client_id},
            exp={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        registry.validate(found.claims)
    except (JoseError, KeyError, ValueError, TypeError) as error:
        raise Forbidden(
            f"the provider's identity token does not hold: {str(error)[:200] or 'none was given'}"
        ) from error
    claims: dict[str, Any] = found.claims
    return claims


def _document(client: Any, address: str) -> dict[str, Any]:  # noqa: ANN401  a session of requests, imported late
    import requests

    if urlsplit(address).scheme != "https" and urlsplit(address).hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise UsageError(f"the identity provider's address {address} is not https")
    try:
        answer = client.get(address, timeout=_TIMEOUT)
        answer.raise_for_status()
        content = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise Unavailable(f"the identity provider does not answer at {address}: {str(error)[:200]}") from error
    if not isinstance(content, dict):
        raise Unavailable(f"the identity provider's answer at {address} is none")
    return content


class _Return:
    """A port of this machine, for one answer."""

    def __enter__(self) -> Self:
        answers = self._answers = []  # type: list[str]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                if parts.path == "/callback":
                    answers.append(parts.query)
                self.send_response(200 if parts.path == "/callback" else 404)
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.end_headers()
                self.wfile.write(b"You can close this page and go back to the terminal.\n")

            def log_message(self, *_arguments: object) -> None:
                """Say nothing: the query holds the code."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/callback"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()

    def wait(self, seconds: float) -> str:
        """The query of the answer."""
        import time

        until = time.monotonic() + seconds
        while not self._answers and (left := until - time.monotonic()) > 0:
            self._server.timeout = min(left, 1.0)
            self._server.handle_request()
        if not self._answers:
            raise Unavailable(f"nobody came back from the identity provider within {seconds:g} s", hint="try again")
        return self._answers[0]
