"""Writes `docs/calculators.md` from the calculators: python -m ehrmind.calculators.page >
docs/calculators.md"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from ehrmind.calculators import CALCULATORS
from ehrmind.calculators.calculator import Calculator
from ehrmind.calculators.catalogue import CATEGORIES

HEAD = """# The calculators

`ehrmind calc NAME INPUT=VALUE…` works a calculator, and `ehrmind calc show NAME` prints its card as
on this page. The page is made by `python -m ehrmind.calculators.page`; a test keeps it true.

Every calculator follows its publication. Under this convention, a measurement that no living
patient has is refused. A missing input is refused too, unless its row below has a default.

Where MedCalc-Bench computes a calculator differently, the deviation is listed.
`convention="medcalc"` (the v1.0 release) or `convention="medcalc-verified"` (the Verified release)
reproduces it. Under both, three things hold for all calculators:

- Unit conversions go through moles and grams, rounded to three decimals.
- Limits in SI units are not used.
- No value is refused for its size.

Units are read in clinicians', laboratories' and UCUM's spellings. Units of one kind convert by
size. Other units convert by a rule of the analyte (molar mass, charge, the line between two
methods). A unit without a rule, or with two readings, is refused. Where a table also states limits
in SI units, a value in SI units is compared with those. For example, SOFA's bilirubin of 33 µmol/L
scores 2, as 2.0 mg/dL does, although it is 1.93 mg/dL.
"""


def page() -> str:
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield HEAD
    yield "| id | calculator | category | answer |"
    yield "| --- | --- | --- | --- |"
    for calculator in CALCULATORS.values():
        link, unit = f"[{calculator.name}](#{calculator.slug})", calculator.unit or "a number"
        yield f"| {calculator.id} | {link} | {calculator.category} | {unit} |"
    for category in CATEGORIES:
        yield f"\n## {category.capitalize()}"
        for calculator in CALCULATORS.values():
            if calculator.category == category:
                yield from _card(calculator)


def _card(calculator: Calculator) -> Iterator[str]:
    yield f'\n<a id="{calculator.slug}"></a>'
    yield f"### {calculator.name} (`{calculator.slug}`, {calculator.id})\n"
    yield f"{calculator.question}\n"
    yield f"- **Formula:** {_escaped(calculator.formula)}"
    yield f"- **Published:** {_escaped(calculator.citation)}"
    for found in calculator.deviations:
        yield f"- **Deviation** ({', '.join(found.conventions)}): {_escaped(found.what)}. Why: {_escaped(found.why)}."
    yield "\n| input | what | takes | if missing |"
    yield "| --- | --- | --- | --- |"
    for item in calculator.inputs:
        yield f"| `{item.name}` | {item.label} | {_escaped(item.describe())} | {item.because or 'refused'} |"


def _escaped(text: str) -> str:
    return text.replace("*", "\\*").replace("|", "\\|").replace("<", "&lt;").rstrip(".")


if __name__ == "__main__":
    sys.stdout.write(page())
