"""`docs/calculators.md`, made from the calculators themselves: python -m ehrmind.calculators.page > docs/calculators.md"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from ehrmind.calculators import CALCULATORS
from ehrmind.calculators.calculator import Calculator
from ehrmind.calculators.catalogue import CATEGORIES

HEAD = """# The calculators

Made by `python -m ehrmind.calculators.page`; a test keeps it true. `ehrmind calc show NAME` shows the same card,
`ehrmind calc NAME INPUT=VALUE…` works it.

Every calculator follows its publication. Where MedCalc-Bench works it otherwise, the deviation is listed, and
`convention="medcalc"` (the v1.0 release) or `convention="medcalc-verified"` (the Verified release) reproduces it. Under both, three
things hold for all calculators: unit conversions go by way of moles and grams rounded to three decimals, limits in SI units are not
looked at, and no value is refused for its size. Under the published convention a measurement that no living patient has is refused,
and a missing input is refused unless its row below says what stands in for it.

Units are read in clinicians', laboratories' and UCUM's spellings. Units of one kind convert by their sizes, others by a rule of the
analyte (molar mass, charge, the line between two methods); what has no rule, or two readings, is refused. Where a table states limits
in SI units too, a value in SI units is compared with those: SOFA's bilirubin of 33 µmol/L scores 2, as 2.0 mg/dL does, though it is
1.93 mg/dL.
"""


def page() -> str:
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield HEAD
    yield "| id | calculator | category | answer |"
    yield "| --- | --- | --- | --- |"
    for calculator in CALCULATORS.values():
        yield f"| {calculator.id} | [{calculator.name}](#{calculator.slug}) | {calculator.category} | {calculator.unit or 'a number'} |"
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
