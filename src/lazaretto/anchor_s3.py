"""A bucket with object lock as a place for audit checkpoints: an object that was put cannot be taken away again.

Credentials are what boto3 finds in the environment. An object written over keeps its earlier version, locked; every
version is read and compared. One with two versions, or hidden by a delete marker, is told of.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from lazaretto.anchors import SUFFIX, Glance, Kept, Note, unreachable
from lazaretto.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lazaretto.anchor_settings import AnchorSettings


@dataclass(frozen=True)
class BucketAnchor:
    """A bucket, or what begins with a prefix in one; see `lazaretto.anchors.Anchor`."""

    settings: AnchorSettings
    workspace: str

    def look(self) -> Glance:
        """What is there, or was before it was hidden."""
        self._require_lock()
        versions = [version for version in self._versions() if not version["deleted"]]
        names = sorted({str(version["Key"]).removeprefix(self.settings.prefix) for version in versions})
        # Of one that was written over the first version counts: the others were somebody else's.
        versions.sort(key=lambda version: (str(version["Key"]), -version["LastModified"].timestamp()))
        return Glance(tuple(names), self._note(versions[-1]) if versions else None)

    def put(self, name: str, content: bytes) -> None:
        """Put a checkpoint, locked for as long as the configuration says."""
        self._require_lock()
        with _Said(self.settings) as said:
            key = f"{self.settings.prefix}{name}"
            said.doing = f"put {key}"
            self._client.put_object(
                Bucket=self.settings.where,
                Key=key,
                Body=content,
                ContentType="text/plain",
                ChecksumAlgorithm="SHA256",
                ObjectLockMode="COMPLIANCE",
                ObjectLockRetainUntilDate=datetime.now(UTC) + self.settings.retain,
            )

    def everything(self) -> Kept:
        """All checkpoints in every version, and each that was written over or hidden."""
        self._require_lock()
        notes: list[Note] = []
        findings: list[str] = []
        for version in self._versions():
            name = str(version["Key"]).removeprefix(self.settings.prefix)
            if version["deleted"]:
                findings.append(
                    f"checkpoint {name} was taken away from {self.settings.name} at {version['LastModified']}"
                )
                continue
            note = self._note(version)
            twice = next((one for one in notes if one.name == note.name and one.content != note.content), None)
            if twice is not None:
                findings.append(f"checkpoint {name} was written over in {self.settings.name}")
            notes.append(note)
        return Kept(tuple(sorted(notes, key=lambda note: note.name)), tuple(findings))

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401  boto3 makes its classes at run time
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise UsageError(
                f"{self.settings.name} needs a package that is not installed", hint="pip install 'lazaretto[s3]'"
            ) from error
        limit = self.settings.timeout.total_seconds()
        config = Config(connect_timeout=limit, read_timeout=limit, retries={"total_max_attempts": 1})
        with _Said(self.settings):
            return boto3.client(
                "s3",
                region_name=self.settings.region,
                endpoint_url=self.settings.endpoint,
                config=config,
            )

    def _require_lock(self) -> None:
        """Refuse a bucket that would let a checkpoint be taken away.

        Raises:
            UsageError: It has no object lock.
        """
        client = self._client
        from botocore.exceptions import ClientError

        with _Said(self.settings) as said:
            said.doing = "object lock"
            try:
                found = client.get_object_lock_configuration(Bucket=self.settings.where)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != "ObjectLockConfigurationNotFoundError":
                    raise
                found = {}
        if found.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") != "Enabled":
            raise UsageError(
                f"{self.settings.name} has no object lock: what is put there could be taken away again",
                hint="make a bucket with object lock enabled, and name that one",
            )

    def _versions(self) -> Iterator[dict[str, Any]]:
        client, prefix = self._client, f"{self.settings.prefix}{self.workspace}-"
        with _Said(self.settings) as said:
            said.doing = "list"
            pages = client.get_paginator("list_object_versions").paginate(Bucket=self.settings.where, Prefix=prefix)
            for page in pages:
                for kind, deleted in (("Versions", False), ("DeleteMarkers", True)):
                    for version in page.get(kind, ()):
                        if str(version["Key"]).endswith(SUFFIX):
                            yield {**version, "deleted": deleted}

    def _note(self, version: dict[str, Any]) -> Note:
        key = str(version["Key"])
        with _Said(self.settings) as said:
            said.doing = f"get {key}"
            given = self._client.get_object(Bucket=self.settings.where, Key=key, VersionId=version["VersionId"])
            name = key.removeprefix(self.settings.prefix)
            return Note(name, f"s3://{self.settings.where}/{key}", given["Body"].read())


class _Said:
    """Turns what boto3 raises into one sentence."""

    def __init__(self, settings: AnchorSettings) -> None:
        self.settings = settings
        self.doing = "connect"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError

        if isinstance(error, ConnectTimeoutError | ReadTimeoutError):
            limit = self.settings.timeout.total_seconds()
            raise unreachable(self.settings, f"{self.doing} gave no answer within {limit:.0f} s") from error
        if isinstance(error, BotoCoreError | ClientError):
            raise unreachable(self.settings, f"{self.doing}: {' '.join(str(error).split())[:200]}") from error
