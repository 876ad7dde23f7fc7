from __future__ import annotations

import base64
import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lazaretto import attest
from lazaretto.attest import NOTHING, Attestation, LogFile, StoreFile, digest_of_files
from lazaretto.errors import IntegrityViolated

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KEY = Ed25519PrivateKey.generate()
OTHER = Ed25519PrivateKey.generate()
FILES = [StoreFile(f"b-{i}/part-00000.parquet", f"{i:064x}", 100 + i, 10 * i) for i in range(1, 4)]


def chain_of(count: int) -> list[Attestation]:
    made: list[Attestation] = []
    for epoch in range(1, count + 1):
        active = FILES[:epoch]
        made.append(
            Attestation(
                workspace="lz-1",
                dataset="flights",
                epoch=epoch,
                version=epoch + 1,
                kind="admission",
                unit=f"b-{epoch}",
                batch=f"b-{epoch}",
                issued_at="2026-03-01T12:00:00+00:00",
                previous=made[-1].digest if made else NOTHING,
                active_digest=digest_of_files(active),
                active_files=epoch,
                active_rows=sum(file.rows for file in active),
                added=(FILES[epoch - 1],),
                log=tuple(LogFile(v, f"{v:064x}") for v in ([0, 1, 2] if epoch == 1 else [epoch + 1])),
            )
        )
    return made


def signed(folder: Path, made: list[Attestation], key: Ed25519PrivateKey = KEY) -> Path:
    for item in made:
        attest.sign(folder, item, key)
    return folder


def verified(folder: Path) -> attest.Chain:
    return attest.verify(folder, "lz-1", "flights", KEY.public_key())


def test_what_is_signed_is_read_back_as_it_was(tmp_path: Path) -> None:
    made = chain_of(3)
    chain = verified(signed(tmp_path, made))
    assert list(chain.attestations) == made
    assert chain.head == made[-1]
    assert chain.at(3) == made[1]
    assert list(chain.files(2).values()) == FILES[:2]


def test_it_is_an_in_toto_statement_in_a_dsse_envelope(tmp_path: Path) -> None:
    signed(tmp_path, chain_of(1))
    envelope = json.loads((tmp_path / "000001.dsse.json").read_bytes())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"][1] == {"name": FILES[0].path, "digest": {"sha256": FILES[0].sha256}}
    pae = b"DSSEv1 28 application/vnd.in-toto+json %d " % len(base64.b64decode(envelope["payload"]))
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    KEY.public_key().verify(signature, pae + base64.b64decode(envelope["payload"]))


def test_every_flipped_byte_of_a_signed_payload_is_refused(tmp_path: Path) -> None:
    path = signed(tmp_path, chain_of(1)) / "000001.dsse.json"
    envelope = json.loads(path.read_bytes())
    payload = base64.b64decode(envelope["payload"])
    for place in range(0, len(payload), 37):
        altered = bytearray(payload)
        altered[place] ^= 1
        path.write_text(json.dumps({**envelope, "payload": base64.b64encode(altered).decode()}))
        with pytest.raises(IntegrityViolated, match="not signed"):
            verified(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff", b'{"payload": 1, "payloadType": "x", "signatures": []}']
)
def test_what_is_no_envelope_is_refused_in_words(content: bytes, tmp_path: Path) -> None:
    (signed(tmp_path, chain_of(1)) / "000001.dsse.json").write_bytes(content)
    with pytest.raises(IntegrityViolated, match=r"no signed envelope|not signed"):
        verified(tmp_path)


def test_another_key_another_type_another_data_set_are_refused(tmp_path: Path) -> None:
    made = chain_of(1)
    with pytest.raises(IntegrityViolated, match="not signed"):
        verified(signed(tmp_path / "key", made, Ed25519PrivateKey.generate()))
    (tmp_path / "type").mkdir()
    (tmp_path / "type" / "000001.dsse.json").write_bytes(attest.seal(made[0].payload(), "text/plain", KEY))
    with pytest.raises(IntegrityViolated, match="'text/plain'"):
        verified(tmp_path / "type")
    with pytest.raises(IntegrityViolated, match="epoch 1 of flights"):
        attest.verify(signed(tmp_path / "set", made), "lz-1", "trains", KEY.public_key())
    with pytest.raises(IntegrityViolated, match="in lz-1"):
        attest.verify(tmp_path / "set", "lz-2", "flights", KEY.public_key())


@pytest.mark.parametrize("gone", [1, 2])
def test_a_removed_attestation_is_missed(gone: int, tmp_path: Path) -> None:
    (signed(tmp_path, chain_of(3)) / f"{gone:06}.dsse.json").unlink()
    with pytest.raises(IntegrityViolated, match=f"{gone:06}.dsse.json of flights is missing"):
        verified(tmp_path)


def test_an_older_attestation_in_a_newer_place_is_refused(tmp_path: Path) -> None:
    signed(tmp_path, chain_of(3))
    shutil.copy(tmp_path / "000002.dsse.json", tmp_path / "000003.dsse.json")
    with pytest.raises(IntegrityViolated, match=r"000003\.dsse\.json is that of epoch 2"):
        verified(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"previous": "1" * 64}, "does not follow"),
        ({"version": 2}, "not after 2"),
        ({"log": ()}, "every commit"),
        ({"active_digest": "2" * 64}, "add up"),
        ({"active_rows": 5}, "add up"),
        ({"removed": (FILES[0].path,)}, "add up"),
        ({"epoch": 7}, "epoch 7"),
    ],
)
def test_a_signed_attestation_that_does_not_fit_is_refused(
    change: dict[str, object], said: str, tmp_path: Path
) -> None:
    first, second = chain_of(2)
    signed(tmp_path, [first, second])
    forged = replace(second, **change)
    (tmp_path / "000002.dsse.json").write_bytes(attest.seal(forged.payload(), attest.PAYLOAD_TYPE, KEY))
    with pytest.raises(IntegrityViolated, match=said):
        verified(tmp_path)


def test_a_statement_that_says_more_than_its_predicate_is_refused(tmp_path: Path) -> None:
    (made,) = chain_of(1)
    statement = json.loads(made.payload())
    statement["subject"] = []
    signed(tmp_path, [made])
    payload = attest.canonical_json(statement)
    (tmp_path / "000001.dsse.json").write_bytes(attest.seal(payload, attest.PAYLOAD_TYPE, KEY))
    with pytest.raises(IntegrityViolated, match="no attestation of this kind"):
        verified(tmp_path)


def test_nothing_published_is_an_empty_chain(tmp_path: Path) -> None:
    assert verified(tmp_path / "none").head is None


def test_a_chain_that_was_read_before_is_not_verified_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, opener = chain_of(3), attest.opened
    opened: list[str] = []
    signed(tmp_path, made[:2], OTHER)
    assert attest.verify(tmp_path, "lz-1", "flights", OTHER.public_key()).head == made[1]
    signed(tmp_path, made[2:], OTHER)

    def counted(content: bytes, kind: str, keys: Mapping[str, Ed25519PublicKey], where: str) -> bytes:
        opened.append(where.rpartition("/")[2])
        return opener(content, kind, keys, where)

    monkeypatch.setattr(attest, "opened", counted)
    for _ in range(2):
        assert list(attest.verify(tmp_path, "lz-1", "flights", OTHER.public_key()).attestations) == made
    assert opened == ["000003.dsse.json"]


def test_what_was_verified_before_counts_for_no_other_key_data_set_or_place(tmp_path: Path) -> None:
    signed(tmp_path, chain_of(3))
    verified(tmp_path)
    for workspace, dataset, key in (("lz-2", "flights", KEY), ("lz-1", "trains", KEY), ("lz-1", "flights", OTHER)):
        with pytest.raises(IntegrityViolated):
            attest.verify(tmp_path, workspace, dataset, key.public_key())
    shutil.copy(tmp_path / "000003.dsse.json", tmp_path / "000002.dsse.json")
    with pytest.raises(IntegrityViolated, match=r"000002\.dsse\.json"):
        verified(tmp_path)
