"""Joules of an image under every cost model: methods and time steps, and the artificial network.

    python benchmarks/energy_table.py --data DIR --networks resnet20,resnet56,imagenet_resnet18

Prints a Markdown table for each network: a row for each method and T, with the firing rate, the
synaptic operations, and under each cost model what the spiking network takes and how many times
that its cheapest artificial twin takes (below 1 the spiking network wins). Accounts are kept in the
folder --out; those that are there are not made again.
"""

import argparse
import json
from pathlib import Path

import study_networks

from spiking_resnet import convert, count_events, energy, methods
from spiking_resnet.ann.data import load_dataset
from spiking_resnet.ann.images import normalisation_named
from spiking_resnet.ann.pixels import Framing
from spiking_resnet.costs.energy import Account
from spiking_resnet.evaluation.reproduce import NETWORKS, materials
from spiking_resnet.files import write_whole
from spiking_resnet.report.account import joules
from spiking_resnet.report.numbers import count

RUNS = (
    ("hu2021", 350, lambda steps: methods.hu2021(steps=steps)),
    ("hu2021", 64, lambda steps: methods.hu2021(steps=steps)),
    ("calibrated", 32, lambda steps: methods.calibrated(steps=steps)),
    ("differential, one size", 8, lambda steps: methods.differential(steps=steps)),
    ("differential, four sizes", 8, lambda steps: methods.differential(steps=steps, levels=4)),
    ("differential, four sizes", 4, lambda steps: methods.differential(steps=steps, levels=4)),
    ("differential, four sizes", 2, lambda steps: methods.differential(steps=steps, levels=4)),
)
MODELS = ("horowitz-fp32", "horowitz-int8", "lemaire2022", "yan2024", "yan2024-onchip", "loihi1")


def prepared(name, data, images):
    """(network, batches of training images, batches of test images) of a name."""
    if name != "imagenet_resnet18":
        return materials(NETWORKS[name], data, images, 32)
    seen, judged = (
        load_dataset(str(data / "imagenet" / folder), "test", data).framed(Framing())
        for folder in ("one_per_class", "contest")
    )
    usual = normalisation_named("imagenet")
    batches = seen.loader(4, 64, usual), judged.loader(4, images, usual)
    return study_networks.resnet18(), *batches


def accounts(name, data, images, keep):
    """(method, T, account) of every run."""
    made = None
    for method, steps, make in RUNS:
        path = keep / f"{name}_{'_'.join(method.replace(',', '').split())}_{steps}_{images}.json"
        if not path.exists():
            made = made or prepared(name, data, images)
            network, calibration, judged = made
            graph = convert(network, calibration, make(steps))
            found = energy(graph, count_events(graph, judged, steps))
            write_whole(path, json.dumps(found.to_json()).encode())
        yield method, steps, Account.from_json(json.loads(path.read_text()))


def row(method, steps, found):
    """A row of the table."""
    cells = [method, str(steps), f"{100 * found.rate:.1f}", count(found.totals["accumulations"])]
    for name in MODELS:
        priced = next(each for each in found.priced if each.model == name)
        twins = [twin.joules for twin in priced.twins if twin.joules is not None]
        times = f" ({priced.joules / min(twins):.2g} x)" if twins else ""
        cells.append(f"{joules(priced.joules)}{times}")
    return f"| {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--networks", default="resnet20,resnet56,imagenet_resnet18")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("energy"), help="folder of the accounts")
    options = parser.parse_args()
    for name in options.networks.split(","):
        head = ("method", "T", "rate %", "additions", *MODELS)
        print(f"\n**{name}**\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
        for found in accounts(name, options.data, options.images, options.out):
            print(row(*found), flush=True)


if __name__ == "__main__":
    main()
