// Draws what /metrics, /recent and /policy say, anew every two seconds. Everything that
// is shown is set as text, never as markup.
"use strict";

const EVERY_MS = 2000, SPAN = 60, SHOWN = 50; // Two minutes; requests.
const $ = (id) => document.getElementById(id);
const history = []; // Answered by each tier, from one look to the next.
let before = null, after = 0, requests = [], isPaused = false, digest = null, lookedAt = 0;

/** An element with properties and children; strings become text. */
function el(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "style") Object.assign(made.style, value);
    else if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function svg(name, attributes, fill) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (fill) made.style.fill = fill;
  return made;
}

/** Prometheus' text to samples: { name, labels, value }. */
function samples(text) {
  const found = [];
  for (const line of text.split("\n")) {
    const parts = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!parts) continue;
    const labels = {};
    for (const [, key, value] of (parts[2] ?? "").matchAll(/(\w+)="([^"]*)"/g)) labels[key] = value;
    found.push({ name: parts[1], labels, value: Number(parts[3]) });
  }
  const of = (name, wanted = {}) => found.filter((sample) =>
    sample.name === name && Object.entries(wanted).every(([key, value]) => sample.labels[key] === value));
  const sum = (name, wanted) => of(name, wanted).reduce((all, { value }) => all + value, 0);
  const tiers = of("cascade_attempts_total", { result: "accepted" }).map(({ labels }) => labels.tier);
  return { of, sum, tiers };
}

/** The value below which a share of a histogram lies: its bucket's upper bound, in words. */
function quantile(now, name, share) {
  const all = now.sum(`${name}_count`);
  const bucket = now.of(`${name}_bucket`).find(({ value }) => value >= share * all);
  if (!(all > 0) || !bucket) return "–";
  return bucket.labels.le === "+Inf" ? "more than any bucket" : `≤ ${ms(1000 * Number(bucket.labels.le))}`;
}

const count = (value) => Math.round(value).toLocaleString("en");
const places = (value) => Math.max(2, 2 - Math.floor(Math.log10(value)));
const usd = (value) => value === null || value === undefined ? "unknown" : value === 0 ? "$0" : `$${value.toFixed(places(value))}`;
const percent = (share) => Number.isFinite(share) ? `${(100 * share).toFixed(1)}%` : "–";
const ms = (value) => value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
const bytes = (value) => value < 1024 ? `${value} B` : value < 1 << 20 ? `${(value / 1024).toFixed(0)} KiB` : `${(value / (1 << 20)).toFixed(1)} MiB`;
const colour = (at, all) => `color-mix(in oklab, var(--smallest), var(--largest) ${all > 1 ? (100 * at) / (all - 1) : 100}%)`;
const answered = (now, tier) => now.sum("cascade_attempts_total", { tier, result: "accepted" }) + now.sum("cascade_attempts_total", { tier, result: "flowing" });
const numbers = (...values) => values.map((value) => el("td", { class: "number" }, value));
const head = (...names) => el("thead", {}, el("tr", {}, ...names.map((name) => el("th", { scope: "col", class: name.startsWith("#") ? "number" : "" }, name.replace("#", "")))));
const bar = (share, style = {}) => el("span", { class: "track", "aria-hidden": "true" }, el("span", { class: "bar", style: { width: `${100 * Math.min(1, share || 0)}%`, ...style } }));

function tiles(now, { compared, less, failed: lost }) {
  const total = now.tiers.reduce((all, tier) => all + answered(now, tier), 0);
  const spent = compared.served_usd + compared.rejected_usd + compared.judges_usd, alone = compared.baseline_usd;
  const saved = alone > 0 ? 1 - spent / alone : NaN;
  const failed = now.sum("cascade_requests_total", { status_class: "5xx" });
  const refused = now.sum("cascade_requests_total", { status_class: "4xx" });
  const dropped = ["cascade_traces_dropped_total", "cascade_exchanges_dropped_total", "cascade_log_lines_dropped_total"].reduce((all, name) => all + now.sum(name), 0);
  const tile = (name, value, small, kind) => el("dl", {}, el("dt", {}, name), el("dd", { class: kind ?? "" }, value, small ? el("small", {}, ` ${small}`) : null));
  $("tiles").replaceChildren(
    tile("Requests", count(now.sum("cascade_requests_total"))),
    tile("By the smallest", percent(answered(now, now.tiers[0]) / total), now.tiers[0]),
    tile("Spent", usd(spent), `on ${count(compared.requests)} answered by models`),
    tile("Last tier alone", usd(alone), "for as many tokens"),
    tile(saved < 0 ? "Lost" : "Saved", percent(Math.abs(saved)), "caches apart", saved < 0 ? "bad" : "good"),
    tile("Ours, p99", quantile(now, "cascade_overhead_seconds", 0.99)),
    tile("Not whole", count(less.requests + lost.requests), "stand-ins, cut, or nobody", less.requests + lost.requests > 0 ? "warn" : ""),
    tile("Failed, refused", `${count(failed)}, ${count(refused)}`, "", failed > 0 ? "bad" : ""),
    tile("Without a price", count(now.sum("cascade_unpriced_total")), "attempts", now.sum("cascade_unpriced_total") > 0 ? "warn" : ""),
    tile("Dropped", count(dropped), "traces, exchanges, log lines", dropped > 0 ? "warn" : ""),
  );
}

function live(now) {
  // What a longer time or another ladder has brought is no bar of two seconds.
  const isNext = before !== null && Date.now() - lookedAt < 2.5 * EVERY_MS && before.tiers.join() === now.tiers.join();
  lookedAt = Date.now();
  if (!isNext) history.length = 0;
  if (isNext) {
    history.push(now.tiers.map((tier) => Math.max(0, answered(now, tier) - answered(before, tier))));
    history.splice(0, Math.max(0, history.length - SPAN));
  }
  const most = Math.max(1, ...history.map((each) => each.reduce((a, b) => a + b, 0)));
  const drawn = [svg("line", { x1: 0, x2: 600, y1: 119.5, y2: 119.5 })];
  history.forEach((each, at) => {
    let top = 119;
    each.forEach((value, tier) => {
      const height = (115 * value) / most;
      top -= height;
      if (value > 0) drawn.push(svg("rect", { x: 600 - (history.length - at) * 10, y: top, width: 9, height }, colour(tier, each.length)));
    });
  });
  $("live").replaceChildren(...drawn);
  const sums = now.tiers.map((_, tier) => history.reduce((all, each) => all + each[tier], 0));
  $("live").setAttribute("aria-label", `Answered in the last two minutes: ${now.tiers.map((tier, at) => `${tier} ${sums[at]}`).join(", ")}`);
  $("legend").replaceChildren(...now.tiers.map((tier, at) =>
    el("span", {}, el("span", { class: "swatch", style: { background: colour(at, now.tiers.length) } }), `${tier} ${count(sums[at])}`)));
}

function tiers(now) {
  const total = now.tiers.reduce((all, tier) => all + answered(now, tier), 0);
  const rows = now.tiers.map((tier, at) => {
    const of = (result) => now.sum("cascade_attempts_total", { tier, result });
    const hits = ["hit", "coalesced", "similar"].reduce((all, event) => all + now.sum("cascade_cache_events_total", { tier, event }), 0);
    const cost = (kind) => now.sum("cascade_cost_usd_total", { tier, kind });
    const share = answered(now, tier) / total;
    const asked = ["accepted", "flowing", "rejected", "failed"].reduce((all, result) => all + of(result), 0);
    return el("tr", {}, el("th", { scope: "row" }, tier), el("td", {}, bar(share, { background: colour(at, now.tiers.length) }), ` ${percent(share)}`),
      ...numbers(count(asked), count(of("rejected")), count(of("failed")), count(hits), usd(cost("served")), usd(cost("rejected") + cost("judge"))));
  });
  $("tiers").replaceChildren(head("tier", "answered", "#asked", "#rejected", "#failed", "#by its cache", "#served for", "#rejected, judged for"), el("tbody", {}, ...rows));
}

function escalations(now) {
  const all = now.of("cascade_escalations_total").sort((a, b) => b.value - a.value);
  const most = all[0]?.value ?? 1;
  const words = { score: "its score was too low", gate: "a gate", unscored: "nothing to score it by", failed: "it failed" };
  const rows = all.map(({ labels, value }) => el("tr", {}, el("td", {}, `${labels.from} → ${labels.to}`), el("td", {}, words[labels.reason] ?? labels.reason), el("td", {}, bar(value / most), ` ${count(value)}`)));
  $("escalations").replaceChildren(head("from, to", "because", "times"), el("tbody", {}, ...rows.length ? rows : [el("tr", {}, el("td", { colspan: 3 }, "Nothing yet."))]));
}

function scores(now) {
  $("scores").replaceChildren(...now.tiers.flatMap((tier, at) => {
    const buckets = now.of("cascade_score_bucket", { tier });
    const each = buckets.map(({ value }, place) => value - (place > 0 ? buckets[place - 1].value : 0)).slice(0, 20);
    const most = Math.max(...each);
    if (!(most > 0)) return [];
    const all = each.reduce((a, b) => a + b, 0);
    const cut = requests.flatMap(({ attempts }) => attempts).filter((a) => a.tier === tier && a.threshold !== null).at(-1)?.threshold;
    const drawn = [svg("line", { x1: 0, x2: 200, y1: 49.5, y2: 49.5, class: "base" })];
    each.forEach((value, place) => drawn.push(svg("rect", { x: 10 * place + 0.5, y: 49 - (46 * value) / most, width: 9, height: (46 * value) / most }, colour(at, now.tiers.length))));
    if (cut !== undefined) drawn.push(svg("line", { x1: 200 * cut, x2: 200 * cut, y1: 0, y2: 50, class: "cut" }));
    const picture = svg("svg", { viewBox: "0 0 200 50", preserveAspectRatio: "none", role: "img",
      "aria-label": `${all} scores of ${tier}${cut === undefined ? "" : `, to reach ${cut.toFixed(2)}`}` });
    picture.append(...drawn);
    return [el("div", { class: "score" }, el("div", {}, tier, el("div", { class: "note" }, `${count(all)}${cut === undefined ? "" : `, ${cut.toFixed(2)}`}`)), picture)];
  }));
}

function held(now) {
  const rows = now.tiers.flatMap((tier) => {
    const one = (name, wanted = {}) => now.of(name, { tier, ...wanted })[0]?.value;
    const found = [], capacity = one("cascade_cache_capacity_bytes");
    if (capacity !== undefined) found.push(["cache", one("cascade_cache_bytes") / capacity, `${count(one("cascade_cache_entries"))} answers, ${bytes(one("cascade_cache_bytes"))} of ${bytes(capacity)}`]);
    for (const [kind, word] of [["requests", "requests"], ["tokens", "tokens"], ["concurrent", "in flight"]]) {
      const all = one("cascade_limit_burst", { kind }), left = one("cascade_limit_left", { kind });
      if (all !== undefined) found.push([word, 1 - left / all, `${count(left)} of ${count(all)} left`]);
    }
    for (const { labels, value } of now.of("cascade_breaker_state", { tier })) {
      const word = ["closed", "half open", "open: left alone"][value];
      found.push([`breaker, ${labels.upstream}`, null, el("span", { class: value === 0 ? "good" : value === 1 ? "warn" : "bad" }, word)]);
    }
    return found.map(([what, share, words]) => el("tr", {}, el("td", {}, tier), el("td", {}, what), el("td", {}, share === null ? null : bar(share), share === null ? "" : " ", words)));
  });
  $("held").replaceChildren(head("tier", "what", "in use"), el("tbody", {}, ...rows));
}

const kindOf = (outcome) => outcome.startsWith("accepted") || outcome.startsWith("flowing") ? "good" : outcome.startsWith("rejected") ? "warn" : "bad";

/** Puts new requests before those that are shown, which stay: a reader may be at one. */
function recent(news) {
  const body = $("recent").tBodies[0] ?? $("recent").appendChild(el("tbody"));
  if (!$("recent").tHead) $("recent").prepend(head("at", "request", "asked for", "served by", "#cost", "#took", "way"));
  const rows = news.slice(-SHOWN).reverse().map((told) => el("tr", {},
    el("td", {}, told.at_ms === null ? "" : new Date(told.at_ms).toLocaleTimeString("en-GB")),
    el("td", {}, el("button", { class: "link", type: "button", onclick: () => explain(told), "aria-haspopup": "dialog", "aria-label": `Why ${told.id} went its way` }, told.id.slice(0, 14))),
    el("td", {}, told.model), el("td", {}, told.served ?? el("span", { class: "bad" }, "nobody")),
    ...numbers(usd(told.cost_usd), ms(told.elapsed_ms)),
    el("td", { class: "way" }, ...told.attempts.map((attempt) => el("span", { class: kindOf(attempt.outcome) }, `${attempt.tier} ${attempt.outcome}${["off", "miss", ""].includes(attempt.cache) ? "" : ` (${attempt.cache})`}`)))));
  body.querySelector(".none")?.remove();
  body.prepend(...rows);
  while (body.rows.length > SHOWN) body.lastElementChild.remove();
  if (body.rows.length === 0) body.append(el("tr", { class: "none" }, el("td", { colspan: 7 }, "Nobody has asked yet.")));
}

/** Why a request went the way it did. */
function explain(told) {
  $("explain-title").textContent = told.id;
  const line = (...words) => el("p", {}, ...words);
  const parts = [line(`policy ${told.policy}, started at ${told.start}`)];
  for (const attempt of told.attempts) {
    parts.push(el("h3", {}, `${attempt.tier} `, el("span", { class: kindOf(attempt.outcome) }, attempt.outcome)));
    if (attempt.model) parts.push(line(`model ${attempt.model}, cache ${attempt.cache || "off"}`));
    if (attempt.score !== null) parts.push(line(bar(attempt.score), ` score ${attempt.score.toFixed(4)}, to reach ${attempt.threshold.toFixed(4)}`));
    if (attempt.would) parts.push(line(`by it: ${attempt.would}`));
    for (const { feature, value, effect } of attempt.moved) parts.push(line(`moved ${effect >= 0 ? "+" : ""}${effect.toFixed(3)} by ${feature} = ${value.toFixed(4)}`));
    if (attempt.log_odds_to_turn !== null) parts.push(line(`${Math.abs(attempt.log_odds_to_turn).toFixed(3)} in log odds ${attempt.log_odds_to_turn > 0 ? "more, and it would have been served" : "less, and it would not have been served"}`));
    const tokens = attempt.input_tokens === null ? "" : `, ${count(attempt.input_tokens)} tokens in, ${count(attempt.output_tokens ?? 0)} out`;
    parts.push(line(`${usd(attempt.cost_usd)}, ${ms(attempt.elapsed_ms)}${tokens}`));
  }
  parts.push(el("h3", {}, `Served: ${told.served ?? "nothing, every tier failed"}`), line(`${usd(told.cost_usd)} in all, against ${usd(told.baseline_usd)} for the last tier alone; ${ms(told.elapsed_ms)}`));
  $("explain-body").replaceChildren(...parts);
  $("explain").showModal();
}

async function read(path) {
  const response = await fetch(path, { cache: "no-store" });
  if (!response.ok) throw new Error(`${path} says ${response.status}`);
  return response;
}

/** What a screen reader is told, too; only where it is new. */
function say(what) {
  if ($("state").textContent !== what) $("state").textContent = what;
}

async function look() {
  try {
    const [text, news] = await Promise.all([read("/metrics").then((r) => r.text()), read(`/recent?after=${after}`).then((r) => r.json())]);
    // A gateway that began anew counts from 0 again.
    if (news.next < after) {
      [requests, before] = [[], null];
      $("recent").tBodies[0]?.replaceChildren();
    }
    after = news.next;
    requests = [...requests, ...news.requests].slice(-200);
    const now = samples(text);
    tiles(now, news.savings); live(now); tiers(now); escalations(now); scores(now); held(now); recent(news.requests);
    $("ledger").textContent = news.ledger;
    $("identity").textContent = `${now.of("cascade_build_info")[0]?.labels.version ?? ""}, policy ${news.policy}`;
    if (digest !== news.policy) {
      $("policy").querySelector("pre").textContent = await (await read("/policy")).text();
      digest = news.policy;
    }
    before = now;
    $("as-of").textContent = `as of ${new Date().toLocaleTimeString("en-GB")}`;
    say("");
  } catch (error) {
    say(`the gateway does not answer: ${error.message}`);
  }
}

async function keepLooking() {
  for (;;) {
    if (!isPaused && !document.hidden) await look();
    await new Promise((done) => setTimeout(done, EVERY_MS));
  }
}

$("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  $("pause").textContent = isPaused ? "Go on" : "Pause";
  say(isPaused ? "paused" : "");
});
keepLooking();
