"""What pages share that carry their own scripts, styles and data."""

import base64
import hashlib
import json
from typing import Any


def csp_hash(text: str) -> str:
    """A script or style as a source of a content security policy, in its quotes (CSP level 2, hash-source)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def script_json(document: Any) -> str:
    """JSON, ASCII only, that can stand inside a script element: nothing in it opens or closes a tag."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
