"""The clinical arithmetic of the MedCalc family; so far the catalogue of its 55 calculators."""
