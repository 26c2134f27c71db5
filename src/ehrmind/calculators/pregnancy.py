"""Pregnancy by the calendar: due date, day of conception, gestational age."""

from __future__ import annotations

import datetime

from ehrmind.calculators.calculator import Calculator, Deviation
from ehrmind.calculators.inputs import ValueRefusedError, refused
from ehrmind.calculators.vocabulary import CYCLE_LENGTH, LAST_PERIOD, TODAY
from ehrmind.calculators.working import Steps, num

LONGEST = 45 * 7  # days; no pregnancy lasts longer, so the count must start from another period


def due_date(
    steps: Steps, *, last_period: datetime.date, cycle_length: float, always_later: bool = False
) -> datetime.date:
    """Applies Naegele's rule in days: 40 weeks after the last period, later by the days that the
    cycle exceeds 28."""
    longer = steps("days by which the cycle is longer than 28", f"{num(cycle_length)} - 28", cycle_length - 28, "days")
    return _after(steps, "due date", last_period, 280, abs(longer) if always_later else longer)


def day_of_conception(
    steps: Steps, *, last_period: datetime.date, cycle_length: float, cycle_counts: bool = True
) -> datetime.date:
    """Places ovulation two weeks before the next period, so later by the days that the cycle
    exceeds 28."""
    if not cycle_counts:
        return _after(steps, "day of conception", last_period, 14, 0)
    longer = steps("days by which the cycle is longer than 28", f"{num(cycle_length)} - 28", cycle_length - 28, "days")
    return _after(steps, "day of conception", last_period, 14, longer)


def gestational_age(steps: Steps, *, last_period: datetime.date, today: datetime.date) -> tuple[int, int]:
    days = (today - last_period).days
    if not 0 <= days <= LONGEST:
        when, than = ("before", "") if days < 0 else (f"{days // 7} weeks after", f"more than {LONGEST // 7} weeks ")
        raise ValueRefusedError(
            f"today: {_written(today)} is {when} the last menstrual period ({_written(last_period)}), in no pregnancy.",
            f"today: its value is {than}{'before' if days < 0 else 'after'} the last menstrual period, "
            "in no pregnancy.",
        )
    steps(f"days from {_written(last_period)} to {_written(today)}", num(days), days, "days")
    return steps("gestational age", f"{days} days = {days // 7} * 7 + {days % 7}", divmod(days, 7))


def _after(steps: Steps, what: str, day: datetime.date, days: int, longer: float) -> datetime.date:
    shift = round(longer)
    if abs(longer - shift) > 1e-6:  # weeks may have been converted
        raise refused("cycle_length", num(longer + 28), "is not a whole number of days.")
    try:
        result = day + datetime.timedelta(days + shift)
    except OverflowError:
        raise refused("last_period", _written(day), "is too late for a calendar.") from None
    later = f" {'-' if shift < 0 else '+'} {abs(shift)} days" if shift else ""
    return steps(what, f"{_written(day)} + {days} days{later}", result)


def _written(day: datetime.date) -> str:
    return f"{day:%m/%d}/{day.year:04}"


_ACOG = (
    "Committee Opinion No. 700: methods for estimating the due date. American College of Obstetricians and "
    "Gynecologists. Obstet Gynecol. 2017;129(5):e150-e154."
)

CALCULATORS = (
    Calculator(
        13,
        due_date,
        (LAST_PERIOD, CYCLE_LENGTH),
        question="What is the patient's estimated due date by Naegele's rule, from her last menstrual period and cycle "
        "length?",
        formula="last menstrual period + 280 days + (cycle length - 28)",
        citation=f"Baskett TF, Nagele F. Naegele's rule: a reappraisal. BJOG. 2000;107(11):1433-1435. {_ACOG}",
        deviations=(
            Deviation(
                "a cycle shorter than 28 days makes the due date later, not earlier",
                "its code says subtract and adds",
                {"always_later": True},
            ),
        ),
    ),
    Calculator(
        68,
        day_of_conception,
        (LAST_PERIOD, CYCLE_LENGTH),
        question="On which day did the patient conceive, estimated from her last menstrual period and cycle length?",
        formula="last menstrual period + 14 days + (cycle length - 28)",
        citation=_ACOG,
        deviations=(
            Deviation(
                "conception is two weeks after the last period, whatever the cycle length",
                "its code reads the cycle length and does not use it",
                {"cycle_counts": False},
                conventions=("medcalc", "medcalc-verified"),
            ),
        ),
    ),
    Calculator(
        69,
        gestational_age,
        (LAST_PERIOD, TODAY),
        question="What is the gestational age of the patient's pregnancy in weeks and days, by her last menstrual "
        "period?",
        formula="days from the last menstrual period to today, as weeks of seven days and the days left over",
        citation=_ACOG,
    ),
)
