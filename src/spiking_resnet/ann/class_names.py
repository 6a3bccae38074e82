"""The names of the classes of known data sets, in the order of their labels."""

_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_KNOWN = {
    "cifar10": _CIFAR10,
    "photographs": _CIFAR10,
    "fashion_mnist": "top trouser pullover dress coat sandal shirt sneaker bag boot",
    "cifar100": (
        "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus "
        "butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach "
        "couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house "
        "kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle "
        "mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck "
        "pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal "
        "shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper "
        "table tank telephone television tiger tractor train trout tulip turtle wardrobe whale "
        "willow_tree wolf woman worm"
    ),
}


def class_names(dataset: str | None) -> tuple[str, ...]:
    """The names of a data set's classes; () where they are not known."""
    return tuple(_KNOWN.get(dataset or "", "").split())
