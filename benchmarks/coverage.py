"""Which architectures can be converted: torchvision's and timm's classifiers, one after another.

    python benchmarks/coverage.py --data DIR --json coverage.jsonl  # all; again to resume
    python benchmarks/coverage.py --data DIR --json coverage.jsonl timm:resnet50d@64
    python benchmarks/coverage.py --json coverage.jsonl --write docs/coverage.md  # the page alone

Results, hardware and versions: docs/coverage.md. Each network is added to the JSON lines as soon as
it is done; those in the file already are not repeated.

Weights are random (seed 0); BatchNorm statistics are those of real images, and in networks without
BatchNorm every layer is scaled to outputs of variance 1, so that activations neither explode nor
vanish. Thresholds come from these images and the two that are compared, so that nothing is clipped
and what is left to see is the operations, and time. Where a network has the usual zero gain at the
end of residual branches it becomes 0.3: at 0 a branch would not be tested, and at 1 a random deep
network amplifies every small error from block to block, as trained ones do not.
"""

import argparse
import copy
import json
import re
import resource
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from spiking_resnet import simulate
from spiking_resnet.ann import NORMALISATIONS
from spiking_resnet.ann.pixels import Framing, PixelsInFiles
from spiking_resnet.capture.module import TraceError, trace
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.conversion.passes.fold_bn import fold_bn
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.environment import hardware
from spiking_resnet.files import write_whole
from spiking_resnet.graph import Conv2d, Graph, Linear, interpret

STEPS = (32, 128, 512)
LONG = (512, 1024, 2048, 4096, 16384)  # for --long: does what is slow converge?
CALIBRATION, TEST = 48, 2  # images
RESIDUAL = 0.3  # gain of a BatchNorm that its network starts at 0: the last of a residual branch
METHOD = hu2021(percentile=100, per_channel=True, readout="membrane", steps=STEPS[-1], sum_bits=24)
LOGITS = 1e-4  # the largest error of traced logits, relative to the largest logit

# fmt: off
NETWORKS = [
    "torchvision:resnet18@64", "torchvision:resnet34@64", "torchvision:resnet50@64",
    "torchvision:resnet101@64", "torchvision:resnet152@64", "torchvision:wide_resnet50_2@64",
    "torchvision:resnext50_32x4d@64", "torchvision:vgg11@64", "torchvision:vgg11_bn@64",
    "torchvision:vgg16_bn@64", "torchvision:alexnet@64", "torchvision:densenet121@64",
    "torchvision:googlenet@64", "torchvision:inception_v3@75", "torchvision:squeezenet1_0@64",
    "torchvision:squeezenet1_1@64", "torchvision:mobilenet_v2@64", "torchvision:mnasnet0_5@64",
    "torchvision:mnasnet1_0@64", "torchvision:shufflenet_v2_x0_5@64",
    "torchvision:shufflenet_v2_x1_0@64", "torchvision:shufflenet_v2_x2_0@64",
    "torchvision:regnet_x_400mf@64", "torchvision:regnet_x_1_6gf@64", "timm:resnet10t@64",
    "timm:resnet14t@64", "timm:resnet18d@64", "timm:resnet18d@75", "timm:resnet26@64",
    "timm:resnet26d@64", "timm:resnet26t@64", "timm:resnet34d@64", "timm:resnet50c@64",
    "timm:resnet50d@64", "timm:resnet50s@64", "timm:resnet101d@64", "timm:wide_resnet50_2@64",
    "timm:resnetblur50@64", "timm:resnetv2_50@64", "timm:resnetv2_50d@64", "timm:resnext26ts@64",
    "timm:resnext50d_32x4d@64", "timm:res2net50_26w_4s@64", "timm:res2net50_14w_8s@64",
    "timm:res2next50@64", "timm:densenetblur121d@64", "timm:dla34@64", "timm:dla46_c@64",
    "timm:dla60_res2net@64", "timm:hrnet_w18_small@64", "timm:vovnet39a@64", "timm:regnetx_002@64",
    "timm:regnetx_016@64", "timm:mobilenetv2_050@64", "timm:mobilenetv2_100@64",
    "timm:mobilenetv2_110d@64", "timm:mnasnet_small@64", "timm:spnasnet_100@64",
    "timm:fbnetc_100@64", "timm:repvgg_a0@64", "timm:selecsls42b@64", "timm:selecsls60@64",
    "timm:dpn68@64", "timm:xception41@64", "timm:legacy_xception@75", "timm:inception_v4@107",
    "timm:inception_resnet_v2@107", "timm:darknet53@64", "timm:cspresnet50@64",
    "timm:cspdarknet53@64", "timm:darknetaa53@64", "timm:vgg13_bn@64", "timm:gernet_s@64",
    "timm:pnasnet5large@96", "timm:nasnetalarge@96", "torchvision:regnet_y_400mf@64",
    "torchvision:efficientnet_b0@64", "torchvision:mobilenet_v3_small@64",
    "torchvision:convnext_tiny@64", "torchvision:vit_b_16@224", "torchvision:swin_t@64",
    "timm:seresnet18@64", "timm:ese_vovnet19b_dw@64", "timm:ghostnet_100@64", "timm:skresnet18@64",
    "timm:tresnet_m@64", "timm:resnest14d@64", "timm:ecaresnet50t@64", "timm:cspresnext50@64",
    "timm:dpn68b@64", "timm:nf_resnet50@64", "timm:mixnet_s@64", "timm:hardcorenas_a@64",
    "timm:lcnet_050@64", "timm:rexnet_100@64", "timm:rdnet_tiny@64", "timm:mixer_s16_224@224",
    "timm:coat_lite_tiny@224",
]
# fmt: on


def build(source: str, name: str, size: int) -> nn.Module:
    """The network with random weights, in evaluation mode."""
    torch.manual_seed(0)
    if source == "torchvision":
        import torchvision

        options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        if name.startswith(("resne", "wide_resne")):
            options = {"zero_init_residual": True}
        return torchvision.models.get_model(name, weights=None, **options).eval()
    import timm

    sized = "vit" in name or "mixer" in name or "coat" in name
    return timm.create_model(name, **({"img_size": size} if sized else {})).eval()


def photographs(data: Path | None, size: int, count: int) -> Tensor:
    """Normalised images [count, 3, size, size]: the same real ones, or random ones without data."""
    if data is None:
        return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))
    found = sorted(path for end in ("jpg", "JPEG", "png") for path in data.rglob(f"*.{end}"))
    if len(found) < count:
        raise SystemExit(
            f"{data} holds {len(found)} images (.jpg, .JPEG, .png): {count} are needed"
        )
    chosen = torch.randperm(len(found), generator=torch.Generator().manual_seed(1))[:count]
    files = PixelsInFiles(tuple(found[i] for i in chosen.tolist()), Framing(size, size))
    return NORMALISATIONS["imagenet"].apply(files.read(torch.arange(count)))


def settle(model: nn.Module, images: Tensor) -> None:
    """Give every layer outputs of moderate size on `images`: statistics, or scaled weights."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        if norms:
            for norm in norms:
                norm.reset_running_stats()
                if norm.weight is not None and not bool(norm.weight.any()):
                    nn.init.constant_(norm.weight, RESIDUAL)
                norm.momentum = None
                norm.train()
            for batch in images.split(32):
                model(batch)
            model.eval()
            return

        def scale(layer: nn.Module, inputs: object, output: Tensor) -> Tensor:
            spread = output.std()
            if spread == 0:  # weights that start at 0
                return output
            layer.weight /= spread
            if layer.bias is not None:
                layer.bias /= spread
            return output / spread

        layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        hooks = [layer.register_forward_hook(scale) for layer in layers]
        model(images)
        for hook in hooks:
            hook.remove()


def operations(graph: Graph) -> int:
    """Multiply-accumulates of one image in the ANN."""
    total = 0
    for node in graph.nodes:
        if isinstance(node, Conv2d | Linear):
            places = torch.Size(node.shape).numel() // node.weight.shape[0]
            total += node.weight.numel() * places
    return total


def distance(found: Tensor, expected: Tensor) -> float:
    """The largest difference of logits [N, K], relative to the largest logit."""
    return float((found - expected).abs().max() / expected.abs().max())


def correlation(found: Tensor, expected: Tensor) -> float:
    """The correlation of two sets of logits [N, K]."""
    return float(torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]).double())[0, 1])


def prepared(network: str, data: Path | None) -> tuple[nn.Module, Graph, Tensor, Tensor]:
    """(the module, its traced graph, calibration images, test images); TraceError if refused."""
    place, _, size = network.partition("@")
    source, _, name = place.partition(":")
    model = build(source, name, int(size))
    images = photographs(data, int(size), CALIBRATION + TEST)
    shape = tuple(images.shape[1:])
    trace(model, shape)  # before weights change: refused networks need no more
    settle(model, images[:CALIBRATION])
    return model, trace(model, shape), images[:CALIBRATION], images[CALIBRATION:]


def measured(network: str, data: Path | None) -> dict[str, object]:
    """One network's row."""
    row: dict[str, object] = {"network": network, "data": "real" if data else "random"}
    begin = time.perf_counter()
    try:
        model, traced, calibration, test = prepared(network, data)
    except TraceError as error:
        lines = str(error).splitlines()
        causes = [found[1] for line in lines if (found := re.match(r" *\d+\. (.+)", line))]
        return {**row, "refused": causes or lines}
    with torch.inference_mode():
        expected = model(test)
        found = interpret.logits(fold_bn(traced), test)
        whole = copy.deepcopy(model).double()(test.double()).float()
    snn = METHOD.apply(traced, Calibration(torch.cat([calibration, test])))
    run = simulate(snn, test, STEPS[-1], STEPS)
    spikes = sum(int(count.spikes[-1].sum()) for count in run.spikes.values())
    neurons = sum(snn.neurons.values())
    return {
        **row,
        "nodes": len(snn.nodes),
        "populations": len(snn.neurons),
        "neurons": neurons,
        "macs": operations(traced),
        "error": distance(found, expected),
        "rounding": distance(expected, whole),
        "correlations": [correlation(logits, expected) for logits in run.logits],
        "rate": spikes / (neurons * TEST * STEPS[-1]),
        "engine": run.engine,
        "unsupported": {name: engine.unsupported(snn) for name, engine in ENGINES.items()},
        "exact": run.exact,
        "seconds": time.perf_counter() - begin,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "hardware": hardware(),
        "versions": {name: version(name) for name in ("torch", "torchvision", "timm")},
    }


def prolonged(network: str, data: Path | None) -> list[float]:
    """The correlations of one image's logits after each of LONG steps, off the grid: one that is
    exact for so many steps is coarse enough to be seen.
    """
    model, traced, calibration, test = prepared(network, data)
    with torch.inference_mode():
        expected = model(test[:1])
    snn = replace(METHOD, grid=None).apply(traced, Calibration(torch.cat([calibration, test])))
    run = simulate(snn, test[:1], LONG[-1], LONG)
    return [correlation(logits, expected) for logits in run.logits]


def done(path: Path) -> dict[str, dict]:
    """The rows in a file, by network."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return {row["network"]: row for row in map(json.loads, lines)}


def count(number: float) -> str:
    """A number in three digits and a unit."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"


def architectures(rows: list[dict]) -> int:
    """How many different architectures ``rows`` tried, whatever their images' size."""
    return len({row["network"].split("@")[0] for row in rows})


def report(rows: dict[str, dict]) -> str:
    """The page: what was converted, and what was refused."""
    names = [*NETWORKS, *(name for name in rows if name not in NETWORKS)]
    ordered = [rows[name] for name in names if name in rows]
    converted = [row for row in ordered if "refused" not in row]
    refused = [row for row in ordered if "refused" in row]
    if not converted:
        raise SystemExit("no network was converted yet: run some before writing the page")
    last = converted[-1]
    lines = [
        "# Coverage",
        "",
        f"{architectures(converted)} of {architectures(ordered)} architectures are converted; "
        "the others are refused, because they have activations or products that no firing rate "
        "stands for.",
        "",
        "Made by `python benchmarks/coverage.py --data DIR --json FILE --write docs/coverage.md`: "
        f"{last['hardware']}; "
        + ", ".join(f"{name} {number}" for name, number in last["versions"].items())
        + f". {TEST} photographs, random weights (seed 0) with BatchNorm statistics of "
        f"{CALIBRATION} others, thresholds of all (so nothing is clipped); residual branches that "
        f"start at 0 have a gain of {RESIDUAL}. "
        "Method: `hu2021(percentile=100, per_channel=True, "
        f'readout="membrane", steps={STEPS[-1]}, sum_bits=24)`.',
        "",
        "*error*: of the traced, BatchNorm-folded network's logits, relative to the largest. "
        "*r(T)*: correlation of the spiking network's logits after T steps with the module's, all "
        "images and classes together; it tends to 1 as T grows, the more slowly the deeper and the "
        "less damped a random network is (see the last table). *rate*: spikes per neuron and step. "
        "*engines*: those that run it; the first is the one used.",
        "",
        "| network, pixels | nodes | populations | neurons | MACs | error | "
        + " | ".join(f"r({steps})" for steps in STEPS)
        + " | rate | engines |",
        "|" + "---|" * (8 + len(STEPS)),
    ]
    for row in converted:
        engines = [name for name, reasons in row["unsupported"].items() if not reasons]
        lines.append(
            f"| {row['network'].replace('@', ', ')} | {row['nodes']} | {row['populations']} "
            f"| {count(row['neurons'])} | {count(row['macs'])} | {row['error']:.0e} | "
            + " | ".join(f"{r:.4f}" for r in row["correlations"])
            + f" | {row['rate']:.3f} | {', '.join(engines)} |"
        )
    lines += ["", *remarks(converted), *refusals(refused), *slow(converted)]
    return "\n".join(lines) + "\n"


def remarks(converted: list[dict]) -> list[str]:
    """What the table does not show well."""
    lines = []
    for row in converted:
        first, *rest = row["correlations"]
        if row["error"] > LOGITS:
            lines.append(
                f"- {row['network']}: traced logits are off by {row['error']:.1e}; the module's "
                f"own by {row['rounding']:.1e} from those it has in float64."
            )
        if max(rest) < first:
            lines.append(f"- {row['network']}: the correlation does not rise.")
        if not row["exact"]:
            lines.append(f"- {row['network']}: left the range in which every engine agrees.")
    return [*lines, ""] if lines else []


def refusals(refused: list[dict]) -> list[str]:
    """The second table."""
    lines = ["## Refused", "", "| network, pixels | operations | the first |", "|---|---|---|"]
    for row in refused:
        first = row["refused"][0].replace("|", "\\|")
        lines.append(f"| {row['network'].replace('@', ', ')} | {len(row['refused'])} | {first} |")
    return lines if refused else []


def slow(converted: list[dict]) -> list[str]:
    """The third table: longer runs of some networks that are far from 1 after STEPS."""
    rows = [row for row in converted if "long" in row]
    lines = [
        "",
        "## Longer runs",
        "",
        "One image, off the grid (`grid=None`). A wrong operation would leave a distance that "
        "stays; here it shrinks with T.",
        "",
        "| network, pixels | " + " | ".join(f"r({steps})" for steps in LONG) + " |",
        "|" + "---|" * (1 + len(LONG)),
    ]
    for row in rows:
        numbers = " | ".join(f"{r:.4f}" for r in row["long"]) + " |" * (
            len(LONG) - len(row["long"])
        )
        lines.append(f"| {row['network'].replace('@', ', ')} | {numbers} |")
    return lines if rows else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help="source:name@pixels (default: all)")
    parser.add_argument("--data", type=Path, help="a folder of photographs")
    parser.add_argument("--json", type=Path, required=True, help="results, a line each")
    parser.add_argument("--write", type=Path, help="only make this page of the results")
    parser.add_argument("--here", action="store_true", help="in this process, not in one each")
    parser.add_argument("--long", action="store_true", help="longer runs of what was measured")
    options = parser.parse_args()
    if options.write:
        write_whole(options.write, report(done(options.json)).encode())
        return
    data = options.data
    for network in options.networks or NETWORKS:
        rows = done(options.json)
        row = rows.get(network, {})
        if options.long and ("correlations" not in row or len(row.get("long", ())) == len(LONG)):
            continue
        if row and not options.long:
            continue
        if not options.here:  # memory is measured, and what one network leaves behind is freed
            command = [sys.executable, __file__, network, "--json", str(options.json), "--here"]
            command += ["--data", str(data)] if data else []
            command += ["--long"] if options.long else []
            if subprocess.run(command).returncode:
                print(f"{network}: failed", flush=True)
            continue
        warnings.filterwarnings("ignore")
        done_now = {"long": prolonged(network, data)} if options.long else measured(network, data)
        row = {**row, **done_now}
        with options.json.open("a") as file:  # the last line of a network counts
            file.write(json.dumps(row) + "\n")
        shown = row.get("long") or row.get("correlations")
        refused = len(row.get("refused", ()))
        print(f"{network}: {shown or f'refused: {refused} operation(s)'}", flush=True)


if __name__ == "__main__":
    main()
