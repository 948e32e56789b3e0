"""The current selection as files: kind, options, progress, and what was written."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import (
    QApplication,
    QComboBox,
    QFileDialog,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QMessageBox,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from cryosphere.viewer.session import Session
from cryosphere.viewer.widgets.forms import OptionsForm
from cryosphere.viewer.widgets.jobs import Job
from cryosphere.viewer.widgets.notices import plainly
from cryosphere.viewer.work import KINDS, Written, export_selection, in_the_way, suffixes

# Files that are named in the window.
_MOST_FILES = 3


class ExportBox(QGroupBox):
    """Writes the current selection as a kind of files, beside the window.

    Attributes
    ----------
    written : Written or None
        Of the last export that ended well.
    """

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__("Export", parent)
        self.session, self.written = session, None
        self.job = Job(self)
        self.kind, self.forms = QComboBox(), {key: OptionsForm(kind) for key, kind in KINDS.items()}
        for key, kind in KINDS.items():
            self.kind.addItem(kind.label, key)
        self.kind.setToolTip("What the current selection is written as")
        self.start = QPushButton("&Export…")
        self.start.setToolTip("Ask for a name and write the current selection")
        self.bar, self.cancel = QProgressBar(), QPushButton("&Cancel")
        self.bar.setToolTip("How far the export is")
        self.cancel.setToolTip("Stop the export; nothing is left of it")
        self.result, self.command = (
            CopyableText("What was written", 4),
            CopyableText("The command that writes the same", 4, True),
        )
        self._lay_out()
        self.kind.currentIndexChanged.connect(lambda *_: self._show_form())
        self.start.clicked.connect(lambda *_: self.export())
        self.cancel.clicked.connect(lambda *_: self._cancel())
        self.job.progressed.connect(self._show_progress)
        self.job.ended.connect(self._show_ended)
        self._show_form()
        self._show_ended()
        self.result.hide()
        self.command.hide()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        row = QHBoxLayout()
        row.addWidget(self.kind, 1)
        row.addWidget(self.start)
        layout.addLayout(row)
        for form in self.forms.values():
            layout.addWidget(form)
        running = QHBoxLayout()
        running.addWidget(self.bar, 1)
        running.addWidget(self.cancel)
        layout.addLayout(running)
        layout.addWidget(self.result)
        layout.addWidget(self.command)

    def _show_form(self) -> None:
        for key, form in self.forms.items():
            form.setVisible(key == self.kind.currentData())

    @plainly
    def export(self) -> None:
        """Ask for a name, and whether files that are there may be replaced, and export."""
        path = self.ask_path()
        if path is None:
            return
        there = in_the_way(path)
        if not there or self.ask_overwrite(there):
            self.export_to(self.kind.currentData(), path, overwrite=bool(there))

    def ask_path(self) -> Path | None:
        """A name for the files from the user; None where there is none."""
        kind = KINDS[self.kind.currentData()]
        endings = suffixes(self.session, kind)
        current = self.session.current or "particles"
        default = "".join(letter if letter.isalnum() else "_" for letter in current) + (endings[0] if endings else "")
        filters = ";;".join(f"*{ending}" for ending in endings) if endings else "A new folder (*)"
        options = QFileDialog.Option.DontConfirmOverwrite
        name, chosen = QFileDialog.getSaveFileName(self, kind.label, default, filters, options=options)
        if not name:
            return None
        path = Path(name)
        return path.with_name(path.name + chosen.removeprefix("*")) if endings and not path.suffix else path

    def ask_overwrite(self, there: list[Path]) -> bool:
        """Whether the user wants files replaced."""
        names = "\n".join(str(path) for path in there)
        yes = QMessageBox.StandardButton.Yes
        return QMessageBox.question(self, "Replace?", f"These are there already:\n{names}\n\nReplace them?") == yes

    def export_to(self, kind: str, path: Path | str, overwrite: bool = False) -> None:
        """Write the current selection to a path as a kind of files, with the options of the kind's form."""
        if self.job.is_running:
            return
        session, selection, options = self.session, self.session.selection, self.forms[kind].values()
        path = Path(path).absolute()
        self.written = None
        self.result.hide()
        self.command.hide()
        self._set_running(True)
        self.bar.setRange(0, 0)
        self.bar.setFormat("")
        self.job.start(lambda: export_selection(session, selection, kind, path, options, overwrite), self._show_written)

    def _cancel(self) -> None:
        self.cancel.setEnabled(False)
        self.job.cancel()

    def _show_progress(self, done: int, total: int | None, what: str) -> None:
        self.bar.setRange(0, total or 0)
        self.bar.setValue(min(done, total or 0))
        self.bar.setFormat(f"{what} %v of %m" if total else what)

    def _show_ended(self) -> None:
        self._set_running(False)

    def _set_running(self, is_running: bool) -> None:
        self.bar.setVisible(is_running)
        self.cancel.setVisible(is_running)
        self.cancel.setEnabled(is_running)
        self.start.setEnabled(not is_running)

    def _show_written(self, written: Written) -> None:
        self.written = written
        files = [str(path) for path in written.files[:_MOST_FILES]]
        more = len(written.files) - len(files)
        self.result.set_text("\n".join(["Written:", *files, *([f"and {more} more"] if more else []), *written.lines]))
        self.command.set_text(written.command)

    def close_work(self) -> None:
        """Cancel the export that runs, if one does."""
        self.job.close()


class CopyableText(QWidget):
    """Text of a few lines that can be marked; a command has a title and a button that copies it."""

    def __init__(self, tip: str, n_lines: int, is_command: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setToolTip(tip)
        self.text.setFixedHeight(self.text.fontMetrics().lineSpacing() * n_lines + 14)
        self.text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        if is_command:
            row = QHBoxLayout()
            row.addWidget(QLabel("On the command line:"), 1)
            self.copy = QPushButton("Co&py")
            self.copy.setToolTip("Copy the command")
            self.copy.clicked.connect(lambda *_: QApplication.clipboard().setText(self.text.toPlainText()))
            row.addWidget(self.copy)
            layout.addLayout(row)
        layout.addWidget(self.text)

    def set_text(self, text: str) -> None:
        """Show a text."""
        self.text.setPlainText(text)
        self.show()
