"use strict";
// The browser of rollouts. Text of records and models reaches the page through textContent only: it is shown, never parsed.
(() => {
  const PER_PAGE = 25;
  const { rollouts, cases } = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("filters");
  const list = document.getElementById("list");
  const buttons = { previous: document.getElementById("previous"), next: document.getElementById("next") };
  let found = rollouts;
  let page = 0;

  // Writes out characters that are invisible or reverse text. Tabs and line ends stay.
  const HIDDEN = /[\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F\u00AD\u061C\u180E\u200B-\u200F\u2028-\u202E\u2060-\u206F\uFEFF\uFFF9-\uFFFB]/g;
  const visible = (text) =>
    String(text).replace(HIDDEN, (character) => `⟨U+${character.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);

  function element(tag, text, kind) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = visible(text);
    if (kind) made.className = kind;
    return made;
  }

  function fill(name, values, all) {
    const select = form.elements[name];
    select.append(new Option(all, ""));
    for (const value of [...new Set(values)].filter((value) => value !== null).sort()) select.append(new Option(visible(value), value));
  }

  function matches(rollout, wanted) {
    if (wanted.verdict && (wanted.verdict === "right") !== rollout.correct) return false;
    if (["arm", "stage", "stratum", "reason"].some((key) => wanted[key] && rollout[key] !== wanted[key])) return false;
    if (!wanted.text) return true;
    const asked = cases[rollout.case] || {};
    const texts = [rollout.case, rollout.thinking, rollout.answer, rollout.text, asked.record, asked.question];
    return texts.some((text) => text && text.toLowerCase().includes(wanted.text.toLowerCase()));
  }

  // Only RLVR has steps.
  const where = (rollout) => (rollout.stage.startsWith("rlvr-") ? `${rollout.stage}, step ${rollout.step + 1}` : rollout.stage);

  function block(body, title, text) {
    if (text === undefined || text === null) return;
    body.append(element("h4", title), element("p", text, "text"));
  }

  function show(rollout, body) {
    const asked = cases[rollout.case];
    const facts = [`case ${rollout.case}`, where(rollout), `answer ${rollout.member + 1}`];
    facts.push(`reward ${rollout.reward}`, `${rollout.tokens} tokens`, `ended by ${rollout.finish_reason}`);
    if (rollout.advantage !== null) facts.push(`advantage ${rollout.advantage}`);
    body.append(element("p", facts.join(" · "), "facts"));
    block(body, "Record", asked && asked.record);
    block(body, "Question", asked && asked.question);
    block(body, "Thinking", rollout.thinking);
    block(body, "Answer", rollout.answer);
    block(body, "The whole text", rollout.text);
    block(body, "Expected", asked && asked.expected);
    block(body, "Verdict", rollout.correct ? "right" : `wrong: ${rollout.reason}`);
  }

  function row(rollout) {
    const details = element("details");
    const summary = element("summary");
    summary.append(
      element("span", rollout.correct ? "✓ right" : "✗ wrong", rollout.correct ? "good" : "warn"),
      element("span", rollout.arm),
      element("span", rollout.stratum),
      element("span", rollout.reason === null ? "" : rollout.reason),
      element("span", where(rollout), "quiet"),
    );
    const body = element("div", undefined, "body");
    details.append(summary, body);
    details.addEventListener("toggle", () => {
      if (details.open && !body.hasChildNodes()) show(rollout, body);
    });
    const item = element("li");
    item.append(details);
    return item;
  }

  function turn(to) {
    const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
    page = Math.min(Math.max(to, 0), pages - 1);
    list.replaceChildren(...found.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(row));
    document.getElementById("count").textContent = `${found.length.toLocaleString("en")} rollouts`;
    document.getElementById("place").textContent = `page ${page + 1} of ${pages}`;
    buttons.previous.disabled = page === 0;
    buttons.next.disabled = page === pages - 1;
  }

  function filter() {
    const wanted = Object.fromEntries(new FormData(form));
    found = rollouts.filter((rollout) => matches(rollout, wanted));
    turn(0);
  }

  fill("arm", rollouts.map((rollout) => rollout.arm), "all");
  fill("stage", rollouts.map((rollout) => rollout.stage), "all");
  fill("stratum", rollouts.map((rollout) => rollout.stratum), "all");
  fill("verdict", ["right", "wrong"], "all");
  fill("reason", rollouts.map((rollout) => rollout.reason), "any, or none");
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  buttons.previous.addEventListener("click", () => turn(page - 1));
  buttons.next.addEventListener("click", () => turn(page + 1));
  filter();
})();
