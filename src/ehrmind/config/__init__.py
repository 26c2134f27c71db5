"""The recipe: one YAML file that says everything an experiment does, as pydantic models."""

from ehrmind.config.arms import ARMS, VARIANTS, VOTING, Arm, split_arm
from ehrmind.config.data import Data, DataSource, EhrFiles, History, Synthetic, TableFile, TrialFiles
from ehrmind.config.endpoint import Endpoint, EndpointArm, Price, Send, Teacher
from ehrmind.config.evaluation import Evaluate, General, Pilot
from ehrmind.config.model import Lora, Model, TinyModel
from ehrmind.config.recipe import Recipe, differing_keys, load_recipe, parse_recipe, parse_section, recipe_digest
from ehrmind.config.reward import ExtraReward, Reward
from ehrmind.config.running import Cluster, Tracking
from ehrmind.config.sampling import Decoding, Prompts
from ehrmind.config.shipped import first_sentence, shipped_recipes
from ehrmind.config.training import Optimiser, Rlvr, Warmup

__all__ = [
    "ARMS",
    "VARIANTS",
    "VOTING",
    "Arm",
    "Cluster",
    "Data",
    "DataSource",
    "Decoding",
    "EhrFiles",
    "Endpoint",
    "EndpointArm",
    "Evaluate",
    "ExtraReward",
    "General",
    "History",
    "Lora",
    "Model",
    "Optimiser",
    "Pilot",
    "Price",
    "Prompts",
    "Recipe",
    "Reward",
    "Rlvr",
    "Send",
    "Synthetic",
    "TableFile",
    "Teacher",
    "TinyModel",
    "Tracking",
    "TrialFiles",
    "Warmup",
    "differing_keys",
    "first_sentence",
    "load_recipe",
    "parse_recipe",
    "parse_section",
    "recipe_digest",
    "shipped_recipes",
    "split_arm",
]
