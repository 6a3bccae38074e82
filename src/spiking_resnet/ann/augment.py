"""Random changes of training images that are functions of a seed, never of global state."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """Random crops from images padded with black, and random mirroring."""

    pad: int = 4
    flip: bool = True

    def apply(
        self, pixels: Tensor, generator: torch.Generator, mirrored: Tensor | None = None
    ) -> Tensor:
        """As many pixels [N, C, H, W], moved and mirrored by draws from a CPU generator.

        The draws are made on the CPU, so every device sees the same images. mirrored: booleans [N]
        instead of draws, which only count where `flip` is true.
        """
        count, _, height, width = pixels.shape
        rows = torch.randint(0, 2 * self.pad + 1, (count, 1), generator=generator)
        columns = torch.randint(0, 2 * self.pad + 1, (count, 1), generator=generator)
        if mirrored is None or not self.flip:
            mirrored = torch.rand(count, generator=generator, dtype=torch.float32) < (
                0.5 if self.flip else 0.0
            )
        across = torch.arange(width, dtype=torch.int64).expand(count, width)
        rows = rows + torch.arange(height, dtype=torch.int64)  # [N, H]
        columns = columns + torch.where(mirrored[:, None], across.flip(1), across)  # [N, W]
        padded = functional.pad(pixels, (self.pad,) * 4)
        picked = padded[
            torch.arange(count, dtype=torch.int64, device=pixels.device)[:, None, None],
            :,
            rows.to(pixels.device)[:, :, None],
            columns.to(pixels.device)[:, None, :],
        ]  # [N, H, W, C]
        return picked.permute(0, 3, 1, 2)


def resized(pixels: Tensor, sides: tuple[int, int]) -> Tensor:
    """uint8 pixels [N, C, H, W] as [N, C, *sides], averaged over what each covers."""
    if tuple(pixels.shape[2:]) == sides:
        return pixels
    smaller = functional.interpolate(
        pixels.float(), sides, mode="bilinear", align_corners=False, antialias=True
    )
    return smaller.round().to(pixels.dtype)


def generator_for(*key: int) -> torch.Generator:
    """A CPU generator that depends on the whole key, e.g. (seed, epoch, step), and nothing else."""
    words = np.random.SeedSequence(
        [len(key), *(value & 0xFFFFFFFF for value in key)]
    ).generate_state(2)
    return torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))
