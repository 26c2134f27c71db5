"""Makes synthetic MedCalc cases: patients, notes about them, and the truth from the calculators."""

from ehrmind.data.synthetic.cases import Difficulty, synthetic_case, synthetic_cases

__all__ = ["Difficulty", "synthetic_case", "synthetic_cases"]
