// What is this server doing now? Asks for its numbers, and keeps what is shown up to date.
// All text of the server goes in as text: nothing it says is ever read as markup.

const $ = (id) => document.getElementById(id);
const TOKEN = "scorpio-admin-token";
const SILENCE_MS = 10_000; // without an event: the stream is lost
const AGAIN_MS = 2_000; // between two beginnings of a stream
const POLL_MS = 5_000; // while there is no stream
const REASONS = {
  ttft_infeasible: "no first token in time",
  tpot_infeasible: "the batch would be too large",
  kv_infeasible: "does not fit into KV",
  queue_full: "the queue was full",
  over_quota: "its tenant had its part",
};
const WINDOWS = [["5m", "5 min"], ["1h", "1 h"], ["6h", "6 h"]];

// ---- words and numbers ------------------------------------------------------------------------

const decimal = (most) => new Intl.NumberFormat("en", { maximumFractionDigits: most });
const whole = decimal(0);
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

const count = (n) => (n < 100_000 ? whole.format(n) : short.format(n));
const plural = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
const rate = (n) => decimal(n < 10 ? 2 : n < 100 ? 1 : 0).format(n);
/** One place after the point; two where it matters how much is missing to all. */
const percent = (share) => (share === null ? "–" : share === 0 || share === 1 ? `${share * 100} %` : `${(share * 100).toFixed(share > 1 ? 0 : share > 0.999 ? 2 : 1)} %`);
const time = (unixS) => (unixS ? clock.format(new Date(unixS * 1000)) : "–");
const times = (n) => (n === null ? "–" : `${decimal(n < 10 ? 1 : 0).format(n)}×`);

function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 999.5) return `${decimal(ms < 10 ? 1 : 0).format(ms)} ms`;
  if (ms < 120_000) return `${decimal(ms < 9_950 ? 1 : 0).format(ms / 1000)} s`;
  return ms < 7_200_000 ? `${whole.format(ms / 60_000)} min` : `${decimal(1).format(ms / 3_600_000)} h`;
}

// ---- elements ---------------------------------------------------------------------------------

function element(name, how = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(how)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

function drawn(name, how = {}, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(how)) made.setAttribute(key, value);
  if (text) made.append(text);
  return made;
}

/** Replace text only where it differs: what did not change is not read out or selected away. */
function say(node, text, kind = "") {
  if (node.textContent !== text) node.textContent = text;
  if (node.className !== kind) node.className = kind;
}

/** A cell: text, or {text, sub, kind, node}. */
function fill(cell, what, kind) {
  if (typeof what !== "object") return say(cell, what, kind);
  cell.className = [kind, what.kind].filter(Boolean).join(" ");
  if (what.node) return cell.replaceChildren(what.node);
  const sub = what.sub ? [element("span", { class: "sub" }, what.sub)] : [];
  if (cell.textContent !== what.text + (what.sub ?? "")) cell.replaceChildren(what.text, ...sub);
}

/** The rows of a table: [key, cells]; the first cell is the row's header. Rows that stay are kept. */
function rows(body, wanted, numeric, nothing) {
  if (!wanted.length) {
    const columns = body.closest("table").querySelectorAll("thead tr:last-child th").length;
    const cell = element("td", { colspan: Math.max(columns, numeric.length) }, nothing);
    return body.replaceChildren(element("tr", { class: "none" }, cell));
  }
  const known = new Map([...body.children].map((row) => [row.dataset.key, row]));
  const kept = wanted.map(([key, cells]) => {
    const row = known.get(key) ?? element("tr", { "data-key": key });
    cells.forEach((what, at) => {
      const cell = row.children[at] ?? row.appendChild(element(at ? "td" : "th", at ? {} : { scope: "row" }));
      fill(cell, what, numeric[at] ? "n" : "");
    });
    return row;
  });
  place(body, kept);
}

/** Put these children in this order, and no others; those in place are not touched (nor their focus). */
function place(parent, wanted) {
  wanted.forEach((node, at) => {
    if (parent.children[at] !== node) parent.insertBefore(node, parent.children[at] ?? null);
  });
  while (parent.children.length > wanted.length) parent.lastElementChild.remove();
}

// ---- drawings ---------------------------------------------------------------------------------

/** values: oldest first; null = nothing to say then. From `bottom` to `top` at least. */
function curve(values, label, top = 0, bottom = 0) {
  const svg = drawn("svg", { class: "curve", viewBox: "0 0 100 30", preserveAspectRatio: "none", role: "img", "aria-label": label });
  const most = Math.max(top, ...values.map((v) => v ?? 0)) || 1;
  const at = (v, place) => `${((place / Math.max(values.length - 1, 1)) * 100).toFixed(2)},${(28.5 - ((v - bottom) / (most - bottom)) * 27).toFixed(2)}`;
  svg.append(drawn("path", { class: "base", d: "M0,29 L100,29" }));
  const known = values.map((v, place) => [v, place]).filter(([v]) => v !== null);
  if (known.length > 1) {
    const line = known.map(([v, place]) => at(v, place)).join(" L");
    const [first, last] = [known[0][1], known.at(-1)[1]].map((p) => ((p / (values.length - 1)) * 100).toFixed(2));
    svg.append(drawn("path", { class: "area", d: `M${first},29 L${line} L${last},29 Z` }));
    svg.append(drawn("path", { class: "line", d: `M${line}` }));
  }
  return svg;
}

/** What a curve says, for those who do not see it. */
function spoken(name, values, unit) {
  const known = values.filter((v) => v !== null);
  if (!known.length) return `${name}: nothing yet`;
  const [least, most, now] = [Math.min(...known), Math.max(...known), known.at(-1)].map(unit);
  return `${name}, last 10 minutes: ${least} to ${most}, now ${now}`;
}

/** Forecasts (across) and what came (up), both axes logarithmic; on the line they are equal. */
function scatter(kind, pairs) {
  const known = pairs.filter(([a, b]) => a > 0 && b > 0);
  const all = known.flat();
  const low = Math.floor(Math.log10(Math.min(...all)) * 2) / 2, high = Math.max(Math.ceil(Math.log10(Math.max(...all)) * 2) / 2, low + 0.5);
  const at = (ms) => ((Math.log10(ms) - low) / (high - low)) * 150;
  const late = known.filter(([a, b]) => b > a).length;
  const off = known.map(([a, b]) => Math.abs(a - b) / b).sort((x, y) => x - y)[known.length >> 1];
  const label = `${kind}: ${plural(known.length, "request")}; ${percent(late / known.length)} took longer than predicted, half are off by ${percent(off)} or less`;
  const svg = drawn("svg", { class: "plot", viewBox: "-52 -6 208 184", role: "img", "aria-label": label });
  svg.append(drawn("rect", { class: "axis", x: 0, y: 0, width: 150, height: 150 }), drawn("path", { class: "equal", d: "M0,150 L150,0" }));
  for (const power of [low, (low + high) / 2, high]) {
    const ms = 10 ** power, here = at(ms);
    svg.append(drawn("text", { x: here, y: 162, "text-anchor": power === low ? "start" : power === high ? "end" : "middle" }, duration(ms)));
    svg.append(drawn("text", { x: -5, y: 153 - here, "text-anchor": "end" }, duration(ms)));
  }
  svg.append(drawn("text", { x: 75, y: 174, "text-anchor": "middle" }, "predicted"));
  svg.append(drawn("text", { "text-anchor": "middle", transform: "translate(-42 75) rotate(-90)" }, "actual"));
  for (const [a, b] of known) svg.append(drawn("circle", { class: b > a ? "late" : "", cx: at(a).toFixed(1), cy: (150 - at(b)).toFixed(1), r: 2.2 }));
  return element("figure", {}, svg, element("figcaption", {}, `${kind} of the last ${plural(known.length, "request")}; above the line it took longer`));
}

// ---- the parts of the page --------------------------------------------------------------------

function show(data) {
  latest = data;
  $("page").hidden = $("footer").hidden = $("pause").hidden = false;
  $("door").hidden = $("closed").hidden = true;
  const { server, health } = data;
  const version = health.policy_version ? ` ${health.policy_version}` : "";
  say($("facts"), [server.model, health.policy ? `policy ${health.policy}${version}` : "", server.of, `counted for ${duration(data.since_s * 1000)}`].filter(Boolean).join(" · "));
  problems(data.problems);
  tiles(data);
  classes(data.classes);
  forecasts(data);
  refusals(data.refusals);
  policy(data);
  engines(data);
  tenants(data);
  decisions(data);
}

let spokenOf = "";
function problems(found) {
  const fine = [{ grade: "fine", what: "All well: no error budget burns fast, and nothing is wrong with the policy.", do: "" }];
  const words = { serious: "Serious:", notice: "Notice:", fine: "" };
  place($("problems"), (found.length ? found : fine).map((one, at) => {
    const row = $("problems").children[at] ?? element("li", {}, element("strong"), element("span"));
    row.className = one.grade;
    say(row.children[0], words[one.grade]);
    say(row.children[1], one.what + (one.do ? ` – ${one.do}.` : ""));
    return row;
  }));
  const serious = found.filter((one) => one.grade === "serious");
  document.title = serious.length ? `(${serious.length}) Scorpio` : "Scorpio";
  const told = serious.map((one) => one.what.replace(/[\d.]+/g, "#")).join(";");
  if (told !== spokenOf) announce(serious.length ? `${plural(serious.length, "serious problem")}: ${serious.map((one) => one.what).join("; ")}` : "No serious problem any more");
  spokenOf = told;
}

function tiles({ curves, now: load, good_per_s, attainment, classes: byClass, refusals: byReason }) {
  const oldestFirst = (name) => [...curves[name]].reverse();
  const kvShare = load.kv_tokens ? load.kv_held_tokens / load.kv_tokens : null;
  const refused = Object.values(byReason).reduce((sum, row) => sum + row["5m"], 0);
  const kv = oldestFirst("kv_held_tokens").map((v) => (load.kv_tokens ? v / load.kv_tokens : 0));
  const all = Object.values(byClass).map((entry) => entry.curve);
  const requests = (v) => plural(v, "request");
  const wanted = [
    ["Goodput", rate(good_per_s), "good requests/s, last minute", oldestFirst("good"), rate, 0, "Goodput in requests/s"],
    ["Attainment", percent(attainment["5m"]), `last 5 min; ${count(refused)} refused`, attained(all, "Attainment")],
    ["Queue", count(load.waiting), `requests, ${short.format(load.waiting_prompt_tokens)} prompt tokens`, oldestFirst("waiting"), requests, 0],
    ["Batch", count(load.running), `requests of ${count(load.seats)} seats`, oldestFirst("running"), requests, load.seats],
    ["KV", percent(kvShare), `${short.format(load.kv_held_tokens)} of ${short.format(load.kv_tokens)} tokens`, kv, percent, 1],
  ];
  place($("tiles"), wanted.map(([name, value, sub, values, unit, top, longName], at) => {
    const tile = $("tiles").children[at] ?? element("div", {}, element("dt"), element("dd", { class: "value" }), element("dd", { class: "sub" }), element("dd"));
    say(tile.children[0], name);
    say(tile.children[1], value, "value");
    say(tile.children[2], sub, "sub");
    tile.children[3].replaceChildren(unit ? curve(values, spoken(longName ?? name, values, unit), top) : values);
    return tile;
  }));
}

/** Seldom far below one: the curve begins where it matters. */
function attained(parts, name) {
  const values = together(parts);
  const least = Math.min(0.9, Math.floor(Math.min(1, ...values.map((v) => v ?? 1)) * 10) / 10);
  return curve(values, spoken(name, values, percent), 1, least);
}

/** Attainment over time, oldest first, of one class or of several. */
function together(parts) {
  const length = Math.max(0, ...parts.map((part) => part.counted.length));
  return Array.from({ length }, (_, at) => {
    const sum = (key) => parts.reduce((total, part) => total + (part[key][at] ?? 0), 0);
    return sum("counted") ? sum("good") / sum("counted") : null;
  }).reverse();
}

function classes(found) {
  const burning = (entry, window) => ({ "burns fast": { "5m": "bad", "1h": "bad" }, "burns slowly": { "1h": "warn", "6h": "warn" }, "burns now": { "5m": "warn" } })[entry.budget]?.[window] ?? "";
  const kinds = { "burns fast": "bad", "burns slowly": "warn", "burns now": "warn", holds: "good", unused: "" };
  rows($("classes"), Object.entries(found).map(([label, entry]) => [label, [
    { text: label === "none" ? "no class" : label, sub: entry.asks },
    rate(entry.good_per_s),
    ...[...WINDOWS.map(([w]) => w), "all"].map((w) => percent(entry.attainment[w])),
    ...WINDOWS.map(([w]) => ({ text: times(entry.burn[w]), kind: burning(entry, w) })),
    { text: entry.budget, kind: kinds[entry.budget] },
    { node: attained([entry.curve], `Attainment of ${label}`) },
  ]]), [0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0], "No class and no request yet.");
}

function forecasts({ forecasts: found, recent, profile }) {
  const names = { ttft: "TTFT", tpot: "TPOT", step: "Step" };
  rows($("forecasts"), Object.entries(names).map(([kind, name]) => {
    const { p50, p99, forecasts: made, exceeded } = found[kind];
    const known = kind === "step" ? p50 > 0 : made > 0;
    return [kind, [name, known ? percent(p50) : "–", known ? percent(p99) : "–", made === undefined ? "" : count(made), made ? percent(exceeded / made) : ""]];
  }), [0, 1, 1, 1, 1], "");
  const shown = ["ttft", "tpot"].filter((kind) => recent.pairs[kind].some(([a, b]) => a > 0 && b > 0));
  const none = profile === "none" ? "No latency profile: nothing is predicted until steps were seen." : "No request with a forecast has ended yet.";
  $("pairs").replaceChildren(...(shown.length ? shown.map((kind) => scatter(names[kind], recent.pairs[kind])) : [element("p", { class: "sub" }, none)]));
}

function refusals(found) {
  const sorted = Object.entries(found).sort(([, a], [, b]) => b.all - a.all);
  rows($("refusals"), sorted.map(([reason, row]) => [reason, [
    { text: REASONS[reason] ?? reason, sub: reason }, ...["5m", "1h", "6h", "all"].map((w) => count(row[w])),
  ]]), [0, 1, 1, 1, 1], "No request was refused.");
}

const OFF = { errors: "for its errors", overrun: "for what it costs", forecasts: "for wrong forecasts", by_hand: "by hand" };

function keptBy(arm, told) {
  return told?.ended ? `${arm} kept ${percent(told.good / told.ended)} of ${count(told.ended)}` : `${arm}: none yet`;
}

function policy({ health, ledger, canary }) {
  const micro = (us) => (us >= 1000 ? `${decimal(1).format(us / 1000)} ms` : `${whole.format(us)} µs`);
  const spent = health.schedule_us;
  const kinds = Object.entries(health.faults ?? {});
  const facts = [
    ["Policy", health.policy ?? "not told yet"],
    ["Turned off", health.policy_off ? `${OFF[health.policy_off] ?? health.policy_off}: steps are stock vLLM's` : `no; by itself ${plural(health.breaker_opened ?? 0, "time")} so far`],
    ...Object.entries(canary ?? {}).map(([label, arms]) => [`Canary, ${label}`, ["policy", "stock"].map((arm) => keptBy(arm, arms[arm])).join("; ")]),
    ["Steps", `${count(health.planned_steps ?? 0)} planned, ${count(health.stock_steps ?? 0)} stock, ${count(health.filled_steps ?? 0)} filled`],
    ["Failed steps", count(health.fallbacks ?? 0)],
    ["Planning a step", spent.p50 ? `p50 ${micro(spent.p50)}, p99 ${micro(spent.p99)}` : "–"],
    ["Latency profile", `${health.profile_alarm ? "far off: " : ""}steps take ${decimal(2).format(health.profile_factor ?? 1)} times what it says`],
    ["Switch", `${health.control_seq ?? 0} in force, ${health.requested_control_seq ?? 0} asked for`],
    ["Monitoring errors", count((health.monitoring_errors ?? 0) + (health.page_errors ?? 0))],
    ["Ledger", ledger === "kept" ? `${plural(health.ledger_lines ?? 0, "line")}, ${count(health.ledger_dropped ?? 0)} dropped` : "not kept"],
    ["Kinds of errors", kinds.length ? kinds.map(([kind, { count: n }]) => `${kind} (${count(n)})`).join("; ") : "none"],
  ];
  place($("health"), facts.flatMap(([name, value], at) => {
    const [term, told] = [$("health").children[2 * at] ?? element("dt"), $("health").children[2 * at + 1] ?? element("dd")];
    say(term, name);
    say(told, value);
    return [term, told];
  }));
}

function engines({ engines: found, at_unix_s }) {
  rows($("engines"), found.map((one) => [one.name, [
    one.name, { text: one.state, kind: { working: "", idle: "", ok: "" }[one.state] ?? "warn" }, one.policy, count(one.waiting), `${count(one.running)} / ${count(one.seats)}`,
    one.kv_tokens ? percent(one.kv_held_tokens / one.kv_tokens) : "–",
    one.heard_unix_s ? `${duration(Math.max(at_unix_s - one.heard_unix_s, 0) * 1000)} ago` : "never",
  ]]), [0, 0, 0, 1, 1, 1, 1], "No engine is known.");
}

function tenants({ recent, ledger }) {
  say($("tenants-of"), recent.requests ? `Of the last ${plural(recent.requests, "request")} of the ledger, since ${time(recent.since_unix_s)}; names are salted hashes.` : "By the ledger; names are salted hashes.");
  const none = ledger === "kept" ? "No request has ended yet." : "No ledger is kept: nothing is known of single requests.";
  rows($("tenants"), recent.tenants.map((row) => [row.tenant, [
    row.tenant || "no name", count(row.requests), percent(row.counted ? row.good / row.counted : null), count(row.refused), short.format(row.tokens),
  ]]), [0, 1, 1, 1, 1], none);
}

const OUTCOMES = { finished: ["in time", "good"], rejected: ["refused", "warn"], aborted: ["client left", ""], failed: ["failed", "bad"] };

function decisions({ recent, ledger }) {
  const known = new Map([...$("decisions").children].map((row) => [row.dataset.key, row]));
  if (!recent.decisions.length) return rows($("decisions"), [], Array(9).fill(0), ledger === "kept" ? "No request has ended yet." : "No ledger is kept.");
  place($("decisions"), recent.decisions.flatMap((one) => (known.has(one.key) ? [known.get(one.key), known.get(`${one.key} why`)] : decision(one))));
}

let decided = 0;
function decision(one) {
  const id = `why-${++decided}`, { key } = one;
  let [text, kind] = OUTCOMES[one.outcome] ?? [one.outcome, ""];
  const promised = one.ttft_ms[0] !== null || one.tpot_ms[0] !== null;
  if (one.outcome === "finished" && !promised) [text, kind] = ["served", ""];
  if (one.missed.length) [text, kind] = [`missed ${one.missed.join(", ").toUpperCase()}`, "bad"];
  const paced = ([slo, forecast, came]) => ({ text: duration(came), sub: [forecast === null ? "" : `${duration(forecast)} forecast`, slo === null ? "no SLO" : `SLO ${duration(slo)}`].filter(Boolean).join(", ") });
  const why = element("tr", { "data-key": `${key} why`, class: "why", id, hidden: "" }, element("td", { colspan: 9 }, element("ul", {}, ...one.told.map((line) => element("li", {}, line)))));
  const button = element("button", { type: "button", "aria-expanded": "false", "aria-controls": id, "aria-label": `Why, request ${one.id}` }, "why");
  button.addEventListener("click", () => {
    why.hidden = !why.hidden;
    button.setAttribute("aria-expanded", String(!why.hidden));
  });
  const row = element("tr", { "data-key": key }, element("th", { scope: "row" }, one.id));
  const cells = [{ text, kind, sub: one.reason }, one.slo_class === "none" ? "no class" : one.slo_class, paced(one.ttft_ms), paced(one.tpot_ms), `${count(one.prompt_tokens)} + ${count(one.output_tokens)}`, one.tenant || "no name", time(one.ended_unix_s), { node: button }];
  cells.forEach((what, at) => fill(row.appendChild(element("td")), what, [2, 3, 4].includes(at) ? "n" : ""));
  return [row, why];
}

// What is wider than the screen is moved by keys, too.
const widths = new ResizeObserver((seen) => {
  for (const { target } of seen) target.tabIndex = target.scrollWidth > target.clientWidth + 1 ? 0 : -1;
});
for (const part of document.querySelectorAll(".scroll")) widths.observe(part);

// ---- the way to the server --------------------------------------------------------------------

let latest = null;
let paused = false;
let stream = null; // AbortController of what is being waited for

class Denied extends Error {
  constructor(status, said) {
    super(said);
    this.status = status;
  }
}

function announce(text) {
  say($("said"), text, "unseen");
}

function live(text, kind = "") {
  say($("live"), text, kind);
}

async function ask(path, signal) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { headers, signal, cache: "no-store", redirect: "error" });
  if (answer.status === 401 || answer.status === 403) throw new Denied(answer.status, (await message(answer)) || "no access");
  if (!answer.ok) throw new Error((await message(answer)) || `the server answers ${answer.status}`);
  return answer;
}

async function message(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return "";
  }
}

/** Events until the stream ends. Throws when it is refused or falls silent. */
async function listen(signal) {
  const answer = await ask("events", signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const watch = setTimeout(() => stream.abort(), SILENCE_MS);
    const { value, done } = await reader.read().finally(() => clearTimeout(watch));
    if (done) return;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    const last = events.findLast((event) => event.startsWith("event: status\n"));
    if (last) arrived(JSON.parse(last.slice(last.indexOf("data: ") + 6)), "live");
  }
}

function arrived(data, how) {
  if (paused) return;
  show(data);
  live(`${how}, ${time(data.at_unix_s)}`, "live");
}

const resting = (ms) => new Promise((done) => setTimeout(done, ms));

/** For as long as the page is open: the stream, and while there is none, one answer after the other. */
async function follow() {
  let failed = 0;
  for (;;) {
    while (paused || document.hidden) await resting(250);
    try {
      stream = new AbortController();
      const began = Date.now();
      await listen(stream.signal);
      failed = 0;
      await resting(Math.max(AGAIN_MS - (Date.now() - began), 0)); // each ends; of a server that ends, at once
      continue;
    } catch (error) {
      if (error instanceof Denied) return denied(error);
    }
    if (paused || document.hidden) continue;
    try {
      arrived(await (await ask("page.json", AbortSignal.timeout(SILENCE_MS))).json(), "polling");
      failed = 0;
    } catch (error) {
      if (error instanceof Denied) return denied(error);
      live(`no answer${latest ? ` since ${time(latest.at_unix_s)}` : ""}, trying again`, "lost");
      if (++failed === 1) announce("The server does not answer; trying again");
    }
    await resting(failed ? Math.min(1000 * failed, POLL_MS) : POLL_MS);
  }
}

function denied(error) {
  if (error.status === 403) return closed(error.message);
  const told = sessionStorage.getItem(TOKEN) ? "This is not the server's token. Try again." : "";
  sessionStorage.removeItem(TOKEN);
  door(told);
}

function closed(text) {
  $("page").hidden = $("door").hidden = $("footer").hidden = $("pause").hidden = $("leave").hidden = true;
  live("");
  $("closed").hidden = false;
  say($("closed"), `This page shows nothing: ${text}`, "closed");
}

function door(said = "") {
  $("page").hidden = $("closed").hidden = $("footer").hidden = $("pause").hidden = $("leave").hidden = true;
  live("");
  say($("facts"), "");
  $("door").hidden = false;
  say($("door-said"), said);
  $("token").value = "";
  $("token").focus();
}

async function begin() {
  try {
    const { access } = await (await ask("access")).json();
    if (access === "off") return closed("the server has no SCORPIO_ADMIN_TOKEN. Start it with one set, or with open_status_page = true.");
    if (access === "token" && !sessionStorage.getItem(TOKEN)) return door();
    $("leave").hidden = access !== "token";
  } catch (error) {
    live("no answer, trying again", "lost");
    await resting(POLL_MS);
    return begin();
  }
  return follow();
}

$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = $("token").value.trim();
  if (!/^[\x21-\x7e]+$/.test(token)) return door("A token is letters, digits and signs, without spaces.");
  sessionStorage.setItem(TOKEN, token);
  $("door").hidden = true;
  live("asking");
  $("main").focus();
  begin();
});

$("leave").addEventListener("click", () => {
  sessionStorage.removeItem(TOKEN);
  location.reload();
});

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  if (paused) {
    live(`paused at ${time(latest?.at_unix_s)}`);
    stream?.abort();
  } else live("asking");
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) stream?.abort();
});

begin();
