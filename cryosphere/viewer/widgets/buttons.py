"""Buttons of the panels."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QPushButton


def make_button(text: str, tip: str, slot: Callable[[], object]) -> QPushButton:
    """Button with a help text that calls a slot without arguments."""
    button = QPushButton(text)
    button.setToolTip(tip)
    button.clicked.connect(lambda *_: slot())
    return button
