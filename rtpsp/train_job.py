"""What is asked of a training, as it is kept beside its results."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from rtpsp.data.mix import MAX_SHARE
from rtpsp.errors import InputError, ModelError, UsageError
from rtpsp.model.train_options import TrainOptions
from rtpsp.spec import ModelSpec

JOB_VERSION = 1


@dataclass(frozen=True)
class TrainJob:
    """What learns from what.

    Attributes:
        data: Labelled images, as for `rtpsp.data.dataset.open_dataset`.
        spec: The model that is made: architecture, size, classes, normalisation.
        split: Part of `data` to learn from.
        val_split: Part of `data` to validate on; None for no validation.
        mix: Further data, each with the share that it has beside `data`, 0 to 0.5.
        watch: Further data to validate on.
        init: A checkpoint to begin with; None for random weights.
        teachers: Checkpoints of networks to learn from.
        options: The recipe.
        begun_in: The folder that relative paths among these start at; empty for the current one.

    Raises:
        UsageError: There are teachers, and nothing is learnt from them.
    """

    data: str
    spec: ModelSpec
    split: str = "train"
    val_split: str | None = "val"
    mix: tuple[tuple[str, float], ...] = ()
    watch: tuple[str, ...] = ()
    init: str | None = None
    teachers: tuple[str, ...] = ()
    options: TrainOptions = field(default_factory=TrainOptions)
    begun_in: str = ""

    def __post_init__(self) -> None:
        for source, share in self.mix:
            if not 0 <= share <= MAX_SHARE:
                raise UsageError(f"the share of {source} is {share:g}, expected 0 to {MAX_SHARE:g}")
        if self.teachers and not self.options.distil:
            raise UsageError("a teacher was given, and its share of the loss is 0: leave it out, or raise --distil")

    def locate(self, source: str) -> str:
        """Where data or a checkpoint lies: as it was given, as long as we are where it was given."""
        if "://" in source or self.begun_in in ("", os.getcwd()):
            return source
        return os.path.join(self.begun_in, source)

    def sources(self) -> tuple[str, ...]:
        """Files and folders that a training needs to go on, as they were given."""
        given = (self.data, *(source for source, _ in self.mix), *self.watch, *self.teachers)
        return tuple(source for source in given if "://" not in source)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = {**asdict(self), "spec": self.spec.to_dict(), "options": self.options.to_dict()}
        return {"version": JOB_VERSION, **values}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainJob:
        """The inverse of `to_dict`.

        Raises:
            InputError: A field is missing or of the wrong kind.
        """
        given = dict(values)
        version = given.pop("version", None)
        if version != JOB_VERSION:
            raise InputError(f"recipe has version {version!r}, this rtpsp reads {JOB_VERSION}: train again")
        try:
            given["spec"] = ModelSpec.from_dict(given["spec"])
            given["mix"] = tuple((str(source), float(share)) for source, share in given["mix"])
            given["watch"], given["teachers"] = tuple(given["watch"]), tuple(given["teachers"])
            given["options"] = TrainOptions.from_dict(given["options"])
            return cls(**given)
        except (AttributeError, KeyError, TypeError, ValueError, UsageError, ModelError) as error:
            raise InputError(f"recipe cannot be read ({error}): train again") from error
