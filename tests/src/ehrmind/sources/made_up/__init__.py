"""Made-up MedCalc cases: patients, notes around them, and the truth from the calculators."""

from ehrmind.sources.made_up.cases import Difficulty, made_up_case, made_up_cases

__all__ = ["Difficulty", "made_up_case", "made_up_cases"]
