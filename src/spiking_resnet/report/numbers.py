"""Format numbers for tables."""


def count(number: float) -> str:
    """A number of spikes, operations or bytes in three digits: "174 k", "7.19 M"."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= 0.9995 * unit:
            return f"{_three_digits(number / unit)}{name}"
    return _three_digits(number)


def prefixed(number: float, unit: str) -> str:
    """A physical quantity in three digits with a prefix of its unit: "1.74 mJ"."""
    for size, prefix in ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")):
        if abs(number) >= 0.9995 * size:
            return f"{number / size:.3g} {prefix}{unit}"
    return f"{number / 1e-12:.3g} p{unit}"


def whole(number: int) -> str:
    """A number in full where it is short, as `count` writes it where it is not."""
    return f"{number:,}" if number < 10_000 else count(number)


def percent(share: float | None, images: int | None = None) -> str:
    """A share, of so many images with the decimals it has, else with two; or a dash."""
    digits = 2 if images is None else decimals(images)
    return "-" if share is None else f"{100 * share:.{digits}f} %"


def told(share: float | None, images: int) -> str:
    """A share of some images in percent, in the digits that so many images can tell apart."""
    return "-" if share is None else f"{100 * share:.{decimals(images)}f}"


def told_ends(ends: tuple[float, float] | None, images: int) -> str:
    """The ends of an interval of such shares, or a dash."""
    return "-" if ends is None else " - ".join(told(end, images) for end in ends)


def decimals(images: int) -> int:
    """The decimals of a share in percent: none below 200 images, one below 10,000, else two."""
    return 0 if images < 200 else 1 if images < 10_000 else 2


def number(value: float | None) -> str:
    """A number in four digits, or a dash."""
    return "-" if value is None else f"{value:.4g}"


def interval(ends: tuple[float, float] | None) -> str:
    """The ends of an interval of shares, in percent, or a dash."""
    return "-" if ends is None else f"{100 * ends[0]:.1f} - {100 * ends[1]:.1f}"


def _three_digits(number: float) -> str:
    decimals = 0 if number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{decimals}f}"
