"""Data-parallel training: the processes that torchrun started, or one alone."""

from torch import Tensor, distributed, nn

from spiking_resnet.processes import Member, started


class Processes(Member):
    """This process among those that train together."""

    def share(self, values: Tensor) -> Tensor:
        """This process's part of values [N, ...], which all processes have."""
        return values[self.rank :: self.count]

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes of values that each of them has."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def joint(self, model: nn.Module) -> nn.Module:
        """The module with gradients that are the mean over all processes.

        BatchNorm sees a process's own share of a batch; its running statistics are the first's.
        """
        return nn.parallel.DistributedDataParallel(model) if self.count > 1 else model

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.count > 1:
            distributed.barrier()

    def leave(self) -> None:
        """End the connection between these processes."""
        if self.count > 1:
            distributed.destroy_process_group()


def joined(device: str) -> Processes:
    """The processes that torchrun started, which can speak with each other now; else one alone."""
    if started() == 1:
        return Processes()
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return Processes(distributed.get_rank(), distributed.get_world_size())
