// The list of rollouts: filters, pages, search, and news while the run goes on.
import { ask, byId, element, figure, fill, visible, where } from "./dom.js";
import { show } from "./rollout_detail.js";

const NAMES = ["stage", "step", "arm", "stratum", "verdict", "reason", "case", "text"];
const SIGNS = { right: "✓ right", wrong: "✗ wrong", malformed: "✗ malformed" };
const form = byId("filters");
const list = byId("list");
const state = { run: null, page: 0, pages: 1, version: null, filtersVersion: null, steps: {}, waiting: null, turn: 0 };

const wanted = () => Object.fromEntries(NAMES.map((name) => [name, form.elements[name].value.trim()]));

// Keeps the filters in the address, so that going back and reloading work. The searched text stays
// out of it, because it may come from a record.
function remember() {
  const kept = new URLSearchParams({ run: state.run });
  for (const [name, value] of Object.entries(wanted())) if (value && name !== "text") kept.set(name, value);
  if (state.page) kept.set("page", state.page);
  history.replaceState(null, "", `#${kept}`);
}

function row(rollout) {
  const details = element("details");
  const summary = element("summary");
  summary.append(
    element("span", SIGNS[rollout.verdict], rollout.correct ? "good" : "warn"),
    element("span", rollout.arm_name),
    element("span", rollout.stratum),
    element("span", rollout.reason),
    element("span", `reward ${figure(rollout.reward)}`),
    element("span", where(rollout.stage, rollout.step), "quiet"),
    element("span", rollout.answer === null ? "its text is gone" : rollout.answer, "preview"),
  );
  const body = element("div", undefined, "body");
  details.append(summary, body);
  details.addEventListener("toggle", () => {
    if (!details.open || body.hasChildNodes()) return;
    body.append(element("p", "Reading…", "absent"));
    show(state.run, rollout, body);
  });
  const item = element("li");
  item.append(details);
  return item;
}

function steps() {
  const stage = form.elements.stage.value;
  const there = stage ? state.steps[stage] || [] : [];
  const training = /^(rlvr-|warmup)/.test(stage);
  fill(form.elements.step, there.map((step) => [step, `${training ? "step" : "batch"} ${step + 1}`]), stage ? "all" : "choose a stage first");
  form.elements.step.disabled = !stage;
}

async function filters() {
  const run = state.run;
  const answer = await ask("filters", { run }, state.filtersVersion);
  if (answer === null || run !== state.run) return;
  const { found, version } = answer;
  state.filtersVersion = version;
  state.steps = found.steps;
  fill(form.elements.stage, Object.keys(found.steps).map((stage) => [stage, stage]), "all");
  fill(form.elements.arm, found.arms, "all");
  fill(form.elements.stratum, found.strata.map((stratum) => [stratum, stratum]), "all");
  fill(form.elements.verdict, found.verdicts.map((verdict) => [verdict, verdict]), "all");
  byId("unread").hidden = !found.unread.length;
  byId("unread").textContent = visible(`These files hold no rollouts that can be read: ${found.unread.join(", ")}.`);
  fill(form.elements.reason, found.reasons.map((reason) => [reason, reason]), "any, or none");
  steps();
}

function draw(found) {
  state.page = found.page;
  state.pages = found.pages;
  list.replaceChildren(...found.rows.map(row));
  byId("renew").hidden = true;
  state.waiting = null;
  count(found);
}

function count(found) {
  let rest = "";
  if (found.not_searched) rest = ` so far; ${found.not_searched.toLocaleString("en")} are still to be searched`;
  if (found.left) rest = ` so far; ${found.left.toLocaleString("en")} files are still to be read`;
  byId("count").textContent = `${found.total.toLocaleString("en")} of ${found.of.toLocaleString("en")} rollouts${rest}`;
  byId("place").textContent = `page ${found.page + 1} of ${found.pages.toLocaleString("en")}`;
  byId("previous").disabled = found.page === 0;
  byId("next").disabled = found.page >= found.pages - 1;
  const empty = byId("no-rollouts");
  empty.hidden = found.of > 0;
  empty.textContent = found.none;
  form.hidden = found.of === 0;
}

// Asks for a page until all files are read and all texts searched. If answers cross, the last
// question counts.
async function turn(to) {
  const mine = ++state.turn;
  const asked = { run: state.run, ...wanted(), page: to };
  list.ariaBusy = "true";
  try {
    for (let first = true, left = 1; left; first = false) {
      const { found, version } = await ask("rollouts", asked);
      if (mine !== state.turn) return;
      state.version = version;
      left = found.not_searched + found.left;
      if (first || !isRead()) draw(found);
      else offer(found);
    }
    remember();
  } finally {
    if (mine === state.turn) list.ariaBusy = "false";
  }
}

// Whether a redrawn list would move under the reader: an answer is open or in focus, or it is not
// the first page.
const isRead = () => state.page > 0 || list.contains(document.activeElement) || list.querySelector("details[open]") !== null;

// Offers news by a button.
function offer(found) {
  state.waiting = found;
  byId("renew").textContent = "There is more: show it";
  byId("renew").hidden = false;
  if (found.page === state.page) count(found);
}

// Looks for news.
export async function renew() {
  const mine = state.turn;
  await filters();
  const answer = await ask("rollouts", { run: state.run, ...wanted(), page: state.page }, state.version);
  if (answer === null || mine !== state.turn) return;
  state.version = answer.version;
  if (isRead()) offer(answer.found);
  else draw(answer.found);
}

export async function openRollouts(run, kept) {
  Object.assign(state, { run, version: null, filtersVersion: null, steps: {}, waiting: null });
  for (const name of NAMES) form.elements[name].value = "";
  list.replaceChildren();
  const asked = NAMES.filter((name) => name !== "text" && kept.get(name));
  if (asked.length) await filters();
  for (const name of asked) {
    if (name === "step") steps();
    form.elements[name].value = kept.get(name);
  }
  steps();
  await Promise.all([turn(Number(kept.get("page")) || 0), filters()]);
}

export function listen(guarded) {
  let typed = null;
  form.addEventListener("input", (event) => {
    if (event.target.name === "stage") form.elements.step.value = "";
    steps();
    list.ariaBusy = "true";
    clearTimeout(typed);
    typed = setTimeout(guarded(() => turn(0)), event.target.tagName === "INPUT" ? 350 : 0);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(guarded(() => (steps(), turn(0)))));
  byId("previous").addEventListener("click", guarded(() => turn(state.page - 1)));
  byId("next").addEventListener("click", guarded(() => turn(state.page + 1)));
  byId("renew").addEventListener("click", () => draw(state.waiting));
}
