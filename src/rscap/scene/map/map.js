// The map of captions: what is drawn, found, filtered and saved. Everything it shows lies in the page or in pictures/.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const SHOWN = 100;

function made(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Plurals and singulars count as one, as in `rscap search`, if not as thoroughly.
const stem = (word) => word.replace(/(?:ies)$/, "y").replace(/(?:ses|xes|ches|shes)$/, (end) => end.slice(0, -2)).replace(/([^s])s$/, "$1");
const stems = new Map();
function words(text) {
  return (text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []).map((word) => {
    if (!stems.has(word)) stems.set(word, stem(word));
    return stems.get(word);
  });
}
const share = (logprob) => Math.exp(logprob);

const map = L.map("map", { crs: data.earth ? L.CRS.EPSG3857 : L.CRS.Simple, minZoom: data.earth ? 0 : -12, maxZoom: 24, attributionControl: false });
for (const picture of data.overviews) L.imageOverlay(picture.image, picture.bounds, { alt: `The scene ${picture.scene}` }).addTo(map);

const rows = data.features.map((feature, number) => {
  const said = feature.properties;
  return { number, feature, said, layer: null, sure: said.confidence === null ? null : share(said.confidence), on: true };
});

// -- drawing ------------------------------------------------------------------------------------------------------------

const accent = getComputedStyle(document.documentElement).getPropertyValue("--accent").trim();

// Draws all windows at once, by whether they are chosen; Leaflet would style each of them, and redraw after each.
const Together = L.Canvas.extend({
  _draw() {
    const area = this._redrawBounds, pen = this._ctx;
    pen.save();
    pen.beginPath();
    if (area) {
      const size = area.getSize();
      pen.rect(area.min.x, area.min.y, size.x, size.y);
      pen.clip();
    }
    pen.strokeStyle = pen.fillStyle = accent;
    for (const on of [false, true]) {
      pen.lineWidth = on ? 1 : 0.5;
      for (const row of rows) {
        if (row.on !== on || (area && !row.layer._pxBounds?.intersects(area))) continue;
        this._trace(pen, row.layer._parts);
        if (on) {
          pen.globalAlpha = 0.12;
          pen.fill();
        }
        pen.globalAlpha = on ? 0.9 : 0.12;
        pen.stroke();
      }
    }
    pen.restore();
  },
  _trace(pen, rings) {
    pen.beginPath();
    for (const ring of rings ?? []) {
      for (let place = 0; place < ring.length; place++) pen[place ? "lineTo" : "moveTo"](ring[place].x, ring[place].y);
      pen.closePath();
    }
  },
  redraw() {
    if (!this._map) return;
    this._redrawBounds = null;
    this._redraw();
  },
});
const renderer = new Together();

for (const row of rows) {
  row.layer = L.polygon(row.feature.rings, { renderer });
  row.layer.row = row;
}
const group = L.featureGroup(rows.map((row) => row.layer)).bindTooltip((layer) => made("span", {}, layer.row.said.caption), { sticky: true });
if (rows.length) map.fitBounds(group.getBounds(), { padding: [10, 10] });
else map.setView([0, 0], 2);
group.on("click", ({ layer }) => open(layer.row.number)).addTo(map);

function open(number) {
  const { said, layer, sure } = rows[number];
  const facts = [said.scene, `row ${said.row}, column ${said.column}`, ...(sure === null ? [] : [`${Math.round(100 * sure)} % a token`]), ...said.flags];
  const content = made("div", {}, made("strong", {}, said.caption), made("br", {}), made("small", {}, facts.join(" · ")));
  if (said.picture) {
    const picture = made("img", { src: said.picture, alt: said.caption, width: 224 });
    picture.addEventListener("load", () => layer.getPopup()?.update()); // now its size is known: the map moves to show it
    content.append(picture);
  }
  layer.unbindPopup().bindPopup(content, { maxWidth: 280 }).openPopup();
}

// -- which ones ---------------------------------------------------------------------------------------------------------

const FLAGS = [...new Set(rows.flatMap((row) => row.said.flags))].sort();
find("flags").hidden = !FLAGS.length;
for (const flag of FLAGS) {
  const box = made("input", { type: "checkbox", value: flag });
  find("flags").append(made("label", {}, box, flag));
}

// The rows of every word, so that a search looks at what it finds and not at every caption.
const index = new Map();
for (const row of rows) {
  for (const word of new Set(words(row.said.caption))) {
    if (!index.has(word)) index.set(word, []);
    index.get(word).push(row);
  }
}

function chosen() {
  const lists = words(find("words").value).map((word) => index.get(word) ?? []).sort((one, other) => one.length - other.length);
  const [fewest, ...others] = lists.length ? lists : [rows];
  const sets = others.map((list) => new Set(list));
  const least = Number(find("least").value) / 100;
  const flags = [...find("flags").querySelectorAll("input:checked")].map((box) => box.value);
  return fewest.filter((row) => sets.every((set) => set.has(row)) && (least === 0 || (row.sure !== null && row.sure >= least))
    && flags.every((flag) => row.said.flags.includes(flag)));
}

let shown = SHOWN;

function item(row) {
  const button = made("button", { type: "button" }, row.said.caption, made("small", {}, `${row.said.scene} ${row.said.row},${row.said.column}`));
  button.row = row;
  return made("li", {}, button);
}

function draw() {
  const kept = chosen();
  for (const row of rows) row.on = false;
  for (const row of kept) row.on = true;
  renderer.redraw();
  find("least-shown").textContent = `${find("least").value} % a token`;
  find("count").textContent = `${kept.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} captions`;
  find("list").replaceChildren(...kept.slice(0, shown).map(item));
  find("more").hidden = kept.length <= shown;
}

// Keys that come faster than the screen shows them are one search.
let waiting = false;
function soon() {
  shown = SHOWN;
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}

for (const id of ["words", "least", "flags"]) find(id).addEventListener("input", soon);
find("more").addEventListener("click", () => { shown += SHOWN; draw(); });
find("filters").addEventListener("submit", (event) => event.preventDefault());
find("list").addEventListener("click", (event) => {
  const row = event.target.closest("button")?.row;
  if (!row) return;
  map.fitBounds(row.layer.getBounds(), { maxZoom: 18 });
  open(row.number);
});

// -- saving -------------------------------------------------------------------------------------------------------------

function save(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  made("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

function geometry(feature) {
  if (!data.earth) return null;
  const polygons = feature.rings.map((ring) => [[...ring, ring[0]].map(([lat, lon]) => [lon, lat])]);
  return polygons.length === 1 ? { type: "Polygon", coordinates: polygons[0] } : { type: "MultiPolygon", coordinates: polygons };
}

function cell(value) {
  let text = value === null || value === undefined ? "" : Array.isArray(value) ? value.join(" ") : String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`; // a spreadsheet would run it
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

find("geojson").addEventListener("click", () => save("captions.geojson", "application/geo+json", JSON.stringify({ type: "FeatureCollection",
  features: chosen().map(({ feature, said }) => ({ type: "Feature", geometry: geometry(feature), properties: { ...said, picture: undefined } })) })));
find("csv").addEventListener("click", () => {
  const columns = ["scene", "row", "column", "caption", "confidence", "flags"];
  const lines = chosen().map(({ said, layer }) => {
    const middle = layer.getBounds().getCenter();
    return [...columns.map((name) => cell(said[name])), middle.lng.toFixed(9), middle.lat.toFixed(9)].join(",");
  });
  save("captions.csv", "text/csv", [[...columns, "x", "y"].join(","), ...lines].join("\r\n") + "\r\n");
});

draw();
