"""AWS Signature Version 4, for requests to S3 with a body that is known: a pure function.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import quote

_ALGORITHM = "AWS4-HMAC-SHA256"


class Key(NamedTuple):
    """An access key, and the region it is used in."""

    id: str
    secret: str
    region: str


def encoded(path: str) -> str:
    """A path as it is signed and sent: all but unreserved characters and `/` in percent signs, once."""
    return quote(path, safe="/-_.~")


def signed(
    key: Key, method: str, path: str, headers: Mapping[str, str], body_sha256: str, now: datetime
) -> dict[str, str]:
    """The headers of a request, with those that authenticate it.

    Args:
        path: encoded, and without a query.
        headers: by small name, `host` among them; all of them are signed.
        body_sha256: 64 hex digits.
        now: UTC.
    """
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    given = {**headers, "x-amz-content-sha256": body_sha256, "x-amz-date": stamp}
    names = ";".join(sorted(given))
    lines = "".join(f"{name}:{' '.join(given[name].split())}\n" for name in sorted(given))
    request = f"{method}\n{path}\n\n{lines}\n{names}\n{body_sha256}"
    scope = f"{stamp[:8]}/{key.region}/s3/aws4_request"
    to_sign = f"{_ALGORITHM}\n{stamp}\n{scope}\n{sha256(request.encode()).hexdigest()}"
    secret = f"AWS4{key.secret}".encode()
    for part in (stamp[:8], key.region, "s3", "aws4_request"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    signature = hmac.new(secret, to_sign.encode(), "sha256").hexdigest()
    credential = f"{_ALGORITHM} Credential={key.id}/{scope},SignedHeaders={names},Signature={signature}"
    return {**given, "authorization": credential}
