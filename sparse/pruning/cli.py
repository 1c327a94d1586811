"""``cascadenet prune``: train a sparse network on a table. Heavy imports wait for the command."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascadenet.errors import FormatError

if TYPE_CHECKING:
    import numpy as np

    from cascadenet.sparse.pruning.base import Estimator

METHODS = ("dpf", "dpp", "gradual", "one-shot", "snip", "random", "dense")
TASKS = ("classification", "regression")
INPUTS, TARGETS = ("X", "x_train", "X_train", "x"), ("y", "y_train")
TEST = (("X_test", "y_test"), ("x_test", "y_test"))
TUNING = 5  # epochs after one-shot pruning, unless told otherwise


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add ``prune`` to the main command line.

    As the commands of the main line it sets ``run``, a function from the parsed arguments to an
    exit code, and ``parser``, its own.
    """
    parser = subparsers.add_parser(
        "prune",
        help="train a sparse network",
        description="Train a network and remove most of its weights on the way.",
    )
    parser.set_defaults(run=prune, parser=parser)
    parser.add_argument(
        "file", metavar="FILE",
        help=".npz with X and y (or x_train, y_train; X_test and y_test are scored if there), or "
        ".csv with the target in its last column",
    )  # fmt: skip
    parser.add_argument(
        "--method", choices=METHODS, default="dpf", help="dpf unless told otherwise"
    )
    parser.add_argument(
        "--sparsity", type=float, default=0.9, metavar="S", help="share of weights removed (0.9)"
    )
    parser.add_argument("--task", choices=TASKS, default=TASKS[0], help="classification")
    parser.add_argument("-o", "--output", metavar="NPZ", help="save the model")
    model = parser.add_argument_group("model")
    model.add_argument(
        "--hidden", type=_sizes, default=(300, 100), metavar="N,...",
        help="widths of the hidden layers; none for a linear model (300,100)",
    )  # fmt: skip
    model.add_argument("--batch-norm", action="store_true", help="in every hidden layer")
    model.add_argument(
        "--structure", choices=("weight", "unit"), help="unit: whole neurons (not dpp)"
    )
    model.add_argument(
        "--quantisation", choices=("float", "int8", "binary"), help="of the weights (dpp only)"
    )
    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=int, metavar="N", help="passes over the data (30)")
    training.add_argument("--learning-rate", type=float, metavar="X", help="(0.03)")
    training.add_argument("--weight-decay", type=float, metavar="X", help="(0.0005)")
    training.add_argument("--batch-size", type=int, metavar="N", help="at most (by the data)")
    training.add_argument("--finetune-epochs", type=int, metavar="N", help="under the final mask")
    training.add_argument(
        "--standardise", choices=("feature", "global", "none"), help="inputs (feature)"
    )
    training.add_argument(
        "--early-stopping", action="store_true", help="on a tenth of the data, held out"
    )
    training.add_argument("--seed", type=int, default=0, metavar="N", help="for another model (0)")
    parser.add_argument("--plot", metavar="PNG", help="picture of what every layer keeps")
    parser.add_argument("--json", action="store_true", help="JSON instead of text")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _sizes(text: str) -> tuple[int, ...]:
    if text.strip() in ("", "none"):
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected widths such as 300,100; got {text!r}") from None


def prune(options: argparse.Namespace) -> int:
    """``prune``: train, say what came out, save."""
    model = _estimator(options)
    data = _read(Path(options.file))
    model.set_params(verbose=not options.quiet and sys.stderr.isatty())
    model.fit(*data[0])
    result = {
        "method": options.method,
        "sparsity": round(model.sparsity_, 6),
        "weights": model.nnz_,
        "of": sum(layer.mask.size for layer in model.layers_),
        "layers": [layer.nnz for layer in model.layers_],
        "score_train": round(model.score(*data[0]), 6),
    }
    if data[1] is not None:
        result["score_test"] = round(model.score(*data[1]), 6)
    if options.output:
        Path(options.output).parent.mkdir(parents=True, exist_ok=True)
        model.save(options.output)
    if options.plot:
        _picture(model, Path(options.plot))
    print(json.dumps(result) if options.json else _text(result, options.task))
    return 0


def _estimator(options: argparse.Namespace) -> Estimator:
    from cascadenet.sparse.pruning import estimators

    families = {"dpf": "DPF", "dpp": "DPP", "snip": "SNIP"}
    family = families.get(options.method, "MagnitudePruning")
    kind = "Classifier" if options.task == "classification" else "Regressor"
    if (family, kind) == ("SNIP", "Regressor"):
        raise ValueError("--method snip needs --task classification")
    settings: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("epochs", "learning_rate", "weight_decay", "batch_size", "finetune_epochs")
        if getattr(options, name) is not None
    }
    settings |= {
        "hidden_layer_sizes": options.hidden, "batch_norm": options.batch_norm,
        "early_stopping": options.early_stopping, "random_state": options.seed,
        "sparsity": options.sparsity,
    }  # fmt: skip
    if options.standardise:
        settings["standardise"] = None if options.standardise == "none" else options.standardise
    if family == "MagnitudePruning":
        settings["method"] = options.method
        if options.method == "one-shot":
            settings.setdefault("finetune_epochs", TUNING)
    if options.structure:
        if family == "DPP":
            raise ValueError("--structure is not an option of --method dpp")
        settings["structure"] = options.structure
    if options.quantisation:
        if family != "DPP":
            raise ValueError("--quantisation needs --method dpp")
        settings["quantisation"] = options.quantisation
    return getattr(estimators, family + kind)(**settings)


def _read(path: Path) -> tuple[Any, Any]:
    """Training pair, and test pair or None; images become rows."""
    if path.suffix.lower() == ".csv":
        return _read_csv(path), None
    import zipfile

    import numpy as np

    if not path.exists():
        raise FileNotFoundError(f"no file {path}")
    if not zipfile.is_zipfile(path):
        raise FormatError(f"expected a .npz file with X and y; got another kind of file ({path})")
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
    except ValueError as error:
        raise FormatError(f"expected arrays of numbers; {error} ({path})") from None
    inputs = next((name for name in INPUTS if name in held), None)
    targets = next((name for name in TARGETS if name in held), None)
    if inputs is None or targets is None:
        raise FormatError(
            f"expected arrays X and y, or x_train and y_train; got {', '.join(held)} ({path})"
        )
    train = _pair(held[inputs], held[targets], path)
    for x_name, y_name in TEST:
        if x_name in held and y_name in held:
            return train, _pair(held[x_name], held[y_name], path)
    return train, None


def _pair(x: np.ndarray, y: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
    if x.ndim < 2 or y.shape[:1] != x.shape[:1]:
        raise FormatError(
            f"expected X of two or more dimensions and as many y; got {x.shape} and {y.shape} "
            f"({path})"
        )
    return x.reshape(x.shape[0], -1), y


def _read_csv(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} must be a CSV file with a header; {error}") from None
    if table.shape[1] < 2:
        raise FormatError(f"{path} must have at least 2 columns; got {table.shape[1]}")
    x = table.iloc[:, :-1]
    wrong = [str(name) for name in x if not pd.api.types.is_numeric_dtype(x[name])]
    if wrong:
        raise FormatError(f"{path}: columns {', '.join(wrong)} must be numbers")
    if table.isna().to_numpy().any():
        row = int(table.isna().any(axis=1).to_numpy().argmax())
        raise FormatError(f"{path}, line {row + 2}: a value is missing")
    target = table.iloc[:, -1]
    numeric = pd.api.types.is_numeric_dtype(target)
    return x.to_numpy(), target.to_numpy() if numeric else target.to_numpy(dtype=str)


def _picture(model: Estimator, path: Path) -> None:
    from matplotlib.figure import Figure

    from cascadenet.sparse.pruning.plots import plot_densities

    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    plot_densities(model, ax=figure.add_subplot())
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _text(result: dict[str, Any], task: str) -> str:
    name = "accuracy" if task == "classification" else "R²"
    lines = [
        f"{result['method']}: {result['weights']} of {result['of']} weights kept "
        f"({result['sparsity']:.2%} removed)",
        f"layers: {', '.join(map(str, result['layers']))}",
        f"{name} in training: {result['score_train']:.4f}",
    ]
    if "score_test" in result:
        lines.append(f"{name} on test data: {result['score_test']:.4f}")
    return "\n".join(lines)
