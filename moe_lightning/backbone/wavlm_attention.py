"""WavLM's self-attention, calling its projections.

transformers passes their weights to one torch function, past any adapter beside them. Here each projection
is called, so that its experts count; without experts the numbers are the same.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def call_projections(attention: Any) -> None:
    """Make a WavLM self-attention call its projections; any other module stays unchanged."""
    if hasattr(attention, "torch_multi_head_self_attention"):
        attention.torch_multi_head_self_attention = MethodType(_self_attention, attention)


def _self_attention(attention: Any, x_BTD: Tensor, is_real_BT: Tensor | None, bias_NTT: Tensor) -> tuple[Tensor, None]:
    """As ``WavLMAttention.torch_multi_head_self_attention``, without the unused attention weights.

    Args:
        is_real_BT: 1 at frames open to attention.
        bias_NTT: For relative positions, gated by the frames; N is utterances times heads.
    """
    num_utterances, num_frames, _ = x_BTD.shape
    shape = (num_utterances, num_frames, attention.num_heads, attention.head_dim)
    q_BHTd, k_BHTd, v_BHTd = (
        project(x_BTD).view(shape).transpose(1, 2) for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    bias_BHTT = bias_NTT.view(num_utterances, attention.num_heads, num_frames, num_frames)
    if is_real_BT is not None:
        bias_BHTT = bias_BHTT.masked_fill(is_real_BT.ne(1)[:, None, None], -torch.inf)
    dropout = attention.dropout if attention.training else 0.0
    y_BHTd = F.scaled_dot_product_attention(q_BHTd, k_BHTd, v_BHTd, bias_BHTT.to(q_BHTd.dtype), dropout)
    return attention.out_proj(y_BHTd.transpose(1, 2).reshape(x_BTD.shape)), None
