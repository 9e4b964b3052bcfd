"""What teachers say of whole images, asked once: the training learns from it at no further cost.

Asked at each step, teachers cost more than the step where they look at several scales. Asked once, of each image as the
model would see it, they may; what they said is kept in a file an image and then scaled, cut and mirrored with it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from rtpsp.arrays import Image
from rtpsp.errors import InputError
from rtpsp.files import write_atomically
from rtpsp.fit import plan_fit
from rtpsp.model.batches import CELL, Labelled
from rtpsp.model.hardware import autocast
from rtpsp.model.teachers import Teachers
from rtpsp.spec import ModelSpec

Answer = NDArray[np.uint8]
"""uint8 [h, w, classes], probabilities times 255 of the model's whole input."""


class Answers:
    """Teachers' answers by image.

    Args:
        folder: Where they are kept, a file each, named after the image's content.
        spec: The student's: how it sees an image, and its classes.
        temperature: As in `Teachers.probabilities`.
    """

    def __init__(self, folder: Path, spec: ModelSpec, temperature: float) -> None:
        self._folder, self._spec, self._temperature = folder, spec, temperature

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of an answer."""
        height, width = (-(-side // CELL) for side in self._spec.size)
        return height, width

    def ask(
        self, teachers: Teachers, dtype: torch.dtype, samples: Sequence[Labelled],
        tell: Callable[[str, int, int], None], stopped: Callable[[], bool],
    ) -> bool:  # fmt: skip
        """Ask about each image that there is no answer to.

        Args:
            teachers: Who is asked.
            dtype: What they compute in.
            samples: The images.
            tell: Told what goes on, how many are done, and of how many.
            stopped: Asked after each image.

        Returns:
            Whether all were asked; False where it was told to stop.

        Raises:
            OutputError: An answer cannot be written.
            DataError: An image cannot be read.
        """
        for done, sample in enumerate(samples, 1):
            path = self._path(sample.image)
            if not path.is_file():
                seen = plan_fit((sample.image.shape[0], sample.image.shape[1]), self._spec).to_model(sample.image)
                with torch.no_grad(), autocast(teachers.device, dtype):
                    said = teachers.probabilities(torch.from_numpy(seen[np.newaxis]), self._temperature)
                small = F.interpolate(said, self.size, mode="area")[0].permute(1, 2, 0)
                buffer = io.BytesIO()
                np.save(buffer, (small * 255).round().to(torch.uint8).cpu().numpy())
                write_atomically(path, buffer.getvalue(), hint="free the disk, then --resume", make_folder=True)
            tell("ask the teachers", done, len(samples))
            if stopped() and done < len(samples):
                return False
        return True

    def get(self, image: Image) -> Answer | None:
        """The answer to an image; None where nobody was asked.

        Raises:
            InputError: Its file is damaged, or of another model.
        """
        path = self._path(image)
        if not path.is_file():
            return None
        try:
            answer = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is damaged ({error}): remove it, then --resume asks again") from error
        if answer.shape != (*self.size, len(self._spec.labels)) or answer.dtype != np.uint8:
            raise InputError(f"{path} is an answer of another model: remove the folder, then --resume asks again")
        return np.asarray(answer, np.uint8)

    def _path(self, image: Image) -> Path:
        return self._folder / f"{hashlib.blake2b(image.tobytes(), digest_size=12).hexdigest()}.npy"
