"""What a file is, by its first bytes: a server or proxy may send something else under the name that was asked for."""

import re

_ZIP = b"PK\x03\x04"
_GZIP = b"\x1f\x8b"
_PICKLE = b"\x80"
_PAGE = re.compile(rb"\s*<(!doctype\s+html|html|head|\?xml)", re.IGNORECASE)


def looks_like(name: str, head: bytes) -> bool:
    """Whether the first bytes of a file (600 or more, or all of them) are of the kind that its name says.

    Kinds that have no mark of their own are only told from an HTML page.
    """
    if name.endswith(".tflite"):
        return head[4:8] == b"TFL3"
    if name.endswith(".safetensors"):
        return head[8:9] == b"{"
    if name.endswith((".pth", ".pt", ".bin")):
        return head.startswith((_ZIP, _PICKLE))  # torch.save since 1.6, and before
    if name.endswith((".tar.gz", ".tgz", ".tar")):
        return head.startswith(_GZIP) or head[257:262] == b"ustar"  # some servers unpack the gzip on the way
    if name.endswith(".zip"):
        return head.startswith(_ZIP)
    return bool(head) and not _PAGE.match(head)


def describe(head: bytes) -> str:
    """In a few words what such a file is instead."""
    if not head:
        return "an empty file"
    if _PAGE.match(head):
        title = re.search(rb"<title[^>]*>\s*([^<]*?)\s*</title>", head, re.IGNORECASE)
        return f'a web page titled "{_printable(title[1])}"' if title else "a web page"
    if all(byte >= 32 or byte in b"\t\n\r" for byte in head[:60]):
        return f'a file that begins with "{_printable(head)}"'
    return "a file of another kind"


def _printable(text: bytes) -> str:
    """Its first sixty characters that can be shown, in one line."""
    shown = "".join(c if c.isprintable() else " " for c in text.decode("utf-8", errors="ignore"))
    return " ".join(shown.split())[:60]
