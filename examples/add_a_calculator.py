"""A calculator of one's own, on one screen: the shock index, with its working, synthetic cases, and
the proof of them.

    python examples/add_a_calculator.py

In the package the two entries of `main` are lines: ENTRY one of `_ALL` in calculators/catalogue.py,
SHOCK_INDEX one of `CALCULATORS` in the file of its system (calculators/heart.py). What else there
is follows from them: `ehrmind calc`, the card in docs/calculators.md, cases and worked answers, the
judge, the pilot's hints, the model's calculator tool.
"""

from __future__ import annotations

from ehrmind.calculators import CALCULATORS, Calculator, Steps
from ehrmind.calculators.catalogue import CATALOGUE, Entry
from ehrmind.calculators.vocabulary import HEART_RATE, SYSTOLIC
from ehrmind.calculators.working import num
from ehrmind.data.synthetic import synthetic_case
from ehrmind.prompts import gold_response, messages
from ehrmind.verify.audit import check_cases

# The benchmark does not use the id; the answer is a bare number.
ENTRY = Entry(1001, "shock-index", "Shock Index", "risk")


def shock_index(steps: Steps, *, heart_rate: float, systolic: float) -> float:
    """A pure function: inputs come in the formula's units, every step shows the patient's
    numbers.
    """
    return steps("shock index", f"{num(heart_rate)} / {num(systolic)}", heart_rate / systolic)


SHOCK_INDEX = Calculator(
    ENTRY.id,
    shock_index,
    (HEART_RATE, SYSTOLIC),  # inputs that others have too: units, limits and synthetic values are known
    question="What is the patient's shock index?",
    formula="heart rate (bpm) / systolic blood pressure (mm Hg)",
    citation="Allgöwer M, Burri C. Schockindex. Dtsch Med Wochenschr. 1967;92(43):1947-1950.",
)


def main() -> None:
    CATALOGUE[ENTRY.id] = ENTRY
    CALCULATORS[ENTRY.id] = SHOCK_INDEX
    result = SHOCK_INDEX(heart_rate="118 bpm", systolic="92 mm Hg")
    print(f"{SHOCK_INDEX.name}: {result.value:.2f}")
    for number, step in enumerate(result.steps, start=1):
        print(f"  {number}. {step.what} = {step.expression} = {num(float(step.value))}")

    cases = [synthetic_case(1, index, "train", SHOCK_INDEX) for index in range(20)]
    print(f"\n--- a prompt\n{messages(cases[0])[0].content}\n--- its gold response\n{gold_response(cases[0])}\n---")
    report = check_cases(cases)
    gold, corrupted = report.gold, report.corrupted
    print(
        f"with full marks: {gold.passed} of {gold.total} gold responses, {corrupted.passed} of {corrupted.total}"
        " corrupted ones"
    )
    if not report.ok:
        raise SystemExit("The cases are not proven.")


if __name__ == "__main__":
    main()
