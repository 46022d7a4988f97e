"""The arithmetic truth that every counter is held against: a GPT's operations from its shape alone.

A matrix of p parameters costs 2*p per token forward and 4*p backward. Attention costs, per layer and sequence, two
products of S x S x d forward and four backward, nothing halved for causality. Embedding look-ups cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GptShape:
    layers: int
    width: int
    hidden: int
    vocabulary: int
    batch: int
    length: int

    @property
    def tokens(self) -> int:
        return self.batch * self.length

    @property
    def block_parameters(self) -> int:
        """Matrix parameters of one block: four of attention, two of the feed-forward part."""
        return 4 * self.width * self.width + 2 * self.width * self.hidden

    @property
    def matrix_parameters(self) -> int:
        return self.layers * self.block_parameters + self.width * self.vocabulary

    @property
    def attention_forward(self) -> int:
        """Of one block."""
        return 4 * self.batch * self.length * self.length * self.width

    def forward(self) -> int:
        return 2 * self.matrix_parameters * self.tokens + self.layers * self.attention_forward

    def training(self) -> int:
        """6*N*T + 12*L*S^2*d per sequence."""
        return 6 * self.matrix_parameters * self.tokens + 12 * self.layers * self.batch * self.length**2 * self.width

    def block_forward(self) -> int:
        return 2 * self.block_parameters * self.tokens + self.attention_forward
