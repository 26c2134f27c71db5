// The page: the list of runs, or one run. It renews itself every two seconds while it is visible.
import { ask, button, byId, element, visible } from "./dom.js";
import { showFigures } from "./curves.js";
import { listen, openRollouts, renew } from "./rollouts.js";

const EVERY = 2000; // milliseconds
const state = { run: null, figures: null };

function trouble(error) {
  byId("trouble").hidden = !error;
  if (error) byId("trouble").textContent = error instanceof TypeError ? "The view does not answer; has it ended? This page tries again." : error.message;
}

// A handler that shows its failure on the page.
const guarded = (act) => async () => {
  try {
    await act();
    trouble(null);
  } catch (error) {
    trouble(error);
  }
};

const moment = (seconds) => (seconds ? new Date(1000 * seconds).toLocaleString() : "–");

function line(run) {
  const made = element("tr");
  const head = element("th");
  head.scope = "row";
  head.append(button(run.id, () => (location.hash = new URLSearchParams({ run: run.id }))));
  made.append(head, ...[run.name, run.state, run.stages.at(-1) || "none", moment(run.written)].map((text) => element("td", text)));
  return made;
}

async function runs() {
  const { found } = await ask("runs");
  const shown = JSON.stringify(found);
  if (byId("runs-rows").dataset.shown === shown) return;
  byId("runs-rows").dataset.shown = shown;
  const focused = byId("runs-rows").contains(document.activeElement) ? document.activeElement.textContent : null;
  byId("runs-rows").replaceChildren(...found.map(line));
  if (focused) [...byId("runs-rows").querySelectorAll("button")].find((one) => one.textContent === focused)?.focus();
  byId("no-runs").hidden = found.length > 0;
}

async function figures() {
  const run = state.run;
  const answer = await ask("figures", { run }, state.figures);
  if (answer === null || run !== state.run) return;
  state.figures = answer.version;
  const { found } = answer;
  byId("about").textContent = visible([found.id, found.state, `last stage ${found.stages.at(-1) || "none"}`, `written ${moment(found.written)}`].join(" · "));
  byId("title").textContent = visible(found.name);
  document.title = `${found.name} · EHRMIND view`;
  const seeds = found.seeds.map((seed) => button(`Seed ${seed}`, () => (location.hash = new URLSearchParams({ run: `${found.id}/seeds/${seed}` }))));
  if (seeds.length) byId("about").append(" ", ...seeds);
  showFigures(found);
}

const open = guarded(async () => {
  const kept = new URLSearchParams(location.hash.slice(1));
  const run = kept.get("run");
  if (byId("panel").open) byId("panel").close();
  Object.assign(state, { run, figures: null });
  byId("runs").hidden = run !== null;
  byId("run").hidden = run === null;
  if (run === null) {
    byId("title").textContent = "Runs";
    byId("about").textContent = "";
    document.title = "EHRMIND view";
    await runs();
    return;
  }
  await Promise.all([figures(), openRollouts(run, kept)]);
});

const tick = guarded(async () => {
  if (document.hidden) return;
  if (state.run === null) await runs();
  else await Promise.all([figures(), renew()]);
});

for (const link of document.querySelectorAll("a.inside")) {
  // The address holds the state of the page, so these links do not change it.
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const target = byId(link.getAttribute("href").slice(1));
    target.scrollIntoView();
    target.focus();
  });
}
byId("to-runs").addEventListener("click", (event) => {
  event.preventDefault();
  location.hash = "";
});
byId("panel-close").addEventListener("click", () => byId("panel").close());
window.addEventListener("hashchange", open);
listen(guarded);
open().then(function again() {
  setTimeout(() => tick().then(again), EVERY);
});
