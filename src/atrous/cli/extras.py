"""What a command needs that a plain installation has not."""

from collections.abc import Iterator
from contextlib import contextmanager

from atrous.errors import AtrousError


@contextmanager
def needs_lightning(what: str) -> Iterator[None]:
    """Around imports: where Lightning is missing they end in one line that says what needs it, and the mend.

    Raises:
        AtrousError: it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "lightning":
            raise
        raise AtrousError(f"{what} needs Lightning: pip install 'atrous[train]'") from None
