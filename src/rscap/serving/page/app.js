// The page: images in, captions out. It asks the server's own API, /v1/chat/completions and /scene, and nothing else.

const find = (id) => document.getElementById(id);
const history_ = []; // what was captioned, newest first; images are not kept in it
let models = [];
let scenes = false;

function made(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, work] of Object.entries(value)) element.addEventListener(event, work);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

const say = (text) => { find("status").textContent = text; };

function headers(more = {}) {
  const key = find("key").value;
  return key ? { Authorization: `Bearer ${key}`, ...more } : more;
}

async function asked(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: headers(options.headers) });
  if (answer.status === 401) find("key-field").hidden = false;
  const text = await answer.text();
  let body = null;
  try { body = JSON.parse(text); } catch { body = text; }
  if (!answer.ok) throw new Error(body?.error?.message ?? `the server answered with status ${answer.status}`);
  return body;
}

// -- what is served -----------------------------------------------------------------------------------------------------

async function showModels() {
  try {
    models = (await asked("v1/models")).data;
  } catch (error) {
    say(`${error.message}. Enter the key of this server.`);
    return;
  }
  const box = find("models");
  box.querySelectorAll("label").forEach((label) => label.remove());
  models.forEach((model, index) => {
    const input = made("input", { type: "checkbox", name: "model", value: model.id, checked: index < 2 });
    box.append(made("label", { class: "check" }, input, ` ${model.id}`));
  });
  find("served").textContent = `Captions of aerial images by ${models.map((model) => model.id).join(", ")}`;
  find("prompt").placeholder = models[0]?.rscap?.prompt ?? "as trained";
  say("");
}

async function showSamples() {
  const { samples, scene } = await asked("samples");
  scenes = scene;
  for (const sample of samples) {
    const picture = made("img", { src: `samples/${sample.id}`, alt: sample.name, loading: "lazy", width: 112, height: 112 });
    const button = made("button", { type: "button", title: sample.name, on: { click: () => captionSample(sample) } }, picture);
    find("samples").append(made("li", {}, button));
  }
}

// -- asking -------------------------------------------------------------------------------------------------------------

const asUri = (blob) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(blob);
});

async function captionSample(sample) {
  const blob = await (await fetch(`samples/${sample.id}`)).blob();
  await captionImage(blob, sample.name, sample.references);
}

async function captionFiles(files) {
  const images = [...files];
  for (const file of images) {
    if (scenes && /\.tiff?$/i.test(file.name)) await captionScene(file);
    else await captionImage(file, file.name, []);
  }
}

async function captionImage(blob, name, references) {
  const chosen = [...document.querySelectorAll("input[name=model]:checked")].map((input) => input.value);
  if (!chosen.length) { say("Choose a model first."); return; }
  const address = URL.createObjectURL(blob);
  const captions = made("div", { class: "captions" });
  const picture = made("img", { src: address, alt: `The image ${name}` });
  find("results").prepend(made("article", { "aria-label": name },
    made("figure", {}, picture, made("figcaption", {}, name)), captions));
  say(`Captioning ${name} …`);
  const uri = await asUri(blob);
  const rows = await Promise.all(chosen.map((model) => captionBy(model, uri, name, captions)));
  if (references.length) captions.append(made("section", {}, made("details", { open: true },
    made("summary", {}, "What people wrote"), made("ul", {}, ...references.map((text) => made("li", {}, text))))));
  const done = rows.filter(Boolean);
  for (const row of done) history_.unshift({ ...row, references });
  find("exports").hidden = !history_.length;
  find("legend").hidden = !history_.length;
  say(done.map((row) => `${row.model}: ${row.caption}`).join(". "));
}

async function captionBy(model, uri, name, captions) {
  const section = made("section", {}, made("h3", {}, model), made("p", { class: "wait" }, "…"));
  captions.append(section);
  const prompt = find("prompt").value.trim();
  const content = [{ type: "image_url", image_url: { url: uri } }, ...(prompt ? [{ type: "text", text: prompt }] : [])];
  const body = { model, messages: [{ role: "user", content }], logprobs: true };
  Object.assign(body, WAYS[find("way").value]);
  const begun = performance.now();
  try {
    const answer = await asked("v1/chat/completions",
      { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    const seconds = (performance.now() - begun) / 1000;
    const row = { image: name, caption: answer.choices[0].message.content, model, ...facts(answer.rscap), seconds: +seconds.toFixed(3) };
    section.replaceChildren(...shown(row, answer.rscap));
    return row;
  } catch (error) {
    section.replaceChildren(made("h3", {}, model), made("p", { class: "error" }, error.message));
    say(`${name}: ${error.message}`);
    return null;
  }
}

const WAYS = { greedy: {}, beams: { rscap: { beams: 5 } }, consensus: { temperature: 0.5, rscap: { choose: "consensus", samples: 16 } } };

const facts = (own) => {
  const choice = own.choices[0];
  return { confidence: choice.confidence, near_ties: choice.near_ties, flags: choice.flags, prompt: own.prompt, decode: own.decode,
    digest: own.digest, words: choice.words };
};

// -- showing ------------------------------------------------------------------------------------------------------------

const NEAR = { float32: 1e-4, bfloat16: 2 ** -5, float16: 2 ** -8 };
const share = (logprob) => Math.exp(logprob);
const percent = (value) => `${Math.round(100 * value)} %`;

function kind(word, dtype) {
  if (word.logprob === null) return "plain"; // of a consensus, which is chosen whole
  if (word.margin !== null && word.margin < (NEAR[dtype] ?? 1e-4)) return "tie";
  const sure = share(word.logprob);
  return sure > 0.6 ? "sure" : sure > 0.25 ? "unsure" : "doubtful";
}

function shown(row, own) {
  const text = made("p", { class: "text" });
  for (const word of row.words) {
    const hint = word.logprob === null ? undefined : `${percent(share(word.logprob))} sure${kind(word, own.base.dtype) === "tie" ? ", a near-tie" : ""}`;
    text.append(made("span", { class: `word ${kind(word, own.base.dtype)}`, title: hint }, word.text), " ");
  }
  const flags = { near_tie: "near-tie: another batch may word it otherwise", cut_off: "cut off at the length limit",
    prompt_differs: "asked in other words than it was trained with" };
  const remarks = row.flags.map((flag) => flags[flag] ?? flag);
  const sure = row.confidence === null ? [] : [`${percent(share(row.confidence))} a token`];
  const line = [...sure, `${row.seconds.toFixed(2)} s`, row.decode, ...remarks].join(" · ");
  const table = made("table", {}, made("thead", {}, made("tr", {}, made("th", { scope: "col" }, "Word"), made("th", { scope: "col" }, "Sure"),
    made("th", { scope: "col" }, "Remark"))), made("tbody", {}, ...row.words.map((word) => made("tr", {}, made("td", {}, word.text),
    made("td", { class: "number" }, word.logprob === null ? "" : percent(share(word.logprob))), made("td", {}, kind(word, own.base.dtype) === "tie" ? "near-tie" : "")))));
  const copy = made("button", { type: "button", class: "copy", "aria-label": `Copy the caption by ${row.model}`,
    on: { click: () => navigator.clipboard.writeText(row.caption).then(() => say("Copied.")) } }, "Copy");
  return [made("h3", {}, row.model), text, made("p", { class: "facts" }, line), copy,
    made("details", {}, made("summary", {}, "Word by word"), table)];
}

// -- scenes -------------------------------------------------------------------------------------------------------------

async function captionScene(file) {
  const box = made("div", { class: "wide" }, made("h3", {}, file.name), made("p", { class: "wait" }, "…"));
  find("results").prepend(made("article", { "aria-label": file.name }, box));
  say(`Captioning ${file.name} window by window …`);
  try {
    const form = new FormData();
    form.append("scene", file);
    const chosen = document.querySelector("input[name=model]:checked")?.value;
    if (chosen) form.append("model", chosen);
    let state = await asked("scene", { method: "POST", body: form });
    while (state.status === "working" || state.status === "waiting") {
      await new Promise((resolve) => setTimeout(resolve, 500));
      state = await asked(state.url.replace(/^\//, ""));
      say(`${file.name}: ${state.done ?? 0} of ${state.windows ?? "?"} windows`);
    }
    if (state.status === "failed") throw new Error(state.error.message);
    const collection = state.type === "FeatureCollection" ? state : state.result;
    box.replaceChildren(made("h3", {}, file.name), ...mapOf(collection));
    for (const feature of collection.features) {
      history_.unshift({ image: file.name, caption: feature.properties.caption, model: chosen, confidence: feature.properties.confidence,
        flags: feature.properties.flags ?? [], words: [], geometry: feature.geometry });
    }
    find("exports").hidden = false;
    say(`${file.name}: ${collection.features.length} windows captioned.`);
  } catch (error) {
    box.replaceChildren(made("h3", {}, file.name), made("p", { class: "error" }, error.message));
    say(`${file.name}: ${error.message}`);
  }
}

const SVG = "http://www.w3.org/2000/svg";

function ringsOf(feature) {
  const shape = feature.geometry ?? feature.properties.footprint_native;
  if (!shape) return [];
  return shape.type === "Polygon" ? [shape.coordinates[0]] : shape.coordinates.map((polygon) => polygon[0]);
}

function mapOf(collection) {
  const points = collection.features.flatMap(ringsOf).flat();
  const across = points.map((point) => point[0]), up = points.map((point) => point[1]);
  const [left, right, low, high] = [Math.min(...across), Math.max(...across), Math.min(...up), Math.max(...up)];
  const narrow = collection.features[0]?.geometry ? Math.cos(((low + high) / 2) * Math.PI / 180) : 1;
  const width = 1000, height = Math.max(60, Math.min(1000, 1000 * (high - low) / ((right - left) * narrow || 1)));
  const map = document.createElementNS(SVG, "svg");
  map.setAttribute("viewBox", `0 0 ${width} ${height}`);
  map.setAttribute("class", "map");
  map.setAttribute("role", "img");
  map.setAttribute("aria-label", `${collection.features.length} windows; their captions are listed below`);
  const under = made("p", { class: "text", "aria-hidden": "true" }, "Point at a window");
  const items = collection.features.map((feature, number) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", ringsOf(feature).map((ring) => "M" + ring.map(([x, y]) =>
      `${(width * (x - left) / (right - left || 1)).toFixed(1)} ${(height * (high - y) / (high - low || 1)).toFixed(1)}`).join("L") + "Z").join(""));
    const show = () => { under.textContent = feature.properties.caption; };
    path.addEventListener("pointerenter", show);
    path.addEventListener("click", () => { show(); items[number].scrollIntoView({ block: "nearest" }); });
    map.append(path);
    return made("li", { on: { pointerenter: () => path.classList.add("on"), pointerleave: () => path.classList.remove("on") } },
      feature.properties.caption);
  });
  return [map, under, made("ol", { class: "list", tabindex: "0", "aria-label": "Captions of the windows" }, ...items)];
}

// -- saving -------------------------------------------------------------------------------------------------------------

function save(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  made("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

function cell(value) {
  let text = value === null || value === undefined ? "" : Array.isArray(value) ? value.join(" ") : String(value);
  if (/^[=+\-@\t\r]/.test(text) && typeof value === "string") text = `'${text}`; // a spreadsheet would run it
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const COLUMNS = ["image", "model", "caption", "confidence", "near_ties", "flags", "prompt", "decode", "digest", "seconds"];
const csv = () => [COLUMNS.join(","), ...history_.map((row) => COLUMNS.map((name) => cell(row[name])).join(","))].join("\r\n") + "\r\n";

// -- events -------------------------------------------------------------------------------------------------------------

const drop = find("drop");
for (const event of ["dragenter", "dragover"]) {
  drop.addEventListener(event, (moved) => { moved.preventDefault(); drop.classList.add("over"); });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (dropped) => {
  dropped.preventDefault();
  drop.classList.remove("over");
  captionFiles(dropped.dataTransfer.files);
});
find("files").addEventListener("change", (changed) => captionFiles(changed.target.files).then(() => { changed.target.value = ""; }));
document.addEventListener("paste", (pasted) => {
  if (pasted.clipboardData?.files.length) captionFiles(pasted.clipboardData.files);
});
find("options").addEventListener("submit", (sent) => sent.preventDefault());
find("key").addEventListener("change", showModels);
find("csv").addEventListener("click", () => save("captions.csv", "text/csv", csv()));
find("json").addEventListener("click", () => save("captions.json", "application/json", JSON.stringify(history_, null, 2)));
find("clear").addEventListener("click", () => {
  history_.length = 0;
  find("results").replaceChildren();
  for (const id of ["exports", "legend"]) find(id).hidden = true;
  say("Cleared.");
});

showModels();
showSamples();
