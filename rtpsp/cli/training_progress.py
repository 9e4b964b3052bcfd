"""What a training looks like on the terminal: a bar with loss and time to go, and a line for each validation."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from rtpsp.cli.console import stderr
from rtpsp.model.train import Trainer
from rtpsp.model.train_records import EpochRecord, Moment
from rtpsp.training import Listener


class Reporter:
    """Makes a `Listener`; a context manager, which draws and takes away the bar.

    Args:
        stopped: Whether the training is to end.

    Attributes:
        under_way: There is something that a stop would save.
        saved: Step of the last state that was saved, and of how many; None for none.
    """

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped
        self.under_way = False
        self.saved: tuple[int, int] | None = None
        self._task: TaskID | None = None
        self._title = ""
        self._progress = Progress(
            TextColumn("{task.fields[title]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=stderr,
            transient=True,
            disable=not stderr.is_terminal,
            speed_estimate_period=120,
        )

    def __enter__(self) -> Listener:
        self._progress.start()
        return Listener(self._tell, self._moment, self._say, self._epoch, self._stopped, self._note)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def _tell(self, step: str, done: int, total: int) -> None:
        self._show(step, "", done, total)

    def _moment(self, moment: Moment) -> None:
        self.under_way = True
        what = f"loss {moment.loss:.3f}" if moment.what == "training" else moment.what
        if self._stopped():
            what = "stopping after this step"
        self._show(f"epoch {moment.epoch}", what, moment.step, moment.steps)

    def _note(self, step: int, steps: int) -> None:
        self.saved = step, steps

    def _show(self, title: str, what: str, done: int, total: int) -> None:
        kind = title.split()[0]
        if self._task is None or kind != self._title:  # another kind of work has another pace
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task, self._title = self._progress.add_task(what, total=total, title=title), kind
        self._progress.update(self._task, title=title, description=what, completed=done, total=total)

    def _say(self, text: str) -> None:
        stderr.print(text, markup=False, soft_wrap=True)

    def _epoch(self, trainer: Trainer) -> None:
        record = trainer.history[-1]
        if record.scores or not stderr.is_terminal:
            self._say(told(record))


def told(record: EpochRecord) -> str:
    """An epoch in one line."""
    scores = [f"{name} {score.miou:.2f} mIoU" for name, score in record.scores.items()]
    return ", ".join([f"epoch {record.epoch}: loss {record.loss:.3f}", *scores, f"{record.seconds:.0f} s"])
