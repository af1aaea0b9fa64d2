"""Addresses without what opens the files behind them: signatures, tokens, keys, passwords."""

import re
from typing import Any

SECRET = (
    r"(?:x-amz|x-goog)-[\w-]+|awsaccesskeyid|googleaccessid|signature|sig|se|st|sp|sr|sv|spr|srt|ss"
    r"|sip|sk[a-z]{1,3}|s[ads]uoid|saoid|expires|policy|key-pair-id|[\w-]*(?:token|secret|password)"
    r"|(?:(?:api|access|account|subscription|sas)[-_]?)?key|auth|authorization|credentials?|jwt"
)
"""Names of parameters that open a file, by which Azure, AWS, Google and others sign addresses."""
_PARAMETER = re.compile(rf"(?<=[?&])(?:{SECRET})=[^&#\s\"']*&?", re.I)
_USER = re.compile(r"(?<=://)[^/?#\s@]+@")
_FIELD = re.compile(
    r".*(token|secret|password|credential|signature|(account|api|access)_?key)", re.I
)


def without_secrets(text: str) -> str:
    """The text, its addresses without signatures, tokens, keys, users and passwords."""
    bare = _PARAMETER.sub("", _USER.sub("", text)) if "://" in text else text
    return bare if bare == text else re.sub(r"[?&](?=$|[#\s\"'])", "", bare)


def bare_record(value: Any) -> Any:
    """A JSON value whose texts have no secrets, without the fields that are named as one."""
    if isinstance(value, dict):
        kept = {name: of for name, of in value.items() if not _FIELD.fullmatch(str(name))}
        return {name: bare_record(of) for name, of in kept.items()}
    if isinstance(value, list | tuple):
        return [bare_record(of) for of in value]
    return without_secrets(value) if isinstance(value, str) else value
