"""What training needs from inference: objectives, rewards, records of what a session did and their
replay, searches for solutions that judge themselves."""

from __future__ import annotations

from . import _reward as reward
from ._objective import Objective, objective
from ._proof import (
    Proof, Search, completions, generator_reward, prove, read_proof, read_score, verifier_reward,
)
from ._rollout import Rollout, replay

__all__ = [
    "Objective", "Proof", "Rollout", "Search", "completions", "generator_reward", "objective",
    "prove", "read_proof", "read_score", "replay", "reward", "verifier_reward",
]
