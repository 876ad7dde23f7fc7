from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text
from typer.testing import CliRunner

from lazaretto.audit import NOTHING, Checkpoint, Entry, open_note, read_checkpoint, sign_note, verify_chain
from lazaretto.cli import app
from lazaretto.config import load_workspace
from lazaretto.errors import IntegrityViolated, LazarettoError, UsageError
from lazaretto.gatekeeper import gate
from lazaretto.ledger import append_audit, checkpoint, open_ledger, read_audit
from lazaretto.pipelines.audit_trail import Wanted, read_trail
from lazaretto.pipelines.cases import list_cases
from lazaretto.pipelines.review import assign, discard, release_batch, word
from tests.harness import DATASET, HELD, NOW, no_fault, publish

if TYPE_CHECKING:
    from lazaretto.config import Workspace

KEY = Ed25519PrivateKey.generate()


def entries(count: int) -> list[tuple[Entry, str]]:
    made: list[tuple[Entry, str]] = []
    for seq in range(1, count + 1):
        entry = Entry(
            seq, NOW.isoformat(), "ann", "x.done", "d", f"s{seq}", {"n": seq}, made[-1][1] if made else NOTHING
        )
        made.append((entry, entry.hash))
    return made


def test_a_chain_holds() -> None:
    made = entries(5)
    assert (
        verify_chain(made, [("here", Checkpoint("o", 3, made[2][1])), ("there", Checkpoint("o", 5, made[4][1]))]) == 5
    )


@pytest.mark.parametrize("field", ["at", "actor", "action", "dataset", "subject", "detail"])
def test_an_altered_entry_breaks_the_chain(field: str) -> None:
    made = entries(3)
    value = {"n": 9} if field == "detail" else "other"
    forged = replace(made[1][0], **{field: value})
    with pytest.raises(IntegrityViolated, match=r"entry 2 .* was altered"):
        verify_chain([made[0], (forged, made[1][1]), made[2]])
    with pytest.raises(IntegrityViolated, match=r"entry 3 .* was altered"):
        verify_chain([made[0], (forged, forged.hash), made[2]])


def test_a_removed_entry_is_missed() -> None:
    made = entries(3)
    with pytest.raises(IntegrityViolated, match="entry 2 is missing"):
        verify_chain([made[0], made[2]])


def test_a_log_cut_short_or_written_anew_is_not_the_checkpoints() -> None:
    made = entries(3)
    seen = [("anchor", Checkpoint("o", 3, made[2][1]))]
    with pytest.raises(IntegrityViolated, match="has 2 entries but checkpoint anchor saw 3"):
        verify_chain(made[:2], seen)
    anew = Entry(3, "t", "eve", "x.done", "d", "s", {}, made[1][1])
    with pytest.raises(IntegrityViolated, match="not the one that checkpoint anchor"):
        verify_chain([*made[:2], (anew, anew.hash)], seen)


def test_a_checkpoint_is_a_c2sp_signed_note() -> None:
    body = Checkpoint("lazaretto/x/audit", 7, "ab" * 32).body
    note = sign_note(body, "lazaretto/x/audit", KEY)
    text_, _, signature = note.decode().rpartition("\n\n")
    assert text_.split("\n") == ["lazaretto/x/audit", "7", base64.b64encode(b"\xab" * 32).decode()]
    dash, name, encoded = signature.strip().split(" ")
    raw, public = base64.b64decode(encoded), KEY.public_key().public_bytes_raw()
    assert (dash, name) == ("—", "lazaretto/x/audit")
    assert raw[:4] == hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]
    KEY.public_key().verify(raw[4:], (text_ + "\n").encode())


@pytest.mark.parametrize("place", range(0, 150, 7))
def test_a_flipped_bit_in_a_checkpoint_is_refused(place: int) -> None:
    note = bytearray(sign_note(Checkpoint("o", 7, "ab" * 32).body, "o", KEY))
    note[place % len(note)] ^= 4
    with pytest.raises(IntegrityViolated, match="not signed"):
        open_note(bytes(note), "o", KEY.public_key(), Path("c"))


def test_a_checkpoint_of_another_log_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_bytes(sign_note(Checkpoint("other", 7, "ab" * 32).body, "mine", KEY))
    with pytest.raises(IntegrityViolated, match="that of 'other'"):
        read_checkpoint(path, "mine", KEY.public_key())


def test_an_action_and_its_entry_are_one_transaction(workspace: Workspace) -> None:
    with open_ledger(workspace) as ledger:
        with pytest.raises(LazarettoError), ledger.writing() as session:  # noqa: PT012  the block is what fails
            append_audit(session, Entry(0, "t", "ann", "x.done", "d", "s", {}))
            session.execute(text("INSERT INTO batches (id) VALUES ('x')"))  # breaks a constraint
        with ledger.reading() as session:
            assert list(read_audit(session)) == []


def test_entries_can_be_neither_changed_nor_deleted(workspace: Workspace) -> None:
    publish(workspace)
    with open_ledger(workspace) as ledger:
        for statement in ("UPDATE audit SET actor = 'eve'", "DELETE FROM audit"):
            with pytest.raises(LazarettoError, match="append-only"), ledger.writing() as session:
                session.execute(text(statement))


def test_the_anchor_keeps_every_checkpoint(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "worm").mkdir()
    config = workspace.root / "lazaretto.toml"
    config.write_text(config.read_text().replace('# anchor = "/mnt/worm/lazaretto"', f'anchor = "{tmp_path}/worm"'))
    workspace = load_workspace(workspace.root)
    publish(workspace)
    publish(workspace, 100)
    kept = sorted((tmp_path / "worm").iterdir())
    assert [path.name for path in kept] == [f"{workspace.id}-{n:012}.checkpoint" for n in (1, 2)]
    assert kept[-1].read_bytes() == workspace.checkpoint.read_bytes()


def test_without_its_anchor_nothing_is_done(workspace: Workspace, tmp_path: Path) -> None:
    config = workspace.root / "lazaretto.toml"
    config.write_text(config.read_text().replace('# anchor = "/mnt/worm/lazaretto"', f'anchor = "{tmp_path}/gone"'))
    with pytest.raises(UsageError, match=r"the anchor folder .* is not there"):
        publish(load_workspace(workspace.root))
    assert not workspace.store("flights").exists()


def test_nothing_is_signed_for_a_log_that_was_put_back(workspace: Workspace) -> None:
    publish(workspace)
    with open_ledger(workspace) as ledger:
        with ledger.writing() as session:
            session.execute(text("DROP TRIGGER audit_no_delete"))
            session.execute(text("DELETE FROM audit"))
        with pytest.raises(IntegrityViolated, match="not the one that checkpoint"):
            checkpoint(ledger)


def test_the_log_holds_no_content_and_no_secret(workspace: Workspace) -> None:
    publish(workspace)
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        said = str([(entry.subject, entry.detail) for entry, _ in read_audit(session)])
    assert "r5" not in said
    # The digits may stand within a digest by chance.
    assert not re.search(r"(?<![0-9a-f])1000(?![0-9a-f])", said)


def test_the_log_holds_no_reason_for_it_may_quote_a_record(workspace: Workspace) -> None:
    batch = publish(workspace, hold=True).batch
    case = list_cases(workspace)[0].id
    assign(workspace, [case], "bob", word("x of r5 is 1000"))
    discard(workspace, [case], word("x of r5 is 1000"))
    release_batch(workspace, batch, word("x of r5 is 1000"), check=no_fault)
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        entries = [entry for entry, _ in read_audit(session)]
    assert [entry.detail.get("reason", "") != "" for entry in entries] == [False, True, True, True]
    assert "1000" not in str([entry.detail for entry in entries])
    assert HELD not in str([entry.detail for entry in entries])


def test_an_entry_that_has_no_canonical_json_breaks_the_chain() -> None:
    made = entries(2)
    for detail in ({"n": float("nan")}, {"n": b"x"}):
        with pytest.raises(IntegrityViolated, match=r"entry 2 .* was altered"):
            verify_chain([made[0], (replace(made[1][0], detail=detail), made[1][1])])


def test_the_trail_gives_what_is_asked_for_the_newest_last(workspace: Workspace) -> None:
    first = publish(workspace).batch
    gate(DATASET, run="a run", workspace=workspace, now=NOW)
    second = publish(workspace, 100).batch
    whole = read_trail(workspace, Wanted(), 10)
    assert [entry.subject for entry in whole.entries] == [first, "a run", second]
    assert (whole.matching, whole.size, whole.signed, whole.findings) == (3, 3, 3, ())
    assert [e.subject for e in read_trail(workspace, Wanted(action="batch"), 10).entries] == [first, second]
    assert [e.subject for e in read_trail(workspace, Wanted(action="run.passed"), 10).entries] == ["a run"]
    newest = read_trail(workspace, Wanted(action="batch"), 1)
    assert ([entry.subject for entry in newest.entries], newest.matching) == ([second], 2)
    assert read_trail(workspace, Wanted(subject=first), 10).matching == 1
    assert read_trail(workspace, Wanted(actor="nobody"), 10).matching == 0
    assert read_trail(workspace, Wanted(dataset="boats"), 10).matching == 0
    later = NOW + timedelta(hours=5)
    assert read_trail(workspace, Wanted(since="6h"), 10, later).matching == 3
    assert read_trail(workspace, Wanted(since="4h"), 10, later).matching == 0
    assert read_trail(workspace, Wanted(since=NOW.isoformat()), 10).matching == 3
    assert read_trail(workspace, Wanted(since="2026-03-02"), 10).matching == 0
    for since in ("soon", "9" * 30 + "d"):
        with pytest.raises(UsageError, match="neither a time nor a span"):
            read_trail(workspace, Wanted(since=since), 10)


def test_an_altered_log_is_shown_with_what_is_wrong_and_ends_in_an_error(workspace: Workspace) -> None:
    publish(workspace)
    publish(workspace, 100)
    with open_ledger(workspace) as ledger, ledger.writing() as session:
        session.execute(text("DROP TRIGGER audit_no_update"))
        session.execute(text("UPDATE audit SET actor = 'nobody' WHERE seq = 1"))
    trail = read_trail(workspace, Wanted(), 10)
    assert [entry.seq for entry in trail.entries] == [2]
    with pytest.raises(IntegrityViolated, match=r"audit entry 1 .* was altered"):
        trail.require()
    done = CliRunner().invoke(app, ["audit", "--workspace", str(workspace.root), "--json"])
    assert done.exit_code == 5
    assert json.loads(done.output)["findings"] == list(trail.findings)


def test_the_command_says_one_line_an_entry(workspace: Workspace) -> None:
    batch = publish(workspace).batch
    done = CliRunner().invoke(app, ["audit", "--workspace", str(workspace.root)])
    assert done.exit_code == 0
    assert f"batch.admitted {DATASET} {batch} (" in done.output
    assert "1 of the 1 entries that match, 1 in the log; the newest checkpoint is of entry 1" in done.output
