"""Errors as napari notifications in plain words."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from napari.utils.notifications import show_error, show_info, show_warning

from cryosphere.errors import CryosphereError

__all__ = ["plainly", "show_error", "show_info", "show_warning", "tell"]


def tell(error: BaseException) -> None:
    """Show an error: a user's mistake as its sentence, memory and files plainly; our own bugs as napari shows them."""
    if isinstance(error, CryosphereError | OSError):
        show_error(str(error))
    elif isinstance(error, MemoryError):
        show_error("The memory of this machine is full; close other programs, or choose fewer particles.")
    else:
        raise error


def plainly(function: Callable) -> Callable:
    """Make a slot show errors that are a user's mistake instead of raising them."""

    @functools.wraps(function)
    def shown(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except (CryosphereError, OSError, MemoryError) as error:
            tell(error)
            return None

    return shown
