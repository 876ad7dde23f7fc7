"""Logins at an identity provider: over real HTTP, with everything checked that a forged answer would lack."""

from __future__ import annotations

import hashlib
import json
import threading
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import urlopen

import pytest
from joserfc import jwk, jwt

from lazaretto.accounts import change_account, list_accounts
from lazaretto.config import load_workspace
from lazaretto.errors import Forbidden, Unavailable, UsageError
from lazaretto.oidc import log_in
from lazaretto.pipelines.verify import verify
from lazaretto.sessions import of_secret
from tests.people import ROOT, account

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lazaretto.config import Workspace

KEY, OTHER_KEY = (jwk.RSAKey.generate_key(2048, {"kid": "one"}) for _ in range(2))


class Issuer:
    """A provider that asks nobody for a password; what it says can be bent."""

    def __init__(self) -> None:
        self.bent: dict[str, Any] = {}
        self.signs_with = KEY
        self.claims: dict[str, Any] = {"sub": "4711", "preferred_username": "Ann", "groups": ["stewards", "others"]}
        self.asked: dict[str, str] = {}
        server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.url = f"http://127.0.0.1:{server.server_port}"
        self.server = server
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def visit(self, address: str) -> None:
        """What a person's browser does."""
        self.asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        back = {"code": "c0de", "state": self.bent.get("state", self.asked["state"])}
        threading.Thread(target=lambda: urlopen(self.asked["redirect_uri"] + "?" + urlencode(back)).read()).start()  # noqa: S310

    def token(self, form: dict[str, list[str]]) -> dict[str, str]:
        proof = urlsafe_b64encode(hashlib.sha256(form["code_verifier"][0].encode()).digest()).rstrip(b"=").decode()
        if proof != self.asked["code_challenge"] or form["code"] != ["c0de"]:
            return {"error": "invalid_grant"}
        now = int(datetime.now(UTC).timestamp())
        claims = {
            "iss": self.url,
            "aud": "lz",
            "exp": now + 60,
            "iat": now,
            "nonce": self.asked["nonce"],
            **self.claims,
        }
        claims |= {name: value for name, value in self.bent.items() if name != "state"}
        signed = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.signs_with)
        return {"access_token": "a", "token_type": "Bearer", "id_token": signed}

    def handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, content: object) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(content).encode())

            def do_GET(self) -> None:
                if self.path == "/keys":
                    self.answer({"keys": [KEY.as_dict(private=False)]})
                    return
                ends = {f"{name}_endpoint": f"{issuer.url}/{name}" for name in ("authorization", "token")}
                self.answer({"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys", **ends})

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self.answer(issuer.token(form))

            def log_message(self, *_arguments: object) -> None:
                pass

        return Handler


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    one = Issuer()
    yield one
    one.server.shutdown()
    one.server.server_close()


@pytest.fixture
def place(workspace: Workspace, issuer: Issuer) -> Workspace:
    table = f'\n[oidc]\nissuer = "{issuer.url}"\nclient_id = "lz"\nroles = {{ stewards = ["analyst"] }}\n'
    file = workspace.root / "lazaretto.toml"
    file.write_text(file.read_text() + table)
    account(workspace, "root-of-all", "admin")
    return load_workspace(workspace.root)


def test_whom_the_provider_knows_comes_in_with_the_roles_of_their_groups(place: Workspace, issuer: Issuer) -> None:
    name, secret = log_in(place, issuer.visit)
    assert (name, of_secret(place, secret).roles) == ("ann", ("analyst",))
    assert verify(place).findings == ()
    again, _ = log_in(place, issuer.visit)
    assert again == "ann"
    assert [one.name for one in list_accounts(place)] == ["ann", "root-of-all"]


@pytest.mark.parametrize(
    "bent",
    [
        {"iss": "https://elsewhere"}, {"aud": "another"}, {"exp": 1}, {"nonce": "of another login"}, {"sub": None},
        {"state": "of another login"},
    ],
    ids=lambda bent: next(iter(bent)),
)  # fmt: skip
def test_an_answer_that_is_not_for_this_login_is_refused(
    bent: dict[str, Any], place: Workspace, issuer: Issuer
) -> None:
    issuer.bent = bent
    with pytest.raises(Forbidden, match=r"does not hold|did not confirm"):
        log_in(place, issuer.visit)
    assert [one.name for one in list_accounts(place)] == ["root-of-all"]


def test_a_token_signed_with_another_key_is_refused(place: Workspace, issuer: Issuer) -> None:
    issuer.signs_with = OTHER_KEY
    with pytest.raises(Forbidden, match="does not hold"):
        log_in(place, issuer.visit)


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"groups": ["others"]}, "is in no group that has a role here"),
        ({"groups": []}, "is in no group"),
        ({"preferred_username": "a b"}, "is no name of an account"),
        ({"preferred_username": "root-of-all"}, "belongs to somebody else"),
    ],
)
def test_who_has_no_role_or_takes_anothers_name_does_not_come_in(
    claims: dict[str, Any], said: str, place: Workspace, issuer: Issuer
) -> None:
    issuer.claims |= claims
    with pytest.raises(Forbidden, match=said):
        log_in(place, issuer.visit)


def test_a_name_given_anew_at_the_provider_and_a_closed_account_stay_out(place: Workspace, issuer: Issuer) -> None:
    log_in(place, issuer.visit)
    issuer.claims["sub"] = "4712"
    with pytest.raises(Forbidden, match="belongs to somebody else"):
        log_in(place, issuer.visit)
    issuer.claims["sub"] = "4711"
    change_account(place, ROOT, "ann", active=False)
    with pytest.raises(Forbidden, match="is closed"):
        log_in(place, issuer.visit)


def test_nobody_coming_back_and_no_provider_are_said(place: Workspace, workspace: Workspace, issuer: Issuer) -> None:
    with pytest.raises(Unavailable, match=r"nobody came back .* within 0\.2 s"):
        log_in(place, lambda _address: None, waits=0.2)
    with pytest.raises(UsageError, match="no identity provider is configured"):
        log_in(workspace, lambda _address: None)
    issuer.server.shutdown()
    issuer.server.server_close()
    with pytest.raises(Unavailable, match="does not answer"):
        log_in(place, lambda _address: None)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('issuer = "https://x"', "needs 'issuer', 'client_id' and 'roles'"),
        ('issuer = "https://x"\nclient_id = "y"\nroles = {a = ["king"]}', "the roles of 'a'"),
        ('isuer = "https://x"', "did you mean 'issuer'"),
    ],
)
def test_a_wrong_configuration_is_one_sentence(table: str, said: str, workspace: Workspace) -> None:
    file = workspace.root / "lazaretto.toml"
    file.write_text(file.read_text() + f"\n[oidc]\n{table}\n")
    with pytest.raises(UsageError, match=said):
        load_workspace(workspace.root)
