"""Pregnancy by the calendar: due date, day of conception, gestational age."""

from __future__ import annotations

import datetime

from ehrmind.calculators.calculator import Calculator, Deviation
from ehrmind.calculators.telling import shown
from ehrmind.calculators.vocabulary import CYCLE_LENGTH, LAST_PERIOD, TODAY
from ehrmind.calculators.working import Steps, num
from ehrmind.types import InputError


def due_date(steps: Steps, *, last_period: datetime.date, cycle_length: float, longer_only: bool = False) -> datetime.date:
    """Naegele's rule: 280 days from the last period, and as many more or fewer as the cycle is longer or shorter than 28."""
    shift = int(cycle_length) - 28
    steps("days by which the cycle differs from 28", f"{num(int(cycle_length))} - 28", shift, "days")
    shift = abs(shift) if longer_only else shift
    return steps("due date", f"{shown(last_period)} and {280 + shift} days", last_period + datetime.timedelta(days=280 + shift))


def conception(steps: Steps, *, last_period: datetime.date, cycle_length: float, whatever_cycle: bool = False) -> datetime.date:
    """Ovulation comes two weeks before the next period, which is two weeks after the last in a cycle of 28 days."""
    days = 14 if whatever_cycle else int(cycle_length) - 14
    steps("days from the last period to ovulation", "14" if whatever_cycle else f"{num(int(cycle_length))} - 14", days, "days")
    return steps("day of conception", f"{shown(last_period)} and {days} days", last_period + datetime.timedelta(days=days))


def gestational_age(steps: Steps, *, last_period: datetime.date, today: datetime.date) -> tuple[int, int]:
    days = (today - last_period).days
    if days < 0:
        raise InputError("today: the day of the visit is before the last menstrual period.")
    steps("days since the last period", f"{shown(today)} less {shown(last_period)}", days, "days")
    return steps("gestational age", f"{days} days in weeks of 7", (days // 7, days % 7))


_NAEGELE = "Naegele FC. Lehrbuch der Geburtshülfe für Hebammen. Heidelberg, 1830."

CALCULATORS = (
    Calculator(
        13,
        due_date,
        (LAST_PERIOD, CYCLE_LENGTH),
        question="Using Naegele's rule, what is the patient's estimated due date (month/day/year), by last menstrual period and cycle length?",
        formula="last period + 280 days + (cycle length - 28 days)",
        citation=f"{_NAEGELE} As in: ACOG Committee Opinion No. 700. Obstet Gynecol. 2017;129(5):e150-e154.",
        deviations=(
            Deviation("a cycle under 28 days makes the due date later", "the release adds the days that it says it subtracts", {"longer_only": True}),
        ),
    ),
    Calculator(
        68,
        conception,
        (LAST_PERIOD, CYCLE_LENGTH),
        question="What is the patient's estimated date of conception (month/day/year), by last menstrual period and cycle length?",
        formula="last period + (cycle length - 14 days)",
        citation="Lenton EA, Landgren BM, Sexton L. Normal variation in the length of the luteal phase of the menstrual cycle. "
        "Br J Obstet Gynaecol. 1984;91(7):685-689.",
        deviations=(
            Deviation(
                "conception is 14 days after the last period whatever the cycle's length",
                "the releases' rule is for a cycle of 28 days",
                {"whatever_cycle": True},
                conventions=("medcalc", "medcalc-verified"),
            ),
        ),
    ),
    Calculator(
        69,
        gestational_age,
        (LAST_PERIOD, TODAY),
        question="What is the patient's estimated gestational age (weeks, days), by last menstrual period?",
        formula="days from the last period to today, in weeks and days",
        citation="ACOG Committee Opinion No. 700: Methods for estimating the due date. Obstet Gynecol. 2017;129(5):e150-e154.",
    ),
)
