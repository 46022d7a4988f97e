"""PyTorch operations by what a count makes of them: formulas that torch lacks, and what is free by convention.

torch's own FlopCounterMode has no formula for attention on the CPU nor for grouped expert products, counts a fused
attention's internal recomputation as work, and counts a grouped convolution's gradient once per group too often.
Whatever has no formula and stands in no list here is unknown, so a new operation is noticed, not overlooked.
"""

from __future__ import annotations

from math import prod
from typing import Any, Final

import torch

aten = torch.ops.aten


def attention_forward(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """Scores (Q by K) and their product with V."""
    batch, heads, queries, width = query
    return 2 * int(batch * heads * queries * key[2] * (width + value[3]))


def attention_backward(
    grad: Any, query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any
) -> int:
    """The gradients of scores, V, Q and K: each forward product twice. A kernel's own recomputation is not work."""
    return 2 * attention_forward(query, key, value)


def convolution_backward(
    grad: Any,
    given: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    output_mask: Any,
    *args: Any,
    out_shape: Any = None,
    **kwargs: Any,
) -> int:
    """One forward convolution's cost for each of the two gradients that is asked for."""
    positions = given[2:] if transposed else grad[2:]
    forward = 2 * given[0] * prod(weight) * prod(positions)
    return int(forward * (bool(output_mask[0]) + bool(output_mask[1])))


def grouped_product(left: Any, right: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """Rows sorted by group, each times its group's matrix; a batch of products where both sides have three axes."""
    groups = left[0] if len(left) == 3 and len(right) == 3 else 1
    return 2 * int(groups * left[-2] * left[-1] * right[-1])


def matrix_product(left: Any, right: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return 2 * int(left[0] * left[1] * right[1])


def added_product(added: Any, left: Any, right: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return 2 * int(left[0] * left[1] * right[1])


def matrix_vector(matrix: Any, vector: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return 2 * int(prod(matrix))


def added_matrix_vector(added: Any, matrix: Any, vector: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return 2 * int(prod(matrix))


_FORMULAS: Final = {
    "_scaled_dot_product_flash_attention_for_cpu": attention_forward,
    "_scaled_dot_product_flash_attention_for_cpu_backward": attention_backward,
    "_scaled_dot_product_fused_attention_overrideable": attention_forward,
    "_scaled_dot_product_fused_attention_overrideable_backward": attention_backward,
    "_scaled_dot_product_efficient_attention_backward": attention_backward,
    "_scaled_dot_product_flash_attention_backward": attention_backward,
    "_scaled_dot_product_cudnn_attention_backward": attention_backward,
    "convolution_backward": convolution_backward,
    "_grouped_mm": grouped_product,
    "_scaled_grouped_mm": grouped_product,
    "_int_mm": matrix_product,
    "_addmm_activation": added_product,
    "mv": matrix_vector,
    "dot": matrix_vector,
    "vdot": matrix_vector,
    "addmv": added_matrix_vector,
}
FORMULAS: Final = {getattr(aten, name): formula for name, formula in _FORMULAS.items() if hasattr(aten, name)}

_MOVEMENT: Final = """
    _assert_async _conj _copy_from _fused_rms_norm _local_scalar_dense _neg_view _reshape_alias _reshape_copy
    _resize_output _to_copy _unsafe_view alias arange as_strided bincount bucketize cat clone col2im
    constant_pad_nd copy copy_ detach diagonal embedding floor_divide
    embedding_dense_backward empty empty_like empty_permuted empty_strided expand eye fill fill_ flip full full_like
    gather gather_backward histc im2col index index_add index_add_ index_copy index_put index_put_
    index_select is_same_size item lift lift_fresh lift_fresh_copy linspace masked_fill masked_fill_ masked_scatter
    masked_select max_pool2d_with_indices max_pool2d_with_indices_backward narrow
    new_empty new_empty_strided new_full new_ones new_zeros nonzero one_hot ones ones_like permute pixel_shuffle
    reflection_pad1d reflection_pad2d repeat repeat_interleave replication_pad2d resize_ roll scalar_tensor scatter
    scatter_ scatter_add scatter_add_ scatter_reduce searchsorted select select_backward select_scatter set_ slice
    slice_backward slice_scatter sort split split_with_sizes squeeze stack t take topk transpose tril triu unbind unfold
    unfold_backward unsqueeze upsample_bilinear2d upsample_bilinear2d_backward upsample_nearest2d
    upsample_nearest2d_backward view view_as_complex view_as_real zero_ zeros zeros_like _pin_memory pin_memory
"""
_REDUCTION: Final = """
    _adaptive_avg_pool2d _adaptive_avg_pool2d_backward _batch_norm_no_update _batch_norm_with_update
    _cdist_forward _fused_dropout _log_softmax _log_softmax_backward_data _native_batch_norm_legit _safe_softmax
    _softmax _softmax_backward_data _fused_rms_norm_backward all any amax amin argmax argmin argsort avg_pool2d
    avg_pool2d_backward batch_norm_backward binary_cross_entropy binary_cross_entropy_backward count_nonzero cumprod
    cumsum equal huber_loss kthvalue linalg_vector_norm logcumsumexp logsumexp max mean median min mse_loss
    mse_loss_backward native_batch_norm native_batch_norm_backward native_dropout native_dropout_backward
    native_group_norm native_group_norm_backward native_layer_norm native_layer_norm_backward nll_loss2d_backward
    nll_loss2d_forward nll_loss_backward nll_loss_forward norm prod std std_mean sum var var_mean
"""
_RANDOM: Final = """
    bernoulli bernoulli_ exponential_ multinomial normal normal_ rand rand_like randint randint_like randn randn_like
    randperm random_ uniform uniform_
"""
_FREE: Final = frozenset((_MOVEMENT + _REDUCTION + _RANDOM).split())
_FREE_TAGS: Final = frozenset({torch.Tag.pointwise, torch.Tag.reduction})


def is_free(operation: Any) -> bool:
    """Whether an operation is element-wise, a reduction, a draw, or moves data: none, by convention."""
    if operation.namespace in {"prim", "prims"} or operation.is_view or not _FREE_TAGS.isdisjoint(operation.tags):
        return True
    return operation.namespace == "aten" and operation._overloadpacket.__name__ in _FREE
