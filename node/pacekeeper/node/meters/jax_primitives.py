"""JAX primitives by what a count makes of them: which only call another jaxpr, and which are free by convention.

Whatever stands in neither list and has no formula is unknown, so a new primitive is noticed, not overlooked.
"""

from __future__ import annotations

from typing import Final

# name -> the parameter that holds the jaxpr it runs once
SUBROUTINES: Final = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "custom_lin": "call_jaxpr",
}

_ELEMENTWISE: Final = """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz complex conj
    cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igamma_grad_a igammac imag
    integer_pow is_finite le le_to lgamma log log1p logistic lt lt_to max min mul ne neg nextafter not or polygamma
    population_count pow real reduce_precision regularized_incomplete_beta rem round rsqrt select_n shift_left
    shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor zeta
    convert_element_type bitcast_convert_type
"""
_MOVEMENT: Final = """
    broadcast_in_dim concatenate copy copy_p device_put dynamic_slice dynamic_update_slice empty empty2 expand_dims
    gather get iota pad reshape rev scatter scatter-add scatter-max scatter-min scatter-mul scatter-sub scatter_add
    slice split squeeze swap transpose tile unstack name layout_constraint sharding_constraint mesh_cast reshard
    optimization_barrier pvary pbroadcast debug_callback debug_print ref_get ref_set
"""
_REDUCTION: Final = """
    argmax argmin cumlogsumexp cummax cummin cumprod cumsum reduce_and reduce_max reduce_min reduce_or reduce_prod
    reduce_sum reduce_xor reduce_window_max reduce_window_min reduce_window_sum select_and_gather_add
    select_and_scatter_add sort top_k approx_top_k
"""
_RANDOM: Final = """
    random_bits random_fold_in random_seed random_split random_unwrap random_wrap random_clone rng_bit_generator
    rng_uniform threefry2x32 random_gamma
"""
_COMMUNICATION: Final = """
    after_all all_gather all_gather_invariant all_gather_reduced all_to_all axis_index create_token pmax pmin ppermute
    psum psum2 psum_invariant psum_scatter reduce_scatter ragged_all_to_all unreduced_psum
"""
FREE: Final = frozenset((_ELEMENTWISE + _MOVEMENT + _REDUCTION + _RANDOM + _COMMUNICATION).split())
