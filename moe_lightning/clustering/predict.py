"""``moe-lightning cluster predict``: label embeddings of other audio with a finished clustering."""

from collections.abc import Sequence
from pathlib import Path

from moe_lightning.clustering.clusterer import Clusterer
from moe_lightning.clustering.stage import embeddings_of, label_files, refuse_gradients
from moe_lightning.clustering.summary import print_summary
from moe_lightning.data.embedding_store import EmbeddingStore, StoreInfo
from moe_lightning.data.soft_labels import HardLabels, SoftLabels
from moe_lightning.errors import InputError
from moe_lightning.run.folder import RunDir
from moe_lightning.settings.command_line import CommandParser


def predict(arguments: Sequence[str]) -> None:
    """Write hard and soft labels for every utterance in a store.

    Raises:
        InputError: The run has no clustering, or the embeddings have another model, pooling or size.
    """
    args = build_parser().parse_args(arguments)
    clusterer = Clusterer.load(RunDir(args.run_dir).stage_dir("clustering"))
    store = EmbeddingStore.load(args.embedding_dir)
    refuse_gradients(store, args.embedding_dir)
    _check_same_kind(clusterer, store, args.embedding_dir)
    prediction = clusterer.predict(embeddings_of(store, clusterer.info["settings"]))
    folder = args.output_dir or RunDir(args.run_dir).stage_dir("clustering") / "predicted"
    labels_file, soft_labels_file = label_files(folder, clusterer.info["algorithm"])
    HardLabels(store.ids, prediction.labels_N).save(labels_file)
    SoftLabels(store.ids, prediction.probs_NE).save(soft_labels_file)
    print_summary(clusterer, prediction, store.splits_N, [labels_file, soft_labels_file])


def build_parser() -> CommandParser:
    parser = CommandParser(
        prog="moe-lightning cluster predict", description="Label embeddings with a run's clustering."
    )
    add = parser.add_argument
    add("--run-dir", type=Path, required=True, metavar="DIR", help="run whose clustered/ holds the clusterer")
    add("--embedding-dir", type=Path, required=True, metavar="DIR", help="store that `moe-lightning embed` wrote")
    add("--output-dir", type=Path, metavar="DIR", help="where the labels go; default <run>/clustered/predicted")
    return parser


def _check_same_kind(clusterer: Clusterer, store: EmbeddingStore, folder: Path) -> None:
    """Embeddings from another model or pooling may have the right size, but are meaningless here."""
    expected = clusterer.info.get("store")
    if not expected or not store.info:
        return
    for name, found, value in store.info.differences(StoreInfo.of(expected)):
        raise InputError(
            "embeddings.other",
            f"{folder} has the {name} {found!r}, the clustering was made on {value!r}; embed it alike",
            name,
        )
