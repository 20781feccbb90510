"""Makes the frozen weights of moving-digits-1: `python -m harness.scoring.make_clips`."""

from __future__ import annotations

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness.base.motion import FRAMES, REACH
from harness.data.clips import WAYS, MovingDigits, places
from harness.extractors import digits_cnn
from harness.extractors.moving_digits import FROZEN, MotionCNN
from harness.extractors.moving_digits import MovingDigits as Extractor

STEPS, BATCH, LR = 4000, 64, 3e-3


def corners(count: int) -> Tensor:
    """Corners of boxes [count, 2, F]: half of them on lawful ways, half anywhere in each frame.

    A network that had seen the law alone would take a broken motion for the nearest lawful one.
    """
    anywhere = torch.randint(REACH + 1, (count - count // 2, 2, FRAMES))
    return torch.cat([places(torch.randint(WAYS, (count // 2,))), anywhere])


def train(clips: MovingDigits) -> MotionCNN:
    """Trains the network on the digits of the dataset; repeatable on one machine."""
    torch.manual_seed(0)
    network = MotionCNN()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=STEPS)
    for _ in range(STEPS):
        digit, corner = torch.randint(len(clips.labels), (BATCH,)), corners(BATCH)
        _, guess, place = network(clips.frames(digit, corner))
        loss = cross_entropy(guess, clips.labels[digit])
        loss = loss + cross_entropy(place.flatten(0, 2), corner.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


@torch.inference_mode()
def accuracy(network: MotionCNN, clips: MovingDigits, count: int = 4000) -> tuple[float, float]:
    """Shares of clips of the dataset whose digit, and of frames whose place, are recognised."""
    index = torch.arange(count) * (len(clips) // count)
    x, y = clips.batch(index, 0, "cpu")
    _, digit, place = network(x)
    right = (place.argmax(3) == places(index // len(clips.labels))).all(1)
    return float((digit.argmax(1) == y).double().mean()), float(right.double().mean())


def main() -> None:
    torch.set_num_threads(1)  # the order of sums depends on it
    extractor = Extractor()
    extractor.motion = train(MovingDigits())
    extractor.frames.load_state_dict(load_file(digits_cnn.FROZEN))
    FROZEN.write_bytes(save(extractor.state_dict()))
    for name, held_out in (("training", False), ("held-out", True)):
        digit, place = accuracy(extractor.motion, MovingDigits(held_out))
        print(f"{name} clips: digit {digit:.1%}, place of a frame {place:.1%}")


if __name__ == "__main__":
    main()
