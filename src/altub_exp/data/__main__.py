"""Downloads, verifies and prepares what runs read.   python -m altub_exp.data --help"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from altub_exp.data import LAYOUTS, elpv, realiad
from altub_exp.data.downloads import TABLE, read_downloads
from altub_exp.data.files import reading
from altub_exp.data.folder import Folders
from altub_exp.data.verify import choose_layout, report
from altub_exp.errors import UserError, did_you_mean
from altub_exp.machine.command_line import command_parser, run_command

EPILOG = """examples:
  python -m altub_exp.data get mvtec --accept-licence
  python -m altub_exp.data weights r18 wrn50
  python -m altub_exp.data data/mvtec                 # the same as: verify data/mvtec

python -m altub_exp.data COMMAND --help explains a command. A folder that is called like a command: ./get"""

GET = """examples:
  python -m altub_exp.data get mvtec --accept-licence
  python -m altub_exp.data get mvtec --category screw     # the archive of this category only
  python -m altub_exp.data get btad --root /scratch/btad
  python -m altub_exp.data get visa --from ~/VisA_20220922.tar

The archive is compared with its published SHA-256 sum before it is unpacked; then every image is decoded and counted.
If the command is interrupted, give it again: it continues. The exit status is 1 if anything fails. Proxies are taken
from HTTPS_PROXY and HTTP_PROXY."""

VERIFY = """examples:
  python -m altub_exp.data data/mvtec
  python -m altub_exp.data data/mvtec --category screw
  python -m altub_exp.data data/btad --layout btad
  python -m altub_exp.data data/realiad --layout realiad --image-dir realiad_256
  python -m altub_exp.data --layout elpv                  # the installed package
  python -m altub_exp.data ~/images --layout folder --defect-dir test/broken

Every image and mask is read as a run reads it. The exit status is 1 if a run would refuse a file, or if the numbers of
images differ from those of the published data set. Notes are what a run warns of: copies, empty masks, unused files."""

WEIGHTS = """examples:
  python -m altub_exp.data weights                        # those of the paper: r18 wrn50 deit cait
  python -m altub_exp.data weights wrn50_tv mobilenetv2

They are fetched from the Hugging Face hub into its cache (HF_HOME), which the runs read: for compute nodes without
network. Weights that are in the cache already are not fetched again."""

PAPER_BACKBONES = ["r18", "wrn50", "deit", "cait"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand; return the exit status. A folder in its place is verified."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] not in ("get", "verify", "weights", "-h", "--help"):
        words.insert(0, "verify")
    options = _parser().parse_args(words)
    return run_command(lambda: int(options.run(options)))


def _get(options: argparse.Namespace) -> int:
    """Download a data set."""
    from altub_exp.data.get import get  # here: pooch and requests take a while, and the other commands need neither

    downloads = {name: each for name, each in read_downloads(options.downloads).items() if name in LAYOUTS}
    published = LAYOUTS[options.name].published if options.name in LAYOUTS else None
    if published is not None and published.terms is not None:
        raise UserError(
            f"{published.title} cannot be downloaded by a command: get it from {published.source} ({published.terms})."
        )
    if options.name not in downloads:
        meant, known = did_you_mean(options.name, downloads), ", ".join(downloads) or "none"
        raise UserError(f"{options.name!r} cannot be downloaded{meant}: choose one of {known}.")
    root = options.root or Path("data") / options.name
    return get(
        downloads[options.name],
        root.expanduser(),
        options.category,
        options.source,
        licence_accepted=options.accept_licence,
    )


def _verify(options: argparse.Namespace) -> int:
    """Verify a folder."""
    layouts = {
        **LAYOUTS,
        "folder": Folders(options.train_dir, options.normal_dir, options.defect_dir, options.mask_dir),
        "realiad": realiad.SplitJson(options.image_dir, options.split_dir),
    }
    if options.layout == "elpv":
        elpv.print_licence()
    elif options.root is None:
        raise UserError("Name the folder to verify: python -m altub_exp.data DIR.")
    root = options.root.expanduser() if options.root else elpv.package_data()
    with reading():
        layout = choose_layout(root, options.layout, layouts)
        return int(bool(report(root, layout, options.category, options.bit_depth)))


def _weights(options: argparse.Namespace) -> int:
    """Fetch weights of backbones."""
    from altub_exp.features.weights import fetch_weights

    fetch_weights(options.keys or PAPER_BACKBONES)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("data", "Download data sets, verify them, and fetch weights of backbones.", EPILOG)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, purpose: str, epilog: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=purpose,
            description=f"{purpose[0].upper()}{purpose[1:]}.",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    get = command("get", "download a published data set, unpack and verify it", GET)
    get.set_defaults(run=_get)
    get.add_argument("name", help="mvtec (MVTec AD), mvtec2 (MVTec AD 2), loco (MVTec LOCO AD), btad or visa")
    get.add_argument("--root", type=Path, help="the folder for it (default: data/NAME)")
    get.add_argument("--category", help="download this category only (mvtec)")
    get.add_argument("--accept-licence", action="store_true", help="accept the licence, which is printed")
    get.add_argument("--from", dest="source", metavar="URL|FILE", help="a mirror, or an archive that is on disk")
    get.add_argument(
        "--downloads", type=Path, default=TABLE, metavar="FILE", help="another table of addresses and sums"
    )
    verify = command("verify", "verify a data set's folder: counts, images without masks, unreadable files", VERIFY)
    verify.set_defaults(run=_verify)
    verify.add_argument(
        "root",
        type=Path,
        nargs="?",
        help="the folder that holds a folder for each category; for --layout elpv that of labels.csv, and if left out "
        "the installed package",
    )
    verify.add_argument("--layout", choices=[*LAYOUTS, "folder"], default="mvtec", help="default: %(default)s")
    verify.add_argument("--category", help="verify this category only")
    verify.add_argument(
        "--bit-depth", type=int, choices=range(8, 17), metavar="BITS", help="as dataset.bit_depth of the runs, 8 to 16"
    )
    defaults = {"train": "train", "normal": "test/normal", "defect": "test/defective", "mask": "masks"}
    for name, default in defaults.items():
        verify.add_argument(
            f"--{name}-dir",
            type=str if name == "train" else lambda text: None if text == "null" else text,
            default=default,
            help=f"for --layout folder{'' if name == 'train' else '; null: none'} (default: %(default)s)",
        )
    verify.add_argument("--image-dir", default="realiad_1024", help="for --layout realiad (default: %(default)s)")
    verify.add_argument("--split-dir", default=realiad.SPLIT, help="for --layout realiad (default: %(default)s)")
    weights = command("weights", "fetch pretrained weights of backbones before the runs", WEIGHTS)
    weights.set_defaults(run=_weights)
    weights.add_argument("keys", nargs="*", metavar="KEY", help=f"a backbone (default: {' '.join(PAPER_BACKBONES)})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
