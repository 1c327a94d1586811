"""Compact networks as ONNX models, for whatever runs those."""

from __future__ import annotations

from typing import Any

import numpy as np

from cascadenet.sparse.pruning.spec import LayerSpec

OPSET = 17


def to_onnx(
    layers: list[LayerSpec],
    image: tuple[int, int, int],
    centre: np.ndarray,
    factor: np.ndarray,
) -> Any:
    """An ``onnx.ModelProto``; :meth:`CompactNetwork.to_onnx` is the usual way here.

    Parameters
    ----------
    layers : list of LayerSpec
    image : (int, int, int)
        Channels, height, width of the input.
    centre, factor : numpy.ndarray of float32, shape (0,), (1,) or (features,)
        What is subtracted from the input, and what it is then multiplied by.

    Returns
    -------
    onnx.ModelProto
        Input "X" (n, features); output "probabilities" or "outputs". Weights are dense: removed
        ones are stored as zeros.

    Raises
    ------
    ImportError
        The package onnx is not installed.
    """
    try:
        import onnx
        from onnx import helper, numpy_helper
    except ImportError:
        raise ImportError("to_onnx needs the package onnx: pip install onnx") from None

    nodes, constants = [], []

    def constant(name: str, values: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    at = "X"
    if centre.size:
        at = add("Sub", [at, constant("input_mean", centre)], "centred")
    if factor.size:
        at = add("Mul", [at, constant("input_factor", factor)], "scaled")
    if layers[0].kind == "conv":
        at = add("Reshape", [at, constant("image", np.array([-1, *image]))], "images")
    final = "probabilities" if layers[-1].activation == "softmax" else "outputs"
    for number, layer in enumerate(layers):
        weight = constant(f"weight_{number}", layer.weight)
        bias = constant(f"bias_{number}", layer.bias)
        last = number == len(layers) - 1
        plain = last and layer.activation == "identity"
        output = final if plain else f"sum_{number}"
        if layer.kind == "conv":
            at = add(
                "Conv",
                [at, weight, bias],
                output,
                strides=[layer.stride] * 2,
                pads=[layer.padding] * 4,
            )
        else:
            if number and layers[number - 1].kind == "conv":
                at = add("Flatten", [at], f"flat_{number}", axis=1)
            at = add("Gemm", [at, weight, bias], output, transB=1)
        if layer.activation == "relu":
            at = add("Relu", [at], final if last else f"active_{number}")
        elif layer.activation == "softmax":
            at = add("Softmax", [at], final, axis=1)
    tensor = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "cascadenet",
        [helper.make_tensor_value_info("X", tensor, ["n", int(np.prod(image))])],
        [helper.make_tensor_value_info(final, tensor, ["n", None])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 8  # what belongs to that opset: older runtimes can read it
    onnx.checker.check_model(model)
    return model
