"""The recipe: one YAML file that says everything an experiment does, as pydantic models."""

from ehrmind.config.data import Data, DataSource, EhrFiles, History, Synthetic, TableFile, TrialFiles
from ehrmind.config.parts import Decoding, Evaluate, Lora, Model, Optimiser, Pilot, Prompts, Rlvr, TinyModel, Tracking, Warmup
from ehrmind.config.recipe import ARMS, Arm, Recipe, differing_keys, load_recipe, parse_recipe, parse_section, recipe_digest

__all__ = [
    "ARMS",
    "Arm",
    "Data",
    "DataSource",
    "Decoding",
    "EhrFiles",
    "Evaluate",
    "History",
    "Lora",
    "Model",
    "Optimiser",
    "Pilot",
    "Prompts",
    "Recipe",
    "Rlvr",
    "Synthetic",
    "TableFile",
    "TinyModel",
    "Tracking",
    "TrialFiles",
    "Warmup",
    "differing_keys",
    "load_recipe",
    "parse_recipe",
    "parse_section",
    "recipe_digest",
]
