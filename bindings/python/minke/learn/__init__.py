"""What training needs from inference: searches for solutions that judge themselves."""

from __future__ import annotations

from ._objective import Objective, objective
from ._proof import (
    Proof, Search, completions, generator_reward, prove, read_proof, read_score, verifier_reward,
)

__all__ = ["Objective", "Proof", "Search", "completions", "generator_reward", "objective", "prove",
           "read_proof", "read_score", "verifier_reward"]
