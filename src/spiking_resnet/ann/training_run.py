"""Run a training: its steps, its checks, and the state that it saves."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spiking_resnet.ann.augment import generator_for, resized
from spiking_resnet.ann.checkpoint import save
from spiking_resnet.ann.contents import content_hash
from spiking_resnet.ann.images import ImageData
from spiking_resnet.ann.initial_weights import Start, begin
from spiking_resnet.ann.optimisation import distance, move_average, optimizer_for
from spiking_resnet.ann.pixels import PixelsInMemory
from spiking_resnet.ann.recipe import TrainConfig, augmentation_for, learning_rate_at, sides_at
from spiking_resnet.ann.resnet import ResNet
from spiking_resnet.ann.tails import Tails
from spiking_resnet.ann.training_state import TrainingState, describe, state_path, write_state
from spiking_resnet.files import Pace
from spiking_resnet.processes.training import Processes
from spiking_resnet.surroundings import evaluation_mode

_CUDA_STEPS_BETWEEN_CHECKS = 25  # reading a loss makes the host wait for the device
_EVALUATION_BATCH = 500
# Draws of different purposes never share a generator.
_WEIGHTS, _ORDER, _AUGMENT, _HELD_OUT, _FLIPS = range(5)


class TrainError(RuntimeError):
    """A training that cannot go on; the message names the step and the remedy."""


@dataclass(frozen=True)
class TrainProgress:
    """Where a training is, after a step; `step` counts from 1 over all epochs."""

    epoch: int  # from 1
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float  # of this epoch's training images so far, augmented, in 0..1
    held_out_accuracy: float | None  # of the latest finished epoch
    done: float  # of all work, in 0..1: steps of small images count for less


class Run:
    """A training under way: everything but `state` and the three modules follows from arguments."""

    def __init__(
        self,
        config: TrainConfig,
        data: ImageData,
        out: Path,
        start: Start | None = None,
        teacher: Start | None = None,
        processes: Processes = Processes(),  # noqa: B008 - frozen
    ) -> None:
        self.config, self.out, self.rules = config, out, config.rules
        self.processes, self.device = processes, processes.device(config.device)
        order = torch.randperm(len(data), generator=generator_for(config.seed, _HELD_OUT))
        held, kept = order[: config.held_out].sort().values, order[config.held_out :].sort().values
        self.held_out = data.select(held) if config.held_out else None
        self.data = data.select(kept) if config.held_out else data
        source = self.data.source
        self.pixels = source.pixels.to(self.device) if isinstance(source, PixelsInMemory) else None
        self.labels = self.data.labels.to(self.device)
        self.augment = augmentation_for(data)
        draws = torch.rand(
            len(self.data), generator=generator_for(config.seed, _FLIPS), dtype=torch.float32
        )
        self.mirrored_first = draws < 0.5 if self.rules.alternate_flips else None
        self.steps_per_epoch = -(-len(self.data) // config.images_per_step)
        every = range(config.total_epochs)
        self.work = [math.prod(sides_at(config, epoch, self.data.size)) for epoch in every]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator_for(config.seed, _WEIGHTS).initial_seed())
            self.model = ResNet(config.model)
        if start is not None:
            begin(self.model, start, self.data, config.seed)
        made_from = {"from": start, "teacher": teacher}
        self.facts: dict[str, Any] = {
            key: each.facts for key, each in made_from.items() if each is not None
        }
        if processes.count > 1:
            self.facts["processes"] = processes.count
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = config.norm_momentum
        last = self.rules.channels_last
        self.layout = torch.channels_last if last else torch.contiguous_format
        self.model = self.model.to(self.device).to(memory_format=self.layout)
        self.average = copy.deepcopy(self.model).eval() if self.rules.average else None
        trained = Tails(self.model) if config.tails else self.model
        self.forward: Callable[[Tensor], Any] = processes.joint(trained)
        if config.compiled:  # static: the last batch of an epoch gets kernels of its own
            self.forward = torch.compile(self.forward, dynamic=False)
        self.teacher: Callable[[Tensor], Tensor] | None = None
        if teacher is not None:
            own = copy.deepcopy(teacher.model).eval()  # the caller's stays where it is
            own = own.to(self.device).to(memory_format=self.layout)
            self.teacher = torch.compile(own, dynamic=False) if config.compiled else own
            self.teacher_sees = teacher.normalisation or data.normalisation
        self.optimizer = optimizer_for(self.model, config)
        self.identity = {
            **config.identity(),
            "data": [
                data.name,
                len(data),
                int((data.labels * torch.arange(len(data), dtype=torch.int64)).sum()),
            ],
            "images": content_hash(data),
            "normalisation": data.normalisation.to_json(),
            **self.facts,
        }
        self.state = TrainingState()
        self.best_path = out  # where the best weights so far are
        self.pace = Pace()

    @property
    def kept_model(self) -> ResNet:
        """The network whose weights are evaluated and stored."""
        return self.average if self.average is not None else self.model

    def restore(self, content: dict[str, Any]) -> None:
        """Go on from the content of a state file."""
        self.model.load_state_dict(content["model"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.state = TrainingState.from_json(content["state"], "state")

    def epoch(self, progress: Callable[[TrainProgress], None] | None) -> None:
        """Run the rest of the current epoch, then choose and store."""
        state, config = self.state, self.config
        order = torch.randperm(
            len(self.data), generator=generator_for(config.seed, _ORDER, state.epoch)
        )
        counted = torch.tensor([state.correct, state.seen], dtype=torch.int64, device=self.device)
        interval = _CUDA_STEPS_BETWEEN_CHECKS if self.device.type == "cuda" else 1
        unchecked: list[Tensor] = []
        self.model.train()
        while state.step < self.steps_per_epoch:
            started = time.monotonic()
            first = state.step * config.images_per_step
            chosen = order[first : first + config.images_per_step]
            unchecked.append(self._step(chosen, counted))
            state.step += 1
            last = state.step == self.steps_per_epoch
            if last or len(unchecked) == interval:
                loss = self._check(unchecked)
                unchecked = []
                state.correct, state.seen = counted.tolist()
                state.seconds += time.monotonic() - started
                if not last and self.pace.due():
                    self.store()
                if progress is not None:
                    self._tell(progress, loss)
            else:
                state.seconds += time.monotonic() - started
        self._close_epoch()

    def _tell(self, progress: Callable[[TrainProgress], None], loss: float) -> None:
        """Let what stops the training stop it here, between two steps, so that none is lost."""
        try:
            progress(self._progress(loss))
        except KeyboardInterrupt:
            self.store()
            raise

    def _step(self, chosen: Tensor, counted: Tensor) -> Tensor:
        """The loss, not yet read, of one optimiser step; adds to the counted correct and seen."""
        state, config, rules = self.state, self.config, self.rules
        done = state.epoch * self.steps_per_epoch + state.step
        total = config.total_epochs * self.steps_per_epoch
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(config, done, total)
        if self.pixels is not None:
            pixels = self.pixels[chosen.to(self.device)]
        else:
            pixels = self.data.pixels(chosen).to(self.device)
        pixels = self.processes.share(self._augmented(pixels, chosen))
        sides = sides_at(config, state.epoch, self.data.size)
        seen = resized(pixels, sides)
        images = self.data.normalisation.apply(seen).contiguous(memory_format=self.layout)
        labels = self.processes.share(self.labels[chosen.to(self.device)])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.uses_bf16):
            result = self.forward(images)
        logits, tails = result if config.tails else (result, 0.0)
        logits = logits.float()
        loss = functional.cross_entropy(logits, labels, label_smoothing=rules.label_smoothing)
        if self.teacher is not None and sides == self.data.size:
            opinion = self.opinion(pixels)
            taught = distance(logits, opinion, rules.temperature)
            loss = (1 - rules.taught) * loss + rules.taught * taught
        loss = loss + config.tails * tails
        # gradients become means over processes, whose shares may differ by an image
        loss = loss * (len(labels) * self.processes.count / len(chosen))
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        if self.average is not None:
            move_average(self.average, self.model, min(rules.average, (1 + done) / (10 + done)))
        right = (logits.argmax(1) == labels).sum()
        sums = self.processes.total(torch.stack([right.double(), loss.detach().double()]))
        counted += torch.stack([sums[0].long(), counted.new_tensor(len(chosen))])
        return sums[1] / self.processes.count

    def _augmented(self, pixels: Tensor, chosen: Tensor) -> Tensor:
        """The pixels of the chosen images, moved and mirrored as this step's draws say."""
        state = self.state
        mirrored = None
        if self.mirrored_first is not None:
            mirrored = self.mirrored_first[chosen] ^ bool(state.epoch % 2)
        draws = generator_for(self.config.seed, _AUGMENT, state.epoch, state.step)
        return self.augment.apply(pixels, draws, mirrored)

    @torch.no_grad()
    def opinion(self, pixels: Tensor) -> Tensor:
        """The teacher's logits [N, classes] of augmented pixels."""
        assert self.teacher is not None
        images = self.teacher_sees.apply(pixels).contiguous(memory_format=self.layout)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.uses_bf16):
            opinion = self.teacher(images)
        return opinion.float()

    def _check(self, unchecked: list[Tensor]) -> float:
        """The newest loss; TrainError where one of these is not finite."""
        losses = torch.stack(unchecked).tolist()
        for offset, loss in enumerate(losses):
            if not math.isfinite(loss):
                step = self.state.step - len(losses) + offset + 1
                self._diverged(f"the loss is {loss}", step)
        return float(losses[-1])

    def _diverged(self, what: str, step: int) -> None:
        rate = self.optimizer.param_groups[0]["lr"]
        raise TrainError(
            f"{what} at step {step} of {self.steps_per_epoch} of epoch {self.state.epoch + 1} "
            f"(learning rate {rate:g}): train with a smaller --lr (learning_rate), from the start "
            f"with --no-resume (resume=False); the last good weights are in {self.best_path} if an "
            "epoch was finished"
        )

    def _progress(self, loss: float) -> TrainProgress:
        state, epochs = self.state, self.config.total_epochs
        share = state.step / self.steps_per_epoch
        work = sum(self.work[: state.epoch]) + share * self.work[state.epoch]
        return TrainProgress(
            state.epoch + 1, epochs, state.epoch * self.steps_per_epoch + state.step,
            epochs * self.steps_per_epoch, loss, state.correct / max(1, state.seen),
            state.latest_held_out, work / sum(self.work),
        )  # fmt: skip

    def _close_epoch(self) -> None:
        """Evaluate on the held-out images, store what is best, and count the epoch."""
        state, started = self.state, time.monotonic()
        self._check_weights()
        better = True
        if self.held_out is not None:
            state.latest_held_out = accuracy(self.kept_model, self.held_out, self.device)
            better = state.best_held_out is None or state.latest_held_out > state.best_held_out
        if better:
            state.best_held_out, state.best_epoch = state.latest_held_out, state.epoch + 1
        state.epoch, state.step, state.correct, state.seen = state.epoch + 1, 0, 0, 0
        state.seconds += time.monotonic() - started
        # These first: killed in between, the epoch's last piece is run again and rewrites them.
        if better and self.processes.first:
            save(self.best_path, self.kept_model, self.metadata(None), self.config.half)
        self.store()

    def _check_weights(self) -> None:
        for key, value in self.model.state_dict().items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                self._diverged(f"{key!r} has NaN or infinite values", self.state.step)

    def store(self) -> None:
        """Write the state file."""
        if not self.processes.first:
            return
        content = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "state": self.state.to_json(),
        }
        with self.pace.saving():
            self._check_weights()
            write_state(state_path(self.out), self.identity, content)

    def metadata(self, test_accuracy: float | None) -> dict[str, Any]:
        """What the file of weights says about itself."""
        facts = describe(self.config, self.data, self.state, self.device, test_accuracy)
        which = {key: self.identity[key] for key in ("data", "images")}
        return {**facts, **which, **self.facts}


@torch.no_grad()
def accuracy(model: nn.Module, data: ImageData, device: torch.device) -> float:
    """The share of images, in 0..1, whose largest logit is their label; the mode is put back."""
    with evaluation_mode(model):
        correct = sum(
            int((model(images.to(device)).argmax(1) == labels.to(device)).sum())
            for images, labels in data.loader(_EVALUATION_BATCH)
        )
    return correct / len(data)
