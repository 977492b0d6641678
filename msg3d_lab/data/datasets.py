"""What is known about the data sets of the field: layouts, class names, split rules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "DATASETS",
    "Dataset",
    "NTUName",
    "default_store",
    "get",
    "ntu_facts",
    "ntu_splits",
    "parse_ntu_name",
]

# https://github.com/shahroudy/NTURGB-D, "Action Classes": A1 to A120, one a line. Typing slips of
# the list ("hush (quite)", a doubled full stop) are corrected.
_NTU120 = """
drink water
eat meal/snack
brushing teeth
brushing hair
drop
pickup
throw
sitting down
standing up (from sitting position)
clapping
reading
writing
tear up paper
wear jacket
take off jacket
wear a shoe
take off a shoe
wear on glasses
take off glasses
put on a hat/cap
take off a hat/cap
cheer up
hand waving
kicking something
put something inside pocket / take out something from pocket
hopping (one foot jumping)
jump up
make a phone call/answer phone
playing with phone/tablet
typing on a keyboard
pointing to something with finger
taking a selfie
check time (from watch)
rub two hands together
nod head/bow
shake head
wipe face
salute
put the palms together
cross hands in front (say stop)
sneeze/cough
staggering
falling
touch head (headache)
touch chest (stomachache/heart pain)
touch back (backache)
touch neck (neckache)
nausea or vomiting condition
use a fan (with hand or paper)/feeling warm
punching/slapping other person
kicking other person
pushing other person
pat on back of other person
point finger at the other person
hugging other person
giving something to other person
touch other person's pocket
handshaking
walking towards each other
walking apart from each other
put on headphone
take off headphone
shoot at the basket
bounce ball
tennis bat swing
juggling table tennis balls
hush (quiet)
flick hair
thumb up
thumb down
make ok sign
make victory sign
staple book
counting money
cutting nails
cutting paper (using scissors)
snapping fingers
open bottle
sniff (smell)
squat down
toss a coin
fold paper
ball up paper
play magic cube
apply cream on face
apply cream on hand back
put on bag
take off bag
put something into a bag
take something out of a bag
open a box
move heavy objects
shake fist
throw up cap/hat
hands up (both hands)
cross arms
arm circles
arm swings
running on the spot
butt kicks (kick backward)
cross toe touch
side kick
yawn
stretch oneself
blow nose
hit other person with something
wield knife towards other person
knock over other person (hit with body)
grab other person's stuff
shoot at other person with a gun
step on foot
high-five
cheers and drink
carry something with other person
take a photo of other person
follow other person
whisper in other person's ear
exchange things with other person
support somebody with one's hand
finger-guessing game (playing rock-paper-scissors)
"""

# Wang et al., CVPR 2014 (Northwestern-UCLA Multiview Action 3D): actions 1 2 3 4 5 6 8 9 11 12.
_NW_UCLA = """
pick up with one hand
pick up with two hands
drop trash
walk around
sit down
stand up
donning
doffing
throw
carry
"""

_XSUB60_TRAIN = frozenset(
    (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
)  # fmt: skip
_XSUB120_TRAIN = _XSUB60_TRAIN | frozenset(
    (45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86,
     89, 91, 92, 93, 94, 95, 97, 98, 100, 103)
)  # fmt: skip
_XVIEW_TRAIN = frozenset((2, 3))
_NTU_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")


@dataclass(frozen=True)
class Dataset:
    """A data set that can be imported.

    Args:
        name: what `--dataset` takes.
        title: how people call it.
        layouts: the joint layouts it comes in.
        label_names: class names in the order of the labels; empty if the source brings them.
        protocols: its evaluation protocols; each has a `_train` and a `_val` split.
    """

    name: str
    title: str
    layouts: tuple[str, ...]
    label_names: tuple[str, ...]
    protocols: tuple[str, ...]


def default_store(dataset: str, layout: str) -> Path:
    """Return where a data set's store lies if nobody says otherwise; NTU comes in 2D and 3D."""
    dimensions = {"coco17": "-2d", "ntu25": "-3d"}.get(layout, "")
    return Path("data") / f"{dataset}{dimensions if dataset.startswith('ntu') else ''}.arrow"


def _lines(text: str) -> tuple[str, ...]:
    return tuple(text.strip().splitlines())


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "ntu60", "NTU RGB+D 60", ("ntu25", "coco17"), _lines(_NTU120)[:60], ("xsub", "xview")
        ),
        Dataset("ntu120", "NTU RGB+D 120", ("ntu25", "coco17"), _lines(_NTU120), ("xsub", "xset")),
        Dataset("nw-ucla", "Northwestern-UCLA", ("nw-ucla20",), _lines(_NW_UCLA), ("xview",)),
        Dataset("kinetics400", "Kinetics-Skeleton 400", ("openpose18",), (), ("kinetics",)),
    )
}


def get(name: str) -> Dataset:
    """Return what is known about a data set.

    Raises:
        ValueError: unknown name.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}: expected one of {', '.join(DATASETS)}")
    return DATASETS[name]


@dataclass(frozen=True)
class NTUName:
    """The numbers in the name of an NTU recording, `SsssCcccPpppRrrrAaaa`, all 1-based."""

    setup: int
    camera: int
    subject: int
    repetition: int
    action: int


def parse_ntu_name(name: str) -> NTUName | None:
    """Read the numbers in an NTU name; None if it is not one.

    Example:
        >>> parse_ntu_name("S001C002P003R002A013").action
        13
    """
    match = _NTU_NAME.fullmatch(name)
    return NTUName(*map(int, match.groups())) if match else None


def ntu_facts(name: str) -> dict[str, int]:
    """Return what an NTU name says of a clip beside its class; nothing if it is not one.

    Example:
        >>> ntu_facts("S001C002P003R002A013")
        {'subject': 3, 'camera': 2, 'setup': 1}
    """
    numbers = parse_ntu_name(name)
    if numbers is None:
        return {}
    return {"subject": numbers.subject, "camera": numbers.camera, "setup": numbers.setup}


def ntu_splits(name: str, *, dataset: str = "ntu60") -> tuple[str, ...]:
    """Return the splits that an NTU recording belongs to, by the rules of the data set's authors.

    X-Sub (both): by subject. X-View (NTU60): cameras 2 and 3 train. X-Set (NTU120): even set-ups
    train.

    Raises:
        ValueError: not an NTU name, or a data set without these rules.

    Source: Shahroudy et al., CVPR 2016, section 3.2; Liu et al., TPAMI 2019, section 3.2.

    Example:
        >>> ntu_splits("S001C001P001R001A001")
        ('xsub_train', 'xview_val')
    """
    numbers = parse_ntu_name(name)
    if numbers is None:
        raise ValueError(f"expected a name such as S001C002P003R002A013, found {name!r}")
    if dataset == "ntu60":
        rules = {"xsub": numbers.subject in _XSUB60_TRAIN, "xview": numbers.camera in _XVIEW_TRAIN}
    elif dataset == "ntu120":
        rules = {"xsub": numbers.subject in _XSUB120_TRAIN, "xset": numbers.setup % 2 == 0}
    else:
        raise ValueError(f"the NTU split rules are those of ntu60 and ntu120, found {dataset!r}")
    return tuple(f"{rule}_{'train' if train else 'val'}" for rule, train in rules.items())
