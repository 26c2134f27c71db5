// The details of one rollout, its group side by side, and two answers word by word.
import { ask, block, button, byId, element, figure, visible, where } from "./dom.js";

const MARKED = "Marked values stand in the record and in the answer; a wavy line is a finding of the process audit.";
const key = (run, row) => ({ run, stage: row.stage, step: row.step, row: row.row });

function facts(row) {
  const parts = [`question ${row.case}`, where(row.stage, row.step), `answer ${row.member + 1}`, `reward ${figure(row.reward)}`];
  if (row.advantage !== null) parts.push(`advantage ${figure(row.advantage)}`);
  if (row.tokens !== null) parts.push(`${row.tokens} tokens`);
  if (row.finish_reason !== null) parts.push(`ended by ${row.finish_reason}`);
  return element("p", parts.join(" · "), "facts");
}

const verdict = (row) => `${row.verdict}${row.reason === null ? "" : `: ${row.reason}`}`;

// A button that shows the next stretch of a long text.
function goOn(body, asked, what, rest, start) {
  if (!rest) return;
  const more = button(`Show more of it (${rest.toLocaleString("en")} characters are left)`, async () => {
    more.disabled = true;
    try {
      const { found } = await ask("rest", { ...asked, what, start });
      more.before(element("p", found.text, "text"));
      const behind = element("span");
      more.replaceWith(behind);
      goOn(behind, asked, what, found.rest, found.next);
    } catch (error) {
      more.replaceWith(element("p", error.message, "absent"));
    }
  });
  body.append(more);
}

function theRecord(body, found, asked) {
  if (found.said) body.append(element("p", found.said, "absent"));
  if (!found.record.length) return;
  body.append(...block("Record", found.record));
  goOn(body, asked, "record", found.record_rest, found.shown);
  body.append(...block("Question", [[found.question, "", ""]]));
}

function theAnswer(body, found) {
  if (found.thinking) body.append(...block("Thinking", found.thinking), ...block("Answer", found.answer));
  else body.append(...block("The whole text", found.text));
}

function theAudit(body, found) {
  const parts = Object.entries(found.parts).map(([name, [passed, checked]]) => `${name} ${passed} of ${checked}`);
  if (!parts.length) return;
  body.append(element("h4", "The process audit"), element("p", parts.join(" · "), "facts"));
  const list = element("ul");
  for (const [words, said] of found.findings) {
    const item = element("li", said);
    item.append(" ", element("q", words));
    list.append(item);
  }
  body.append(list);
}

export async function show(run, row, body) {
  const asked = key(run, row);
  let found;
  try {
    ({ found } = await ask("rollout", asked));
  } catch (error) {
    body.replaceChildren(element("p", error.message, "absent"));
    return;
  }
  const buttons = element("div", undefined, "buttons");
  buttons.append(button("The group side by side", () => showGroup(run, row)), button("Compare with another answer", () => compare(run, row)));
  body.replaceChildren(facts(found), buttons, element("p", MARKED, "facts"));
  theRecord(body, found, asked);
  if (found.earlier) body.append(...block("Earlier turns", [[found.earlier, "", ""]]));
  theAnswer(body, found);
  goOn(body, asked, "text", found.text_rest, found.shown);
  if (found.expected) body.append(...block("Expected", [[found.expected, "", ""]]));
  body.append(...block("Verdict", [[verdict(found), "", ""]]));
  theAudit(body, found);
}

function panel(title) {
  byId("panel-title").textContent = visible(title);
  const body = byId("panel-body");
  body.replaceChildren(element("p", "Reading…", "absent"));
  if (!byId("panel").open) byId("panel").showModal();
  return body;
}

async function showGroup(run, row) {
  const body = panel(`All answers to question ${row.case} in ${where(row.stage, row.step)}`);
  try {
    const { found } = await ask("group", { ...key(run, row), case: row.case });
    body.replaceChildren();
    theRecord(body, found, key(run, row));
    if (found.expected) body.append(...block("Expected", [[found.expected, "", ""]]));
    const columns = element("div", undefined, "side-by-side");
    for (const answer of found.answers) {
      const one = element("article");
      one.append(element("h3", `Answer ${answer.member + 1}: ${verdict(answer)}`, answer.correct ? "good" : "warn"));
      const parts = `reward ${figure(answer.reward)} · advantage ${figure(answer.advantage)} · ${answer.tokens} tokens`;
      one.append(element("p", parts, "facts"));
      theAnswer(one, answer);
      if (answer.text_rest) one.append(element("p", `${answer.text_rest.toLocaleString("en")} more characters; open this answer from the list to read them.`, "absent"));
      columns.append(one);
    }
    body.append(columns);
  } catch (error) {
    body.replaceChildren(element("p", error.message, "absent"));
  }
}

async function compare(run, row) {
  const body = panel(`Two answers to question ${row.case}`);
  try {
    const { found } = await ask("places", { run, case: row.case });
    const answers = found.flatMap((place) => place.row.map((at, n) => ({ stage: place.stage, step: place.step, row: at, member: place.member[n], correct: place.correct[n], arm: place.arm_name })));
    if (answers.length < 2) {
      body.replaceChildren(element("p", "This question was answered once only, so there is nothing to compare it with yet.", "absent"));
      return;
    }
    const here = answers.findIndex((one) => one.stage === row.stage && one.step === row.step && one.row === row.row);
    const otherStep = (one) => one.stage !== row.stage || one.step !== row.step;
    let other = answers.findLastIndex((one, place) => place < here && otherStep(one));
    if (other < 0) other = answers.findIndex((one, place) => place !== here && otherStep(one));
    if (other < 0) other = here ? 0 : 1;
    chooseTwo(run, body, answers, Math.min(here, other), Math.max(here, other));
  } catch (error) {
    body.replaceChildren(element("p", error.message, "absent"));
  }
}

function chooseTwo(run, body, answers, before, after) {
  const form = element("form", undefined, "filters");
  const result = element("div");
  const choices = ["Before", "After"].map((title, place) => {
    const label = element("label", `${title} `);
    const select = element("select");
    answers.forEach((one, n) => select.append(new Option(visible(`${where(one.stage, one.step)}, ${one.arm}, answer ${one.member + 1}: ${one.correct ? "right" : "not right"}`), n)));
    select.value = place ? after : before;
    select.addEventListener("change", () => showDifference(run, result, ...choices.map((chosen) => answers[chosen.value])));
    label.append(select);
    form.append(label);
    return select;
  });
  body.replaceChildren(form, result);
  showDifference(run, result, answers[before], answers[after]);
}

async function showDifference(run, result, before, after) {
  try {
    const { found } = await ask("difference", { ...key(run, before), to_stage: after.stage, to_step: after.step, to_row: after.row });
    const text = element("p", undefined, "text words");
    text.tabIndex = 0;
    for (const [kind, words] of found.words) text.append(kind === "same" ? visible(words) : element(kind === "gone" ? "del" : "ins", words));
    const parts = [found.before, found.after].map((one, place) => {
      const line = facts(one);
      line.prepend(element("strong", `${place ? "After" : "Before"}, ${verdict(one)} · `));
      return line;
    });
    result.replaceChildren(...parts, text);
    if (found.words.every(([kind]) => kind === "same")) result.append(element("p", "The two texts are the same.", "absent"));
    if (!found.whole) result.append(element("p", "These answers are long: only their beginnings were compared word by word.", "absent"));
  } catch (error) {
    result.replaceChildren(element("p", error.message, "absent"));
  }
}
