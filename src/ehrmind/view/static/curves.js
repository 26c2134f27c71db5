// The curves as small multiples in SVG: each step faint, the running mean strong, tuning as dots.
import { byId, element, figure, table } from "./dom.js";

const WIDTH = 340;
const HEIGHT = 150;
const EDGE = { left: 44, right: 10, top: 8, bottom: 20 };

function drawn(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Scales from figures to coordinates of the drawing.
function scales(chart) {
  const steps = chart.lines.flatMap((line) => [...line.points, ...line.dots].map((point) => point[0]));
  const values = chart.lines.flatMap((line) => [...line.points, ...line.dots].map((point) => point[1]));
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) / 10, high + (Math.abs(high) || 1) / 10];
  const first = Math.min(...steps);
  const last = Math.max(...steps, first + 1);
  const across = (step) => EDGE.left + ((step - first) / (last - first)) * (WIDTH - EDGE.left - EDGE.right);
  const up = (value) => HEIGHT - EDGE.bottom - ((value - low) / (high - low)) * (HEIGHT - EDGE.top - EDGE.bottom);
  return { low, high, first, last: Math.max(...steps), across, up };
}

function shown(chart) {
  const { low, high, first, last, across, up } = scales(chart);
  const said = (value) => (chart.share ? `${figure(100 * value)} %` : figure(value));
  const ends = chart.lines.map((line) => {
    const end = line.points[line.points.length - 1];
    return `${line.arm} ${said(end[1])} at step ${end[0]}`;
  });
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${chart.title}: ${ends.join("; ")}. The table has the steps.` });
  for (const value of [low, (low + high) / 2, high]) {
    svg.append(
      drawn("line", { class: "rule", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: up(value), y2: up(value) }),
      drawn("text", { x: EDGE.left - 5, y: up(value) + 3, "text-anchor": "end" }, said(value)),
    );
  }
  svg.append(drawn("text", { x: EDGE.left, y: HEIGHT - 5 }, `step ${first}`));
  if (last > first) svg.append(drawn("text", { x: WIDTH - EDGE.right, y: HEIGHT - 5, "text-anchor": "end" }, String(last)));
  for (const line of chart.lines) {
    const path = (place) => `M${line.points.map((point) => `${across(point[0]).toFixed(1)} ${up(point[place]).toFixed(1)}`).join("L")}`;
    const group = drawn("g", { class: `arm-${line.place}` });
    group.append(drawn("path", { class: "line", d: path(1) }), drawn("path", { class: "mean", d: path(2) }));
    const dots = line.points.length === 1 ? [...line.dots, line.points[0]] : line.dots;
    for (const dot of dots) group.append(drawn("circle", { class: "dot", cx: across(dot[0]), cy: up(dot[1]), r: 3 }));
    svg.append(group);
  }
  const made = element("figure");
  made.append(element("figcaption", chart.title), svg);
  return made;
}

// Renews the tables; those that are folded out stay so.
function renew(place, tables) {
  const open = new Set([...place.querySelectorAll("details[open]")].map((details) => details.dataset.name));
  place.replaceChildren(
    ...tables.map((one) => {
      const name = one.caption.split(/[,.(]/)[0].trim();
      const details = element("details");
      details.dataset.name = name;
      details.open = open.has(name);
      details.append(element("summary", `${name}: the figures`), table(one));
      return details;
    }),
  );
}

export function showFigures(figures) {
  const learned = [...figures.reinforcement, ...figures.warmup].filter((chart) => chart.lines.length);
  const arms = new Map(learned.flatMap((chart) => chart.lines.map((line) => [line.arm, line.place])));
  byId("legend").replaceChildren(...[...arms].map(([arm, place]) => element("span", arm, `arm-${place}`)));
  for (const name of ["reinforcement", "warmup"]) byId(name).replaceChildren(...figures[name].filter((chart) => chart.lines.length).map(shown));
  byId("not-learning").hidden = learned.length > 0;
  renew(byId("curve-tables"), figures.tables);
  byId("results").hidden = !figures.results.length && !figures.said;
  byId("results-tables").replaceChildren(...figures.results.map(table), ...(figures.said ? [element("p", figures.said, "absent")] : []));
  byId("alarms").hidden = !figures.alarms.length;
  byId("alarms").querySelector("ul").replaceChildren(...figures.alarms.map((alarm) => element("li", alarm)));
}
