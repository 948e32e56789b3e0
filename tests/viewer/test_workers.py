"""Requests to work beside the window."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from cryosphere.errors import InputError


@pytest.fixture
def parent(screen):
    from qtpy.QtCore import QObject
    from qtpy.QtWidgets import QApplication

    app = QApplication.instance() or QApplication([])
    yield QObject()
    app.processEvents()


def test_the_newest_request_wins(parent, session, wait_until):
    from cryosphere.viewer.widgets.workers import Latest

    got, gate, calls = [], threading.Event(), []

    def compute(frame: int) -> np.ndarray:
        calls.append(frame)
        gate.wait(10)
        return session.positions(session.path[frame : frame + 1])

    worker = Latest(compute, got.append, parent)
    for frame in range(20):
        worker.request(frame)
    gate.set()
    wait_until(lambda: len(got) == 2 and worker.is_idle)
    assert calls == [0, 19]
    np.testing.assert_allclose(got[1], session.positions(session.path[19:20]), atol=1e-4)
    worker.close()
    worker.request(3)
    assert worker.is_idle


def test_errors_are_told_in_plain_words(parent, session, wait_until):
    from napari.utils.notifications import notification_manager

    from cryosphere.viewer.widgets.workers import Latest

    def compute() -> None:
        raise InputError("nothing there; do this.")

    worker = Latest(compute, lambda _: None, parent)
    worker.request()
    wait_until(lambda: worker.is_idle)
    assert notification_manager.records[-1].message == "nothing there; do this."
    worker.close()


def test_the_end_waits_until_a_result_is_told(parent):
    """An object that Qt deletes while a thread emits its signal crashes the program."""
    from qtpy.QtCore import Qt

    from cryosphere.viewer.widgets.workers import Latest

    begin, telling, told = threading.Event(), threading.Event(), threading.Event()

    def be_slow(*_: object) -> None:
        telling.set()
        told.wait(0.3)
        told.set()

    worker = Latest(lambda: begin.wait(10), lambda _: None, parent)
    worker._finished.connect(be_slow, Qt.ConnectionType.DirectConnection)
    worker.request()
    begin.set()
    assert telling.wait(10)
    worker.close()
    assert told.is_set()
