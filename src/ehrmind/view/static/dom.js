// Building blocks of the page. Text reaches the page as text nodes only: it is shown, never parsed.

// Writes out characters that are invisible or reverse text. Tabs and line ends stay.
const HIDDEN = /[\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F\u00AD\u061C\u180E\u200B-\u200F\u2028-\u202E\u2060-\u206F\uFEFF\uFFF9-\uFFFB\u{E0000}-\u{E007F}]/gu;

export const visible = (text) =>
  String(text).replace(HIDDEN, (character) => `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);

export const byId = (id) => document.getElementById(id);

export function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = visible(text);
  if (kind) made.className = kind;
  return made;
}

export function button(text, act) {
  const made = element("button", text);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

// Fills a select with `all` and [[value, label]]; the chosen option stays chosen.
export function fill(select, options, all) {
  const shown = JSON.stringify(options);
  if (select.dataset.options === shown) return;
  select.dataset.options = shown;
  const chosen = select.value;
  select.replaceChildren(new Option(all, ""), ...options.map(([value, label]) => new Option(visible(label), value)));
  if (chosen && !options.some(([value]) => String(value) === chosen)) select.append(new Option(visible(chosen), chosen));
  select.value = chosen;
}

// A titled block of text from pieces [words, kind, sentence].
export function block(title, pieces) {
  const text = element("p", undefined, "text");
  text.tabIndex = 0;
  for (const [words, kind, said] of pieces) {
    if (!kind) {
      text.append(visible(words));
      continue;
    }
    const mark = element("mark", words, kind);
    mark.title = kind === "grounded" ? "stands in the record and in the answer" : visible(said);
    text.append(mark);
  }
  return [element("h4", title), text];
}

// A table of the report: {caption, columns, rows of [text, note, tone]}.
export function table(shown) {
  const made = element("table");
  made.append(element("caption", shown.caption));
  const head = element("tr");
  for (const column of shown.columns) {
    const cell = element("th", column);
    cell.scope = "col";
    head.append(cell);
  }
  const body = element("tbody");
  for (const row of shown.rows) {
    const line = element("tr");
    row.forEach(([text, note, tone], place) => {
      const cell = element(place ? "td" : "th", text, tone);
      if (!place) cell.scope = "row";
      if (note) cell.append(" ", element("small", note));
      line.append(cell);
    });
    body.append(line);
  }
  const header = element("thead");
  header.append(head);
  made.append(header, body);
  const scroll = element("div", undefined, "scroll");
  scroll.tabIndex = 0;
  scroll.append(made);
  return scroll;
}

// A figure in three digits; a dash for an absent one.
export function figure(value) {
  if (value === null || value === undefined) return "–";
  const shown = Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
  return shown.replaceAll("-", "−");
}

// Training has steps; other stages have batches.
export const where = (stage, step) => (/^(rlvr-|warmup)/.test(stage) ? `${stage}, step ${step + 1}` : step ? `${stage}, batch ${step + 1}` : stage);

const address = (name, asked) => `/api/${name}?${new URLSearchParams(Object.entries(asked).filter(([, value]) => value !== "" && value !== null && value !== undefined))}`;

// The server's answer; an error carries its sentence. Null if the page's version, `known`, is current.
export async function ask(name, asked = {}, known = null, signal = undefined) {
  const answer = await fetch(address(name, asked), { headers: known ? { "If-None-Match": known } : {}, signal });
  if (answer.status === 304) return null;
  if (!answer.ok) throw new Error(await answer.text());
  const found = await answer.json();
  return { found, version: answer.headers.get("ETag") };
}
