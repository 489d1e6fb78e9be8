"use strict";
// The page's only script: the colour scheme, and the browser of samples. What models and data sets wrote is only ever
// put into text nodes; nothing is parsed as HTML.
(() => {
  const get = (id) => document.getElementById(id);

  // --- light and dark -----------------------------------------------------------------------------------------------
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const kept = {
    read() { try { return localStorage.getItem("mmeval-theme"); } catch { return null; } },
    write(value) { try { localStorage.setItem("mmeval-theme", value); } catch { /* a browser that keeps nothing */ } },
  };
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const toggle = get("theme");
  const paint = () => { toggle.textContent = isDark() ? "Light colours" : "Dark colours"; };
  if (["dark", "light"].includes(kept.read())) root.dataset.theme = kept.read();
  toggle.hidden = false;
  toggle.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; kept.write(root.dataset.theme); paint(); });
  system.addEventListener("change", paint);
  paint();

  const source = get("data");
  if (!source) return;
  const { models, tasks, samples, pictures, sizes } = JSON.parse(source.textContent);
  get("chooser").hidden = false;

  for (const answer of samples.flatMap((sample) => sample.a)) {
    for (const one of answer?.x ?? []) if (one.h) one.t = one.n ? [one.h.join(""), one.n] : one.h.join("");
  }

  // --- text -----------------------------------------------------------------------------------------------------------
  const PAGE = 50; // samples at a time
  const CLAMP = 600; // characters before "show all",
  const LINES = 12; // and lines
  // what is invisible, turns text round or is no character: shown by its number
  const ODD = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\p{Surrogate}]/gu;

  const make = (tag, name = "", text = "") => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text) write(element, text);
    return element;
  };
  function write(element, text) {
    let at = 0;
    for (const found of text.matchAll(ODD)) {
      element.append(text.slice(at, found.index));
      const odd = document.createElement("span");
      odd.className = "odd";
      odd.textContent = "U+" + found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      element.append(odd);
      at = found.index + found[0].length;
    }
    element.append(text.slice(at));
  }
  const whole = (text) => (Array.isArray(text) ? text[0] : text || "");
  const count = (number) => number.toLocaleString("en");

  // A text, long ones folded; of a prompt the end is shown first: there is the question.
  function block(text, { end = false, pieces = null } = {}) {
    const box = make("div");
    const full = whole(text).trim();
    const brief = end ? full.slice(-CLAMP).split("\n").slice(-LINES).join("\n") : full.slice(0, CLAMP).split("\n").slice(0, LINES).join("\n");
    const body = make("div", "text");
    body.dir = "auto";
    const fill = (short) => {
      body.replaceChildren();
      if (pieces) return writePieces(body, pieces, short ? CLAMP : Infinity);
      if (!short) return write(body, full);
      write(body, end ? "… " + brief : brief + " …");
    };
    const long = full.length > brief.length * 1.25;
    fill(long);
    box.append(body);
    if (long) {
      const more = make("button", "more");
      more.type = "button";
      const label = () => { more.textContent = more.getAttribute("aria-expanded") === "true" ? "Show less" : (Array.isArray(text) ? "Show more" : `Show all ${count(full.length)} characters`); };
      more.setAttribute("aria-expanded", "false");
      label();
      more.addEventListener("click", () => {
        const open = more.getAttribute("aria-expanded") === "true";
        more.setAttribute("aria-expanded", String(!open));
        fill(open);
        label();
      });
      box.append(more);
    }
    if (Array.isArray(text)) box.append(make("p", "label", `${count(text[1])} characters, ${end ? "last" : "first"} ${count(text[0].length)} shown; the samples file has all`));
    return box;
  }
  function writePieces(element, pieces, limit) {
    pieces.forEach((piece, place) => {
      if (limit <= 0) return;
      const part = (place ? piece : piece.trimStart()).slice(0, limit);
      limit -= part.length;
      if (place % 2) { const mark = make("mark", "", part); mark.title = "not in the image"; element.append(mark); } else write(element, part);
    });
    if (limit <= 0) element.append(" …");
  }

  // --- what the filters ask ---------------------------------------------------------------------------------------------
  const text = (answer) => answer ? answer.x.map((one) => one.k ? (one.c === null ? "" : whole(one.k[one.c])) : whole(one.t)).join("\n") : "";
  const hay = new Array(samples.length);
  const haystack = (index) => hay[index] ??= [
    samples[index].i, tasks[samples[index].t].name, samples[index].p, ...(samples[index].q || []).map(whole), whole(samples[index].r),
    ...samples[index].a.flatMap((answer) => answer ? [text(answer), whole(answer.e), ...(answer.j || []).flatMap((said) => said.map(whole))] : []),
  ].filter(Boolean).join("\n").toLowerCase();

  const CHANGES = {
    flipped: (base, other) => (base.o === "right") !== (other.o === "right"),
    lost: (base, other) => base.o === "right" && other.o !== "right",
    won: (base, other) => base.o !== "right" && other.o === "right",
    worse: (base, other) => other.v < base.v,
    better: (base, other) => other.v > base.v,
  };
  const graded = (answer) => answer && ["right", "partial", "wrong"].includes(answer.o);
  const valued = (answer) => answer && answer.v !== undefined;
  function changed(kind, base, other) {
    if (!base || !other) return false;
    if (kind === "other") return text(base) !== text(other);
    const fit = ["worse", "better"].includes(kind) ? valued : graded;
    return fit(base) && fit(other) && base.m === other.m && CHANGES[kind](base, other);
  }
  const marked = (answer) => answer.x.some((one) => one.h);

  // --- state, in the address ------------------------------------------------------------------------------------------
  const FIELDS = ["task", "model", "outcome", "change", "search", "sort", "order"];
  const controls = Object.fromEntries(FIELDS.map((name) => [name, get(name)]).filter(([, element]) => element));
  const fresh = () => ({ task: "", model: "", outcome: "", change: "", search: "", sort: "", order: "", id: "", page: 0 });
  let state = fresh();
  let shown = [];

  const option = (value, label) => { const one = make("option"); one.value = value; write(one, label); return one; };
  controls.task.append(option("", `all (${count(samples.length)})`), ...tasks.map((task) => option(task.name, `${task.name} (${count(task.shown)})`)));
  controls.model?.append(option("", "any model"), ...models.map((name, place) => option(String(place), place ? name : `${name} (base)`)));

  function readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    const known = [...FIELDS, "id", "page"].some((name) => given.has(name));
    if (!known) return null;
    const found = fresh();
    for (const name of [...FIELDS, "id"]) found[name] = given.get(name) || "";
    for (const [name, element] of Object.entries(controls)) {
      if (element.options && ![...element.options].some((one) => one.value === found[name])) found[name] = "";
    }
    found.page = Math.max(0, (parseInt(given.get("page"), 10) || 1) - 1);
    return found;
  }
  function address(of) {
    const made = new URLSearchParams();
    for (const name of [...FIELDS, "id"]) if (of[name]) made.set(name, of[name]);
    if (of.page && !of.id) made.set("page", of.page + 1);
    return "#" + made.toString();
  }
  // What is chosen is a step that the browser's Back takes back; typing and walking from sample to sample are none.
  function writeAddress(step) {
    const next = address(state);
    const to = next !== "#" ? next : location.hash.includes("=") ? location.pathname + location.search : "";
    if (!to || to === location.hash) return;
    if (step) history.pushState(null, "", to);
    else history.replaceState(null, "", to);
  }

  // --- filter and sort --------------------------------------------------------------------------------------------------
  const natural = new Intl.Collator("en", { numeric: true }).compare;
  const judged = (sample) => state.model === "" ? sample.a : [sample.a[Number(state.model)]];
  function fits(sample, index) {
    if (state.task && tasks[sample.t].name !== state.task) return false;
    if (state.outcome && !judged(sample).some((answer) => answer && (state.outcome === "marked" ? marked(answer) : answer.o === state.outcome))) return false;
    if (state.change) {
      const others = Number(state.model) ? [sample.a[Number(state.model)]] : sample.a.slice(1);
      if (!others.some((other) => changed(state.change, sample.a[0], other))) return false;
    }
    return !state.search || haystack(index).includes(state.search.toLowerCase());
  }
  const best = (values) => values.length ? Math.max(...values) : null;
  const KEYS = {
    score: (sample) => best(judged(sample).filter(valued).map((answer) => answer.v)),
    delta: (sample) => {
      const others = Number(state.model) ? [sample.a[Number(state.model)]] : sample.a.slice(1);
      const found = others.filter((other) => valued(other) && valued(sample.a[0]) && other.m === sample.a[0].m).map((other) => other.v - sample.a[0].v);
      return found.length ? found.reduce((one, two) => Math.abs(two) > Math.abs(one) ? two : one) : null;
    },
    length: (sample) => best(judged(sample).filter(Boolean).map((answer) => answer.x.reduce((sum, one) => sum + (Array.isArray(one.t) ? one.t[1] : text({ x: [one] }).length), 0))),
  };
  function select() {
    const found = [];
    samples.forEach((sample, index) => { if (fits(sample, index)) found.push(index); });
    const sign = state.order === "desc" ? -1 : 1;
    if (state.sort === "id") found.sort((one, two) => sign * natural(samples[one].i, samples[two].i) || one - two);
    else if (state.sort) {
      const keys = new Map(found.map((index) => [index, KEYS[state.sort](samples[index])]));
      found.sort((one, two) => {
        const [a, b] = [keys.get(one), keys.get(two)];
        if (a === null || b === null) return (a === null) - (b === null) || one - two; // without a value: at the end
        return sign * (a - b) || one - two;
      });
    } else if (sign < 0) found.reverse();
    shown = found;
  }

  // --- cards --------------------------------------------------------------------------------------------------------------
  const WORDS = { right: "right", wrong: "wrong", partial: "partly right", failed: "failed", none: "no score of its own" };
  const SIGNS = { right: "✓ ", wrong: "✗ ", partial: "◐ ", failed: "! " };

  function picture(place, name, number, of) {
    const found = pictures[place] || "left out of this page";
    if (!found.startsWith("data:image/")) return make("div", "missing", `No picture: ${found}`);
    const image = make("img");
    image.decoding = "async";
    [image.width, image.height] = sizes[place]; // its room is kept from the start: what stands below does not move
    image.alt = of > 1 ? `image ${number} of ${of} of sample ${name}` : `image of sample ${name}`;
    image.src = found;
    return image;
  }
  function album(places, name) {
    const box = make("div", "pictures");
    places.forEach((place, number) => box.append(picture(place, name, number + 1, places.length)));
    return box;
  }
  function field(label, ...contents) {
    const box = make("div");
    box.append(make("p", "label", label), ...contents);
    return box;
  }
  function choice(one) {
    const list = make("ul", "options");
    one.k.forEach((label, place) => {
      const line = make("li", place === one.c ? "chosen" : "");
      const body = make("span", "text");
      body.dir = "auto";
      write(body, whole(label) + (Array.isArray(label) ? "…" : ""));
      line.append(body, make("span", "small", one.l[place] === null || one.l[place] === undefined ? "-" : one.l[place].toFixed(2)));
      if (place === one.c) line.append(make("span", "small", "chosen"));
      list.append(line);
    });
    const box = make("div");
    box.append(list, make("p", "label", "log-likelihoods"));
    return box;
  }
  function chips(answer, base, task) {
    const found = [];
    const word = answer.o === "scored" ? `${tasks[task].metrics[answer.m]} ${answer.w}` : WORDS[answer.o];
    found.push(make("span", `chip ${answer.o}`, (SIGNS[answer.o] || "") + word));
    if (answer.o !== "scored" && answer.w !== undefined) found.push(make("span", "small", `${tasks[task].metrics[answer.m]} ${answer.w}`));
    if (base && base !== answer && valued(base) && valued(answer) && base.m === answer.m && base.v !== answer.v) {
      found.push(make("span", "small", answer.v > base.v ? "▲ better than the base" : "▼ worse than the base"));
    }
    return found;
  }
  function reply(sample, place) {
    const answer = sample.a[place];
    const box = make("section");
    const top = make("div", "top");
    const name = make("h4");
    name.append(make("bdi", "", models[place]));
    top.append(name);
    box.append(top);
    if (!answer) { box.append(make("p", "small", "This sample is not among its results.")); return box; }
    top.append(...chips(answer, place ? sample.a[0] : null, sample.t));
    if (answer.s === "truncated") box.append(make("p", "small", "The prompt was cut on the left to fit the context."));
    else if (answer.s) box.append(field(answer.s, block(answer.e || "no reason is given")));
    if (answer.q) box.append(field("was asked otherwise", ...answer.q.map((one) => block(one, { end: true }))));
    if (answer.g) box.append(field("was shown otherwise", album(answer.g, sample.i)));
    for (const one of answer.x) {
      if (one.k) box.append(choice(one));
      else if (whole(one.t)) box.append(block(one.t, { pieces: one.h }));
      else if (answer.o !== "failed") box.append(make("p", "small", "an empty answer"));
    }
    for (const [said, verdict] of answer.j || []) {
      const judge = make("div", "said");
      judge.append(make("p", "label", `judge: ${whole(verdict)}`), block(said));
      box.append(judge);
    }
    return box;
  }
  function card(index) {
    const sample = samples[index];
    const box = make("article", "card");
    box.tabIndex = -1;
    box.dataset.index = index;
    box.setAttribute("aria-labelledby", `sample-${index}`);
    const head = make("header");
    const title = make("h3");
    title.id = `sample-${index}`;
    title.append(make("bdi", "", tasks[sample.t].name), " · ", make("bdi", "", sample.i));
    head.append(title);
    if (sample.p && !sample.i.startsWith(sample.p) && sample.p !== tasks[sample.t].name) head.append(field1("part", sample.p));
    if (sample.c && sample.c !== sample.i) head.append(field1("cluster", sample.c));
    const link = make("a", "link", "link");
    link.href = address({ ...fresh(), task: tasks[sample.t].name, id: sample.i });
    link.setAttribute("aria-label", `link to sample ${sample.i}`);
    head.append(link);
    const asked = make("div", "asked");
    if (sample.g) asked.append(album(sample.g, sample.i));
    const texts = make("div", "texts");
    if (sample.q) texts.append(field("prompt", ...sample.q.map((one) => block(one, { end: true }))));
    if (sample.r) texts.append(field("reference", block(sample.r)));
    asked.append(texts);
    const answers = make("div", "answers");
    for (const place of tasks[sample.t].models) answers.append(reply(sample, place));
    box.append(head, ...(asked.textContent || sample.g ? [asked] : []), answers);
    return box;
  }
  const field1 = (label, value) => { const box = make("span", "small", `${label} `); box.append(make("bdi", "", value)); return box; };

  // --- the list -----------------------------------------------------------------------------------------------------------
  const list = get("list");
  const cardsNow = () => [...list.querySelectorAll(".card")];
  function draw() {
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    state.page = Math.min(state.page, pages - 1);
    const from = state.page * PAGE;
    const part = shown.slice(from, from + PAGE);
    list.replaceChildren(...part.map(card));
    if (!part.length) list.append(make("p", "empty", state.lost || "No sample fits. Loosen a filter, or reset them all."));
    get("count").textContent = `${count(shown.length)} of ${count(samples.length)} samples` + (state.lost && part.length ? ` · ${state.lost}` : "");
    for (const one of document.querySelectorAll(".pages")) one.textContent = `page ${state.page + 1} of ${pages}`;
    for (const one of document.querySelectorAll(".previous")) one.disabled = state.page === 0;
    for (const one of document.querySelectorAll(".next")) one.disabled = state.page >= pages - 1;
    get("below").hidden = pages === 1;
    current();
  }
  function current() {
    for (const one of cardsNow()) {
      if (state.id && one.dataset.index === String(state.at)) one.setAttribute("aria-current", "true");
      else one.removeAttribute("aria-current");
    }
  }
  // Brings the sample that the address names onto the page; filters that hide it give way.
  function locate() {
    state.lost = "";
    state.at = -1;
    if (!state.id) return;
    const is = (index) => samples[index].i === state.id && (!state.task || tasks[samples[index].t].name === state.task);
    let place = shown.findIndex(is);
    if (place < 0 && samples.some((_, index) => is(index))) {
      state = { ...fresh(), task: state.task, id: state.id };
      fillControls();
      select();
      place = shown.findIndex(is);
    }
    if (place < 0) state.lost = `sample ${state.id} is not on this page`;
    else { state.page = Math.floor(place / PAGE); state.at = shown[place]; }
  }
  function fillControls() { for (const [name, element] of Object.entries(controls)) element.value = state[name]; }
  function update(step = false) { select(); locate(); draw(); writeAddress(step); }
  function go(index) {
    state.at = index;
    state.id = samples[index].i;
    const found = cardsNow().find((one) => one.dataset.index === String(index));
    current();
    found.focus({ preventScroll: true });
    found.scrollIntoView({ block: "start" });
    writeAddressOf(index);
  }
  // a sample's id is only unique within its task: the address names both, and the filters in force
  function writeAddressOf(index) {
    history.replaceState(null, "", address({ ...state, task: tasks[samples[index].t].name }));
  }
  function step(by) {
    const focused = document.activeElement?.closest?.(".card");
    const at = focused ? Number(focused.dataset.index) : state.at ?? -1;
    const place = shown.indexOf(at);
    const next = place < 0 ? state.page * PAGE : place + by;
    if (next < 0 || next >= shown.length) return;
    if (Math.floor(next / PAGE) !== state.page) { state.page = Math.floor(next / PAGE); draw(); }
    go(shown[next]);
  }
  function turn(by, from) {
    state.page += by;
    state.id = "";
    draw();
    writeAddress(true);
    if (get("below").contains(from)) cardsNow()[0].focus({ preventScroll: true }); // else the keyboard stays down there
    get("top").scrollIntoView({ block: "start" });
  }

  for (const [name, element] of Object.entries(controls)) {
    element.addEventListener("input", () => {
      state[name] = element.value;
      state.id = "";
      state.page = 0;
      update(name !== "search");
    });
  }
  get("controls").addEventListener("submit", (event) => event.preventDefault());
  get("reset").addEventListener("click", (event) => { event.preventDefault(); state = fresh(); fillControls(); update(true); });
  for (const one of document.querySelectorAll(".previous")) one.addEventListener("click", () => turn(-1, one));
  for (const one of document.querySelectorAll(".next")) one.addEventListener("click", () => turn(1, one));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest("input, select, textarea");
    if (typing) { if (event.key === "Escape") typing.blur(); return; }
    if (event.key === "/") { event.preventDefault(); controls.search.focus(); return; }
    if (event.target.closest(".wide") && event.key.startsWith("Arrow")) return; // a table that scrolls
    const by = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 }[event.key];
    if (by) { event.preventDefault(); step(by); }
  });
  function open() {
    const given = readAddress() || (location.hash ? null : fresh());
    if (!given) return false;
    state = given;
    fillControls();
    select();
    locate();
    draw();
    if (state.at >= 0) go(state.at);
    else if (location.hash) get("samples").scrollIntoView({ block: "start" });
    return true;
  }
  window.addEventListener("hashchange", open);
  if (!open()) update();
})();
