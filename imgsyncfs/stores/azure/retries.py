"""Asking Azure again: until a deadline, not before the server says, and not where something else answers.

The SDK bounds attempts, not time: with its defaults a dead server holds a reader for minutes. `RetryUntilDeadline`
gives each call a deadline, and no transport of `imgsyncfs.stores.azure.pipeline` lets an attempt run past it.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError, ClientAuthenticationError, ServiceResponseError
from azure.storage.blob import ExponentialRetry

if TYPE_CHECKING:
    from azure.core.pipeline import PipelineRequest, PipelineResponse

_LEAST_SHARE = 1 / 20
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 3.0

_PASSING = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
"""What may be over when the server is asked again."""


class ForeignAnswer(ServiceResponseError):
    """Something else answered in the server's place: a network's log-in page, a proxy, another kind of server.

    Attributes:
        reason: what came, for a message.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("foreign answer")
        self.reason = reason


def is_foreign(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer cannot be the Blob service's, which puts headers of its own into each one.

    That of a gateway which is overloaded, or finds no server behind it, is none the less one of the way there. See
    "Common REST API Headers", Azure Storage REST API.
    """
    if status == HTTPStatus.NETWORK_AUTHENTICATION_REQUIRED:
        return True
    is_passing = status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return not is_passing and not any(name.lower().startswith("x-ms-") for name in headers)


def seconds_to_wait(headers: Mapping[str, str], now: float) -> float:
    """How long a server wants not to be asked, by its ``Retry-After`` (RFC 9110, 10.2.3); 0 if it does not say.

    Args:
        headers: of its answer.
        now: the time, in Unix seconds.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, moment.timestamp() - now)


class RetryUntilDeadline(ExponentialRetry):
    """The SDK's retries, until the time is up.

    It hands the deadline on as the option ``deadline``, a time of `time.monotonic`, which the transports obey.

    Args:
        timeout: time for one call, in seconds, retries and pauses included, unless the call has that option already.
        clock: tells the time in Unix seconds: a server may name a time until which it is not to be asked.
    """

    def __init__(self, timeout: float, *, clock: Callable[[], float] = time.time) -> None:
        many = 1 << 30
        super().__init__(retry_total=many, retry_connect=many, retry_read=many, retry_status=many)
        self._timeout = timeout
        self._clock = clock

    def configure_retries(self, request: PipelineRequest[Any]) -> dict[str, Any]:
        """Start the clock."""
        settings: dict[str, Any] = super().configure_retries(request)
        options = request.context.options
        if options.get("deadline") is None:
            options["deadline"] = time.monotonic() + self._timeout
        settings["deadline"] = options["deadline"]
        return settings

    def send(self, request: PipelineRequest[Any]) -> PipelineResponse[Any, Any]:
        """Send a request again and again; the SDK's own loop takes HTTP 429 for the last word."""
        settings = self.configure_retries(request)
        while True:
            try:
                response = self.next.send(request)
            except AzureError as error:
                if not self.increment(settings, request.http_request, error=error):
                    raise
            else:
                answer = response.http_response
                if answer.status_code not in _PASSING or not self.increment(settings, request.http_request, answer):
                    # The SDK's client looks for it.
                    answer.location_mode = settings["mode"]
                    return response
            time.sleep(settings["pause"])

    def increment(
        self,
        settings: dict[str, Any],
        request: PipelineRequest[Any],
        response: PipelineResponse[Any, Any] | None = None,
        error: AzureError | None = None,
    ) -> bool:
        """Say whether to try again."""
        if error is not None and not _may_pass(error):
            return False
        if not super().increment(settings, request, response, error):
            return False
        pause = min(_FIRST_PAUSE * 2 ** (settings["count"] - 1), _LONGEST_PAUSE)
        # Many readers meet the same hitch: they should not all come back at once.
        settings["pause"] = pause * random.uniform(0.5, 1.0)  # noqa: S311  # no secret hangs on it
        if response is not None:
            settings["pause"] += seconds_to_wait(response.headers, self._clock())  # type: ignore[attr-defined]  # it is the answer
        # Without time left for the attempt itself, its own error would hide the one that says more.
        least = float(settings["pause"]) + self._timeout * _LEAST_SHARE
        return time.monotonic() + least < float(settings["deadline"])


def causes(error: BaseException) -> list[BaseException]:
    """An exception and what led to it, the outermost first."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        # The SDK raises some of its errors without a cause and keeps that in an attribute.
        cause = getattr(cause, "inner_exception", None) or cause.__cause__ or cause.__context__
    return found


def _may_pass(error: AzureError) -> bool:
    """Whether asking again can help: a wrong certificate, a failed log-in and a portal stay what they are for now."""
    lasting = (ssl.SSLCertVerificationError, ClientAuthenticationError, ForeignAnswer)
    return not any(isinstance(cause, lasting) for cause in causes(error))
