"""The connection to a coordinator."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc

from fedner.v1 import monitoring_pb2, monitoring_pb2_grpc, operations_pb2, operations_pb2_grpc

from .views import Event, Explanation, Institution, Run, Version

_T = TypeVar("_T")
#: Lists of models grow with the history.
_MESSAGE_BYTES = 256 << 20
_NEW_ONES_ONLY = (1 << 64) - 1
_ACTION = operations_pb2.ControlRunRequest.Action


#: What an address has to answer in, where there are others.
_ANSWER_S = 5.0


def _first_that_answers(
    addresses: list[str], credentials: grpc.ChannelCredentials, options: list[tuple[str, int]]
) -> grpc.Channel:
    """A channel to the first address that answers; to the last one where none does."""
    *others, last = addresses
    for address in others:
        channel = grpc.secure_channel(address, credentials, options=options)
        try:
            grpc.channel_ready_future(channel).result(timeout=_ANSWER_S)
        except grpc.FutureTimeoutError:
            channel.close()
        else:
            return channel
    return grpc.secure_channel(last, credentials, options=options)


class Refused(Exception):
    """The coordinator refused a call. `code` never changes once released; `hint` says what to do."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(f"{message} [{code}]; hint: {hint}" if hint else f"{message} [{code}]")
        self.code = code
        self.message = message
        self.hint = hint

    @classmethod
    def _of(cls, error: grpc.RpcError) -> Refused:
        metadata = {key: value for key, value in (error.trailing_metadata() or ())}
        status = error.code().name.lower().replace("_", "-")
        code = str(metadata.get("fedner-code", status))
        return cls(code, str(error.details()), str(metadata.get("fedner-hint", "")))


class Coordinator:
    """A coordinator, as the holder of a certificate may see it: a viewer looks, an operator also controls runs."""

    def __init__(self, address: str | list[str], *, authority: bytes, certificate: bytes, key: bytes) -> None:
        """`address` is HOST:PORT, or a list of them that are tried in turn; the rest are PEM files' contents."""
        credentials = grpc.ssl_channel_credentials(authority, key, certificate)
        options = [("grpc.max_receive_message_length", _MESSAGE_BYTES)]
        addresses = [address] if isinstance(address, str) else address
        self._channel = _first_that_answers(addresses, credentials, options)
        self._monitoring = monitoring_pb2_grpc.MonitoringStub(self._channel)
        self._operations = operations_pb2_grpc.OperationsStub(self._channel)

    @classmethod
    def from_directory(cls, directory: str | Path, *, viewer: bool = False) -> Self:
        """With the operator's certificate of a coordinator's directory, or the viewer's."""
        folder = Path(directory)
        configuration = tomllib.loads((folder / "coordinator.toml").read_text())
        role = "viewer" if viewer else "operator"
        authorities = [folder / "authority" / "authority.pem", folder / "authority" / "next.pem"]
        return cls(
            configuration["address"],
            authority=b"".join(path.read_bytes() for path in authorities if path.exists()),
            certificate=(folder / role / f"{role}.pem").read_bytes(),
            key=(folder / role / f"{role}.key").read_bytes(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        request = monitoring_pb2.ListRunsRequest
        return [Run._of(run) for run in self._pages(self._monitoring.ListRuns, request, "runs")]

    def run(self, run: str) -> Run:
        return Run._of(self._ask(self._monitoring.GetRun, monitoring_pb2.GetRunRequest(run=run)))

    def explain(self, run: str) -> Explanation:
        """What the run waits for, until when, and what then."""
        return Explanation._of(self._ask(self._monitoring.Explain, monitoring_pb2.ExplainRequest(run=run)))

    def institutions(self) -> list[Institution]:
        request = monitoring_pb2.ListInstitutionsRequest
        found = self._pages(self._monitoring.ListInstitutions, request, "institutions")
        return [Institution._of(institution) for institution in found]

    def models(self) -> list[Version]:
        request = monitoring_pb2.ListModelsRequest
        return [Version._of(version) for version in self._pages(self._monitoring.ListModels, request, "models")]

    def model(self, version: str) -> Version:
        """By NAME@NUMBER, an alias, or a digest."""
        return Version._of(self._ask(self._monitoring.GetModel, monitoring_pb2.GetModelRequest(version=version)))

    def lineage(self, version: str) -> list[Version]:
        """The version and its ancestors, newest first."""

        def request(**more: Any) -> monitoring_pb2.GetModelRequest:
            return monitoring_pb2.GetModelRequest(version=version, **more)

        return [Version._of(found) for found in self._pages(self._monitoring.GetLineage, request, "models")]

    def watch(self, run: str | None = None, *, since: int | None = 1) -> Iterator[Event]:
        """Events from the number `since` on, then new ones as they happen; only new ones where it is None.

        It ends where the connection does. Go on with the number after the last event.
        """
        first = _NEW_ONES_ONLY if since is None else since
        request = monitoring_pb2.WatchRequest(run=run or "", **{"from": first})
        try:
            for event in self._monitoring.Watch(request):
                yield Event._of(event)
        except grpc.RpcError as error:
            raise Refused._of(error) from None

    def start(self, run: str) -> None:
        """Begins to recruit for the first round."""
        self._control(run, _ACTION.ACTION_START)

    def pause(self, run: str) -> None:
        """Gives out no more work and stops the clock."""
        self._control(run, _ACTION.ACTION_PAUSE)

    def resume(self, run: str) -> None:
        """Goes on where the run was paused."""
        self._control(run, _ACTION.ACTION_RESUME)

    def retry(self, run: str) -> None:
        """Goes on with a failed run from its last version."""
        self._control(run, _ACTION.ACTION_RETRY)

    def cancel(self, run: str) -> None:
        """Ends the run; its versions stay."""
        self._control(run, _ACTION.ACTION_CANCEL)

    def _control(self, run: str, action: int) -> None:
        self._ask(self._operations.ControlRun, operations_pb2.ControlRunRequest(run=run, action=action))

    def _ask(self, call: Callable[..., _T], request: object) -> _T:
        try:
            return call(request, timeout=60)
        except grpc.RpcError as error:
            raise Refused._of(error) from None

    def _pages(self, call: Callable[..., Any], request: Callable[..., object], field: str) -> Iterator[Any]:
        token = ""
        while True:
            page = self._ask(call, request(page_token=token))
            yield from getattr(page, field)
            token = page.next_page_token
            if not token:
                return
