"""Criteria of registry records: divided by headings in the words that people write, left undivided
where that cannot be trusted.
"""

from __future__ import annotations

import pytest

from ehrmind import tasks
from ehrmind.data.labels import label_truth
from ehrmind.data.trec.criteria import Criteria, split_criteria
from ehrmind.data.trec.formats import Trial
from ehrmind.data.trec.pairs import LABELS, pair_case
from ehrmind.data.trec.text import one_line, plain
from ehrmind.data.trec.topics import Topic

HEADINGS = [
    "NON-INCLUSION CRITERIA :",
    "Non-inclusion Criteria",
    "Noninclusion criteria:",
    "Exclusions:",
    "Exclusion:",
    "Exclusionary criteria",
    "Excluding criteria:",
    "Key Exclusion Criteria:",
    "Criteria for exclusion:",
    "Reasons for exclusion:",
    "Rejection criteria:",
    "Main exclusion",
    "EXCLUSION CRITERIA.",
    "- Exclusion -",
    "**Exclusion Criteria:**",
    "\\*\\*Exclusion Criteria:\\*\\*",
    "## Exclusion",
    "• Exclusion Criteria:",
    "\\* Exclusion Criteria:",
    "2.1 Exclusion Criteria",
    "II. Exclusion criteria:",
    "Critères de non-inclusion :",
    "Critères d’exclusion",
    "Criterios de exclusión:",
    "Ausschlusskriterien:",
    "Criteri di esclusione",
]
LEADS = [
    "Ineligibility Criteria:",
    "Overall Exclusion Criteria:",
    "Patients will be excluded if they have:",
    "Patients will be excluded if they have",
    "Subjects with any of the following are excluded",
    "Not eligible if:",
    "The following patients will not be eligible:",
    "Persons cannot participate with:",
    "The following should not be enrolled:",
    "Contraindications:",
]


@pytest.mark.parametrize("heading", HEADINGS)
def test_what_stands_under_an_exclusion_heading_is_exclusion_however_it_is_written(heading: str) -> None:
    found = split_criteria(f"Inclusion Criteria:\n\n* adults\n\n{heading}\n\n* dialysis\n* pregnancy")
    assert (found.inclusion, found.exclusion, found.other) == (("adults",), ("dialysis", "pregnancy"), ())


@pytest.mark.parametrize("lead", LEADS)
def test_a_sentence_that_begins_a_list_of_exclusions_is_their_heading_and_stays(lead: str) -> None:
    found = split_criteria(f"Inclusion Criteria:\n\n* adults\n\n{lead}\n\n* dialysis\n* pregnancy")
    assert (found.inclusion, found.exclusion) == (("adults",), (lead, "dialysis", "pregnancy"))


@pytest.mark.parametrize(
    "text",
    [
        "Inclusion Criteria: 1. adults Exclusion Criteria: 1. dialysis",
        "Inclusion Criteria: adults. Exclusion Criteria: dialysis",
        "INCLUSION CRITERIA: - ADULTS EXCLUSION CRITERIA: - DIALYSIS",
        "Inclusion Criteria - adults Exclusion Criteria - dialysis",
        "inclusion criteria: adults; exclusion criteria: dialysis",
        "Inclusion Criteria:~~adults~~Exclusion Criteria:~~dialysis",
        "Inclusion Criteria:\r\n\r\n* adults\r\n\r\nExclusion Criteria:\r\n* dialysis",
        "Inclusion Criteria:\u2028* adults\u2028Exclusion Criteria:\u2028* dialysis",
        "Inclusion Criteria:\x85* adults\x0cExclusion Criteria:\x85* dialysis",
        "Inclusion Criteria:<br>- adults<br/>Exclusion Criteria:<ul><li>dialysis</li></ul>",
        "Inclusion Criteria:&lt;br&gt;- adults&lt;br&gt;Exclusion Criteria:&lt;br&gt;- dialysis",
        "Exclusion Criteria:\n- dialysis\n\nInclusion Criteria:\n- adults",
        "* Inclusion Criteria:\n* adults\n* Exclusion Criteria:\n* dialysis",
        "* Inclusion Criteria:\n    * adults\n* Exclusion Criteria:\n    * dialysis",
    ],
)
def test_headings_are_found_inside_lines_and_behind_line_ends_of_every_kind(text: str) -> None:
    found = split_criteria(text)
    said = [" ".join(part).lower().strip(" .;") for part in (found.inclusion, found.exclusion, found.other)]
    assert said == ["adults", "dialysis", ""]


@pytest.mark.parametrize(
    "text",
    [
        (
            "Inclusion Criteria:\n* adults\n* Patients on dialysis will not be eligible.\n\nExclusion Criteria:\n*"
            " pregnancy"
        ),
        "Inclusion Criteria:\n* adults\n* No exclusion of patients with diabetes.\n\nExclusion Criteria:\n* dialysis",
        "Inclusion Criteria:\n* adults\n* exclusion of pregnancy by test\n\nExclusion Criteria:\n* dialysis",
        "Inclusion Criteria:\n* adults\n* Smokers are not excluded.\n\nExclusion Criteria:\n* dialysis",
        "Inclusion Criteria:\n* adults. Excluding those on dialysis.",
        "Inclusion Criteria:\n* adults\n* Exclusion: dialysis\n* older than 18",
        "Inclusion Criteria:\n* adults\n    * Exclusion:\n    * dialysis\n* older than 18",
        "Inclusion Criteria:\n* adults\n\nPatients are excluded if they have:\n* dialysis\n\nEveryone must consent.",
        "Inclusion Criteria:\n* adults\n\nPatients are excluded if they have:\n\ndialysis\n\nconsent is needed",
        "Inclusion Criteria:\n* adults\n\nExclusion Criteria:\n* dialysis\n\nRequired:\n* consent",
        "Inclusion Criteria:\n- Adultes\n- Les patients dialysés seront exclus",
        "Inclusion Criteria:\n* adults who meet none of the exclusion criteria: dialysis",
    ],
)
def test_a_record_whose_division_cannot_be_trusted_is_left_undivided_and_marked(text: str) -> None:
    found = split_criteria(text)
    assert found.mixed and not found.split
    lost = set(text.lower().replace("*", " ").replace("-", " ").split()) - set(
        " ".join(found.other).lower().replace("-", " ").split()
    )
    assert not lost


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Inclusion/Exclusion criteria:\n- a", Criteria(other=("Inclusion/Exclusion criteria:", "a"))),
        ("Inclusion and Exclusion Criteria:\n- a", Criteria(other=("Inclusion and Exclusion Criteria:", "a"))),
        (
            "DISEASE CHARACTERISTICS:\n\n* a\n\nPATIENT CHARACTERISTICS:\n\n* b",
            Criteria(other=("DISEASE CHARACTERISTICS:", "a", "PATIENT CHARACTERISTICS:", "b")),
        ),
        (
            "DISEASE CHARACTERISTICS:\n\nInclusion criteria:\n\n* a\n\nExclusion criteria:\n\n* b\n\nPATIENT CHARACTERISTICS:\n\n* c",
            Criteria(("a",), ("b",), ("DISEASE CHARACTERISTICS:", "PATIENT CHARACTERISTICS:", "c")),
        ),
        (
            "Inclusion criteria:\n\nDISEASE CHARACTERISTICS:\n\n* a\n\nExclusion criteria:\n\n* b",
            Criteria(("DISEASE CHARACTERISTICS:", "a"), ("b",)),
        ),
        (
            "Cohort A\n\nInclusion:\n* a\n\nExclusion:\n* b\n\nCohort B\n\nInclusion:\n* c\n\nExclusion:\n* d",
            Criteria(("Cohort A:", "a", "Cohort B:", "c"), ("Cohort A:", "b", "Cohort B:", "d")),
        ),
        ("Inclusion A:\n* a\n\nExclusion A:\n* b\n\nInclusion B:\n* c", Criteria(("A:", "a", "B:", "c"), ("A:", "b"))),
        (
            "Inclusion Criteria:\n* tumour (excluding skin)\n* not eligible for surgery",
            Criteria(("tumour (excluding skin)", "not eligible for surgery")),
        ),
        (
            "Inclusion Criteria:\n* none of the\n  exclusion criteria and so on\n",
            Criteria(other=("Inclusion Criteria:", "none of the exclusion criteria and so on"), mixed=True),
        ),
        ("Patients will be excluded if on dialysis.", Criteria(other=("Patients will be excluded if on dialysis.",))),
    ],
)  # fmt: skip
def test_headings_over_both_pdqs_headings_cohorts_and_words_that_exclude_nobody(text: str, wanted: Criteria) -> None:
    assert split_criteria(text) == wanted


def test_markdown_escapes_are_undone_and_comparisons_survive() -> None:
    text = (
        "Inclusion Criteria:\n\n* Hb \\> 9 \\[g/dL\\], CRP \\< 5\n* CYP2D6\\*4 a\\_b\n* about \\~5 mg\n* \\- 5 D or"
        " less\n\n1\\. ECOG 0\\-2\n\nExclusion Criteria:\n\n* Hb &lt; 9 and platelets &#8804; 100 x 10<sup>9</sup>/L, p"
        " <0.05, x<y and y>z, R&D; 3"
    )
    found = split_criteria(text)
    assert found.inclusion == ("Hb > 9 [g/dL], CRP < 5", "CYP2D6*4 a_b", "about ~5 mg", "- 5 D or less", "ECOG 0-2")
    assert found.exclusion == ("Hb < 9 and platelets ≤ 100 x 10^9/L, p <0.05, x<y and y>z, R&D; 3",)


def test_a_tilde_before_a_number_means_about_and_is_no_line_end() -> None:
    assert split_criteria("Inclusion Criteria: weight ~5 kg, age 18~65").inclusion == ("weight ~5 kg, age 18~65",)
    assert split_criteria("Inclusion Criteria:~1. weight ~5 kg~2. adults").inclusion == ("weight ~5 kg", "adults")
    assert one_line("A trial~of ~5 mg &amp; more") == "A trial of ~5 mg & more"


def test_control_characters_go_and_spaces_are_plain() -> None:
    assert plain("a\x00b\xa0c\u202fd\x1ee\x85f") == "ab c d\ne\nf"


@pytest.mark.parametrize("undivided", [False, True])
def test_prompt_and_aid_follow_the_division(undivided: bool) -> None:
    more = "\n* smokers are not excluded" * undivided
    criteria = split_criteria(f"Inclusion Criteria:\n* adults{more}\n\nNon-inclusion criteria:\n* dialysis")
    trial = Trial("NCT00000001", "t", "", (), (), "", "", "", criteria)
    case = pair_case("c", Topic("1", "A patient."), trial, label_truth(0, LABELS), "patient")
    record, hint = tasks.of(case).record(case), tasks.of(case).hints(case)["criteria"]
    assert case.provenance["criteria_mixed"] is undivided
    assert ("Eligibility criteria:" in record) is undivided and ("must be met" in hint) is not undivided
    assert ("must not be met: dialysis" in hint) is not undivided and ("criterion: dialysis" in hint) is undivided


@pytest.mark.parametrize(
    "lead",
    [
        "None of the following:",
        "Contraindications:",
        "Subjects must not have:",
        "Patients free of any of the following:",
        "The following patients are not allowed to participate:",
        "Participants with any of the following will be ruled out:",
        "Patients who meet one of these criteria are not suitable for the study:",
        "Patients unable to participate:",
        "Subjects with the following are barred:",
    ],
)
def test_a_list_of_what_patients_must_not_have_is_never_among_the_inclusion_criteria(lead: str) -> None:
    found = split_criteria(f"Inclusion Criteria:\n- Adults\n{lead}\n- Dialysis\n- Stroke")
    assert not found.inclusion or "Dialysis" in found.exclusion, found


@pytest.mark.parametrize(
    "heading", ["EXCL:", "Exlusion Criteria:", "Ex-clusion Criteria:", "Exlcusion criteria", "排除标准:", "剔除标准："]
)
def test_a_misspelled_or_shortened_heading_of_exclusion_is_one(heading: str) -> None:
    assert split_criteria(f"Inclusion Criteria:\n- Adults\n{heading}\n- Dialysis") == Criteria(
        ("Adults",), ("Dialysis",)
    )


def test_criteria_of_discontinuation_are_no_inclusion_criteria() -> None:
    assert split_criteria("Inclusion Criteria:\n- Adults\nDiscontinuation criteria:\n- Dialysis").inclusion == (
        "Adults",
    )


def test_an_inclusion_criterion_with_a_denied_list_of_exceptions_still_divides() -> None:
    inclusion = "- No other malignancy except:\n- Skin cancer\n- Other causes ruled out. Signed consent"
    assert split_criteria(f"Inclusion Criteria:\n{inclusion}\nExclusion Criteria:\n- Dialysis").split
