"""What a coordinator tells, as plain values. Their fields are those of `--output json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fedner.v1 import common_pb2, monitoring_pb2


def _time(message: Any, field: str) -> datetime | None:
    if not message.HasField(field):
        return None
    return _instant(getattr(message, field))


def _instant(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)


def _number(message: Any, field: str) -> float | None:
    return getattr(message, field) if message.HasField(field) else None


@dataclass(frozen=True)
class Member:
    """One institution's part in a run."""

    institution: str
    state: str
    examples: int | None
    epsilon: float | None
    f1: float | None
    last_seen: datetime | None
    aside: str | None
    refused: str | None

    @classmethod
    def _of(cls, message: monitoring_pb2.Member) -> Member:
        return cls(
            institution=message.institution,
            state=message.state,
            examples=message.examples if message.HasField("examples") else None,
            epsilon=_number(message, "epsilon"),
            f1=_number(message, "f1"),
            last_seen=_time(message, "last_seen_ms"),
            aside=message.aside or None,
            refused=message.refused or None,
        )


@dataclass(frozen=True)
class Run:
    """A plan that is carried out."""

    run: str
    name: str
    state: str
    round: int
    rounds: int
    attempt: int
    method: str
    unit: str
    labels: tuple[str, ...]
    version: str
    failure: str | None
    members: tuple[Member, ...]
    dimension: int
    f1: float | None
    median_f1: float | None
    gate: str | None

    ENDS = frozenset({"completed", "failed", "cancelled"})

    @property
    def has_ended(self) -> bool:
        """Nothing will happen any more."""
        return self.state in self.ENDS

    @classmethod
    def _of(cls, message: monitoring_pb2.Run) -> Run:
        return cls(
            run=message.run,
            name=message.name,
            state=message.state,
            round=message.round,
            rounds=message.rounds,
            attempt=message.attempt,
            method=message.method,
            unit=message.unit,
            labels=tuple(message.labels),
            version=message.version.hex(),
            failure=message.failure or None,
            members=tuple(Member._of(member) for member in message.members),
            dimension=message.dimension,
            f1=_number(message, "f1"),
            median_f1=_number(message, "median_f1"),
            gate=message.gate or None,
        )


@dataclass(frozen=True)
class Institution:
    """Somebody who is enrolled."""

    institution: str
    state: str
    enrolled: datetime
    certificate_expires: datetime
    last_seen: datetime | None
    software: str | None

    @classmethod
    def _of(cls, message: monitoring_pb2.Institution) -> Institution:
        return cls(
            institution=message.institution,
            state=message.state,
            enrolled=_instant(message.enrolled_ms),
            certificate_expires=_instant(message.certificate_expires_ms),
            last_seen=_time(message, "last_seen_ms"),
            software=message.software or None,
        )


@dataclass(frozen=True)
class Version:
    """A model version: its record as the registry keeps it, and what was learnt about it later."""

    digest: str
    record: dict[str, Any]
    aliases: tuple[str, ...]
    f1: float | None
    median_f1: float | None
    #: institution -> type -> (found, imagined, missed)
    counts: dict[str, dict[str, tuple[int, int, int]]]

    @property
    def name(self) -> str:
        return str(self.record["name"])

    @classmethod
    def _of(cls, message: common_pb2.ModelVersion) -> Version:
        counts = {
            scores.institution: {
                of.label: (of.true_positives, of.false_positives, of.false_negatives) for of in scores.by_type
            }
            for scores in message.scores
        }
        return cls(
            digest=message.digest.hex(),
            record=json.loads(message.record),
            aliases=tuple(message.aliases),
            f1=_number(message, "f1"),
            median_f1=_number(message, "median_f1"),
            counts=counts,
        )


@dataclass(frozen=True)
class Event:
    """An entry of the coordinator's chain of events."""

    sequence: int
    time: datetime
    run: str | None
    kind: str
    #: What the event says beside its kind, `round` or `institution` for example.
    fields: dict[str, Any]

    @classmethod
    def _of(cls, message: monitoring_pb2.Event) -> Event:
        fields = dict(json.loads(message.entry)["event"])
        fields.pop("kind", None)
        return cls(
            sequence=message.sequence,
            time=_instant(message.time_ms),
            run=message.run or None,
            kind=message.kind,
            fields=fields,
        )


@dataclass(frozen=True)
class Explanation:
    """What a run waits for, until when, and what then."""

    run: str
    state: str
    awaits: str
    awaited: tuple[str, ...]
    until: datetime | None
    then: str
    expected: datetime | None
    finish: datetime | None
    # Who takes no part at present, and why.
    absent: dict[str, str]

    @classmethod
    def _of(cls, message: monitoring_pb2.ExplainResponse) -> Explanation:
        return cls(
            run=message.run,
            state=message.state,
            awaits=message.awaits,
            awaited=tuple(getattr(message, "from")),
            until=_time(message, "until_ms"),
            then=message.then,
            expected=_time(message, "expected_ms"),
            finish=_time(message, "finish_ms"),
            absent={absence.institution: absence.why for absence in message.absent},
        )
