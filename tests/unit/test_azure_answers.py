"""What the heads of answers say: when to ask again, and whether the Blob service has answered."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from imgsyncfs.stores.azure.retries import is_foreign, seconds_to_wait

NOON = 1_700_049_600.0
"""2023-11-15 12:00:00 UTC."""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("Wed, 15 Nov 2023 12:00:30 GMT", 30.0),
        ("Wed, 15 Nov 2023 12:00:30", 30.0),
        ("Wed, 15 Nov 2023 11:00:00 GMT", 0.0),
        ("-7", 0.0),
        ("7.5", 0.0),
        ("²", 0.0),
        ("nan", 0.0),
        ("soon", 0.0),
        ("Wed, 99 Nov 99999999 12:00:30 GMT", 0.0),
        ("", 0.0),
    ],
)
def test_a_server_says_for_how_long_or_until_when_it_is_not_to_be_asked(text: str, seconds: float) -> None:
    assert seconds_to_wait({"retry-after": text}, NOON) == seconds


def test_a_server_that_says_nothing_is_asked_when_one_likes() -> None:
    assert seconds_to_wait({}, NOON) == 0.0


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {"content-type": "text/html"}, True),
        (302, {"location": "http://10.0.0.1/"}, True),
        (403, {}, True),
        (404, {"server": "nginx"}, True),
        (511, {"x-ms-version": "1"}, True),
        (206, {"X-MS-Version": "1"}, False),
        (403, {"x-ms-error-code": "AuthenticationFailed"}, False),
        (429, {}, False),
        (500, {}, False),
        (503, {}, False),
    ],
)
def test_an_answer_without_the_services_headers_is_not_its_own_unless_a_gateway_is_busy(
    status: int, headers: Mapping[str, str], expected: bool
) -> None:
    assert is_foreign(status, headers) == expected
