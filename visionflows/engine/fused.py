"""A folded network for the CPU, its convolutions packed once and joined with what follows them.

    from visionflows.engine.fused import fused
    body = fused(folded(body).to(torch.bfloat16), torch.zeros(16, 3, 224, 224))

Eager torch hands oneDNN every convolution by itself and packs its weights anew each time. The
operators that torch.compile puts in their place when it freezes a network (`torch.ops.mkldnn`,
torch._inductor.fx_passes.mkldnn_fusion) do `relu(conv(x) + shortcut)` in one pass over memory, with
weights packed beforehand. They are used here directly, which takes a second, not the compiler's 20.
"""

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import torch
    from torch import fx, nn


def fused(network: "nn.Module", example: "torch.Tensor") -> "nn.Module":
    """The same function of float32 or bfloat16 images (shaped as `example`), by fewer passes.

    A network that torch.fx did not trace, or a torch without oneDNN, comes back as it was.
    """
    import torch
    from torch.fx.passes.shape_prop import ShapeProp

    if not (isinstance(network, torch.fx.GraphModule) and torch.backends.mkldnn.is_available()):
        return network
    dtype = next(network.parameters()).dtype
    ShapeProp(network).propagate(example.to(dtype).contiguous(memory_format=torch.channels_last))
    for node in list(network.graph.nodes):
        if _is_plain_convolution(network, node):
            _replace(network, node)
    network.graph.lint()
    network.recompile()
    network.delete_all_unused_submodules()
    return network


def _is_plain_convolution(network: "fx.GraphModule", node: "fx.Node") -> bool:
    from torch import nn

    if node.op != "call_module":
        return False
    module = network.get_submodule(str(node.target))
    return (
        type(module) is nn.Conv2d
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


def _replace(network: "fx.GraphModule", node: "fx.Node") -> None:
    """Put the packed convolution in a node's place, and the relu after it, or the sum and its relu,
    into the node."""
    shape = node.all_input_nodes[0].meta["tensor_meta"].shape
    relu = _only_user(node, lambda user: _is_relu(network, user))
    shortcut = None
    if relu is None and (total := _only_user(node, _is_sum)) is not None:
        shortcut = _shortcut(node, total)
        relu = _only_user(total, lambda user: _is_relu(network, user))
        if shortcut is not None and not _owns_its_memory(network, shortcut):
            shortcut = None
        if shortcut is None or relu is None:
            relu = shortcut = None
    name = str(node.target)
    module = cast("nn.Conv2d", network.get_submodule(name))
    node.target = "packed_" + name.replace(".", "_")
    network.add_submodule(node.target, _packed(module, shape, relu is not None))
    if relu is not None:
        relu.replace_all_uses_with(node)
        network.graph.erase_node(relu)
    if shortcut is not None and total is not None:
        network.graph.erase_node(total)
        node.args = (*node.args, shortcut)


def _only_user(node: "fx.Node", wanted: "Callable[[fx.Node], bool]") -> "fx.Node | None":
    users = list(node.users)
    return users[0] if len(users) == 1 and wanted(users[0]) else None


def _is_relu(network: "fx.GraphModule", node: "fx.Node") -> bool:
    import torch
    from torch import nn

    if node.op == "call_module":
        return type(network.get_submodule(str(node.target))) is nn.ReLU
    return node.op == "call_function" and node.target in (torch.relu, nn.functional.relu)


def _is_sum(node: "fx.Node") -> bool:
    import torch

    sums = (operator.add, operator.iadd, torch.add)
    return node.op == "call_function" and node.target in sums and not node.kwargs


def _shortcut(node: "fx.Node", total: "fx.Node") -> "fx.Node | None":
    """The other summand, if it is there before the convolution, of its shape, and read by nothing
    after it: the sum is written over it."""
    others = [one for one in total.all_input_nodes if one is not node]
    if len(others) != 1 or "tensor_meta" not in others[0].meta:
        return None
    (other,) = others
    place = {one: at for at, one in enumerate(node.graph.nodes)}
    late = [user for user in other.users if place[user] > place[node] and user is not total]
    same = other.meta["tensor_meta"].shape == node.meta["tensor_meta"].shape
    return other if same and not late and place[other] < place[node] else None


def _owns_its_memory(network: "fx.GraphModule", node: "fx.Node") -> bool:
    """Whether nothing else looks at what a node gives: an input, a view or an identity may not be
    written over."""
    from torch import nn

    if node.op != "call_module":
        return False
    name = str(node.target)
    owners: tuple[type[nn.Module], ...] = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
    return name.startswith("packed_") or type(network.get_submodule(name)) in owners


def _packed(module: "nn.Conv2d", shape: tuple[int, ...], relu: bool) -> "nn.Module":
    import torch
    from torch import nn

    ops = torch.ops.mkldnn
    where = (module.padding, module.stride, module.dilation, module.groups)
    weight = ops._reorder_convolution_weight(
        module.weight.detach().contiguous(memory_format=torch.channels_last),
        *(list(one) if isinstance(one, tuple) else one for one in where),
        list(shape),
    )
    bias = None if module.bias is None else module.bias.detach()

    class Packed(nn.Module):
        """relu(conv(x) + shortcut), each of the two if it is wanted."""

        def forward(self, x: torch.Tensor, shortcut: torch.Tensor | None = None) -> torch.Tensor:
            if shortcut is None:
                after = "relu" if relu else "none"
                alone: torch.Tensor = ops._convolution_pointwise(
                    x, weight, bias, *where, after, [], ""
                )
                return alone
            summed: torch.Tensor = ops._convolution_pointwise_.binary(
                shortcut, x, weight, bias, *where, "add", 1.0, "relu", [], None
            )
            return summed

    return Packed()
