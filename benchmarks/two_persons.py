"""Does anything that takes two persons ever happen with one? A random walk over everything people can do.

Analysts, approvers and an admin propose, approve, refuse, carry out, give wrong passwords, codes that were used,
proposals of other things, close accounts, take roles away, exchange passwords, and time goes by; some steps write into
the ledger past the rules. After every step that did something, the judge, which knows none of the rules' code, holds it
against what it saw: proposed by one, approved by another who was an open approver then and is one still, within its
time, of exactly this. Run by ``make bench-two_persons``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import argon2
import numpy as np
import pyotp
from sqlalchemy import text

from benchmarks.machine import machine
from lazaretto.accounts import add_account, change_account, set_codes, set_password
from lazaretto.authorisation import Who
from lazaretto.config import init_workspace
from lazaretto.errors import LazarettoError
from lazaretto.ledger import open_ledger
from lazaretto.proposals import Credentials, Wish, approve, done, propose, refuse, require_approved

if TYPE_CHECKING:
    from collections.abc import Callable

    from lazaretto.config import Workspace

STEPS = 100_000
PEOPLE = {"ann": ("analyst",), "ben": ("analyst", "approver"), "cleo": ("approver",), "dan": ("approver", "engineer")}
PASSWORDS = ("four words in a row", "some other words entirely")
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Person:
    """What the judge saw of somebody."""

    roles: tuple[str, ...]
    password: str
    codes: pyotp.TOTP
    active: bool = True
    key: int = 0
    """Which signing key it is, counted."""


@dataclass
class Seen:
    """What the judge saw of a proposal."""

    by: str
    what: dict[str, str]
    expires: datetime
    approved_by: str = ""
    key: int = -1
    ended: bool = False
    forged: bool = False
    """Its row was written past the rules since."""


@dataclass
class Walk:
    """One walk under way."""

    workspace: Workspace
    rng: np.random.Generator
    now: datetime = START
    people: dict[str, Person] = field(default_factory=dict)
    proposals: dict[str, Seen] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    breaches: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """Make the accounts."""
        root = Who("root-of-all", ("admin",))
        add_account(self.workspace, root, root.name, ("admin",), PASSWORDS[0], self.now)
        for name, roles in PEOPLE.items():
            add_account(self.workspace, root, name, roles, PASSWORDS[0], self.now)
            codes = pyotp.TOTP(pyotp.random_base32())
            who = Who(name, roles)
            set_codes(self.workspace, who, codes.secret, codes.at(self.now), self.now)
            self.people[name] = Person(roles, PASSWORDS[0], codes)

    def step(self) -> None:
        """Do one thing, and judge what came of it."""
        acts: list[tuple[Callable[[], None], float]] = [
            (self.propose, 3), (self.approve, 6), (self.carry_out, 6), (self.refuse, 1), (self.change, 0.6),
            (self.exchange, 0.1), (self.forge, 1),
        ]  # fmt: skip
        weights = np.array([weight for _, weight in acts])
        self.now += timedelta(seconds=float(self.rng.choice([1, 40, 3600, 86_400], p=[0.3, 0.6, 0.09, 0.01])))
        with suppress(LazarettoError):
            acts[int(self.rng.choice(len(acts), p=weights / weights.sum()))][0]()

    def once_in(self, share: float) -> bool:
        """Whether to do what is done in this share of all cases."""
        return bool(self.rng.random() < share)

    def someone(self) -> tuple[str, Who]:
        """Somebody, as a command would know them: with the roles they have now, if the account is open."""
        name = str(self.rng.choice(list(self.people)))
        person = self.people[name]
        return name, Who(name, person.roles if person.active else ())

    def some(self) -> str:
        """A proposal, most often a late one."""
        names = list(self.proposals)
        return names[-1 - min(int(self.rng.geometric(0.3)) - 1, len(names) - 1)] if names else "p-none"

    def propose(self) -> None:
        """Somebody wants something."""
        name, who = self.someone()
        what = {"cases": str(self.rng.integers(50))}
        wish = Wish("release", "flights", what, ("it is risky",), str(self.rng.integers(1 << 30)))
        made = propose(self.workspace, who, wish, self.now)
        self.proposals[made.id] = Seen(name, what, datetime.fromisoformat(made.expires_at))
        self.counts["proposed"] += 1

    def approve(self) -> None:
        """Somebody approves; often with a wrong password, or a code that was used."""
        name, who = self.someone()
        person, proposal = self.people[name], self.some()
        password = person.password if self.once_in(0.9) else PASSWORDS[person.password == PASSWORDS[0]]
        code = person.codes.at(self.now if self.once_in(0.9) else self.now - timedelta(minutes=5))
        approve(self.workspace, who, proposal, Credentials(password, code), self.now)
        seen = self.proposals[proposal]
        fits = password == person.password and person.codes.verify(code, for_time=self.now, valid_window=1)
        sound = self._may(name) and name != seen.by and self.now < seen.expires and not seen.ended and fits
        self._judge("approved", sound and not seen.approved_by, f"{name} approved {proposal}")
        seen.approved_by, seen.key = name, person.key
        seen.forged = False  # an approval that was forged before is written over by a real one

    def carry_out(self, chosen: str | None = None) -> None:
        """Somebody has it done; sometimes with a proposal of something else."""
        proposal = chosen or self.some()
        seen = self.proposals.get(proposal)
        other = {"cases": str(self.rng.integers(50))}
        what = dict(seen.what) if seen is not None and self.once_in(0.8) else other
        with open_ledger(self.workspace) as ledger, ledger.writing() as session:
            require_approved(session, self.workspace, proposal, "release", what, self.now)
            done(session, "ann", proposal, self.now.isoformat(timespec="seconds"))
        if seen is None:
            self.breaches.append(f"{proposal} was done, which nobody proposed")
            return
        sound = (
            bool(seen.approved_by) and seen.approved_by != seen.by and self._may(seen.approved_by)
            and self.people[seen.approved_by].key == seen.key and what == seen.what and self.now < seen.expires
            and not seen.ended and not seen.forged
        )  # fmt: skip
        self._judge("done", sound, f"{proposal} was done, {seen}")
        seen.ended = True

    def refuse(self) -> None:
        """Somebody ends a proposal."""
        proposal = self.some()
        refuse(self.workspace, self.someone()[1], proposal, self.now)
        self.proposals[proposal].ended = True
        self.counts["refused"] += 1

    def change(self) -> None:
        """The admin closes or opens an account, or gives it other roles."""
        name, _ = self.someone()
        person = self.people[name]
        active = self.once_in(0.8)
        roles = PEOPLE[name] if self.once_in(0.7) else ("analyst",)
        root = Who("root-of-all", ("admin",))
        change_account(self.workspace, root, name, roles=roles, active=active, now=self.now)
        if "approver" not in roles:
            person.key = -2  # whatever it is, it signs nothing
        person.roles, person.active = roles, active
        self.counts["changed"] += 1

    def exchange(self) -> None:
        """The admin sets another password, which makes another key."""
        name, _ = self.someone()
        person = self.people[name]
        new = PASSWORDS[person.password == PASSWORDS[0]]
        set_password(self.workspace, Who("root-of-all", ("admin",)), name, new, now=self.now)
        person.password, person.key = new, self.counts["exchanged"] + 1
        self.counts["exchanged"] += 1

    def forge(self) -> None:
        """Somebody writes into the ledger past the rules: approved, for longer, of something else."""
        proposal = self.some()
        change = str(
            self.rng.choice(
                [
                    "state = 'approved', decided_by = 'ben'",
                    "expires_at = '2099-01-01T00:00:00+00:00'",
                    "proposed_by = 'dan'",
                    'statement = replace(statement, \'"cases":"\', \'"cases":"1\')',
                    "approval = (SELECT max(approval) FROM proposals)",
                ]
            )
        )
        one, look = {"id": proposal}, text("SELECT * FROM proposals WHERE id = :id")
        with open_ledger(self.workspace) as ledger, ledger.writing() as session:
            before = session.execute(look, one).mappings().first()
            session.execute(text(f"UPDATE proposals SET {change} WHERE id = :id"), one)  # noqa: S608
            after = session.execute(look, one).mappings().first()
        if before is not None and before != after:
            self.proposals[proposal].forged = True
            self.counts["forged"] += 1
            self.carry_out(proposal)

    def _may(self, name: str) -> bool:
        return self.people[name].active and "approver" in self.people[name].roles

    def _judge(self, what: str, sound: bool, said: str) -> None:
        self.counts[what] += 1
        if not sound:
            self.breaches.append(f"{self.now}: {said}")


def walk(steps: int, seed: int, folder: Path) -> Walk:
    """Walk that many steps in a new workspace."""
    workspace, _ = init_workspace(folder)
    one = Walk(workspace, np.random.default_rng(seed))
    one.begin()
    for _ in range(steps):
        one.step()
    return one


def cheap_hashes() -> None:
    """Make password hashing cheap: it is not what is tested here, and would be all of the time."""
    plain = argon2.PasswordHasher
    argon2.PasswordHasher = lambda: plain(time_cost=1, memory_cost=8, parallelism=1)  # type: ignore[assignment,misc]


def main() -> None:
    """Print what was done and how many breaches there were."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="1,000 steps")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    steps = 1_000 if chosen.short else STEPS
    cheap_hashes()
    began, total = time.perf_counter(), Counter[str]()
    breaches: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        walks = max(1, steps // 5_000)  # a ledger of a hundred thousand audit entries would be slow to walk in
        for number in range(walks):
            one = walk(steps // walks, chosen.seed * 1_000 + number, Path(folder) / str(number))
            total, breaches = total + one.counts, breaches + one.breaches
            print(f"{(number + 1) * (steps // walks):,} steps, {time.perf_counter() - began:.0f} s", flush=True)
    print(machine())
    print(f"{steps:,} steps, seed {chosen.seed}: " + ", ".join(f"{count:,} {what}" for what, count in total.items()))
    print(f"breaches of the two-person rule: {len(breaches)} (target 0){': MISSED' if breaches else ''}")
    for breach in breaches[:10]:
        print(f"  {breach}")


if __name__ == "__main__":
    main()
