// The map of captions: what is drawn, found, filtered and saved. Everything it shows lies in the page or in pictures/.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const SHOWN = 200;

function made(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Plurals and singulars count as one, as in `rscap search`, if not as thoroughly.
const stem = (word) => word.replace(/(?:ies)$/, "y").replace(/(?:ses|xes|ches|shes)$/, (end) => end.slice(0, -2)).replace(/([^s])s$/, "$1");
const words = (text) => (text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []).map(stem);
const share = (logprob) => Math.exp(logprob);

const map = L.map("map", { preferCanvas: true, crs: data.earth ? L.CRS.EPSG3857 : L.CRS.Simple, minZoom: data.earth ? 0 : -12, maxZoom: 24, attributionControl: false });
for (const picture of data.overviews) L.imageOverlay(picture.image, picture.bounds, { alt: `The scene ${picture.scene}` }).addTo(map);

const accent = getComputedStyle(document.documentElement).getPropertyValue("--accent").trim();
const STYLE = { color: accent, weight: 1, fillOpacity: 0.12, opacity: 0.9 };
const FAINT = { color: accent, weight: 0.5, fillOpacity: 0, opacity: 0.12 };

const rows = data.features.map((feature, number) => {
  const said = feature.properties;
  const layer = L.polygon(feature.rings, STYLE);
  layer.bindTooltip(said.caption, { sticky: true });
  layer.on("click", () => open(number));
  return { feature, said, layer, stems: new Set(words(said.caption)), sure: said.confidence === null ? null : share(said.confidence), on: true };
});
const group = L.featureGroup(rows.map((row) => row.layer)).addTo(map);
if (rows.length) map.fitBounds(group.getBounds(), { padding: [10, 10] });
else map.setView([0, 0], 2);

function open(number) {
  const { said, layer, sure } = rows[number];
  const facts = [said.scene, `row ${said.row}, column ${said.column}`, ...(sure === null ? [] : [`${Math.round(100 * sure)} % a token`]), ...said.flags];
  const content = made("div", {}, made("strong", {}, said.caption), made("br", {}), made("small", {}, facts.join(" · ")));
  if (said.picture) content.append(made("img", { src: said.picture, alt: said.caption, width: 224 }));
  layer.unbindPopup().bindPopup(content, { maxWidth: 280 }).openPopup();
}

// -- which ones ---------------------------------------------------------------------------------------------------------

const FLAGS = [...new Set(rows.flatMap((row) => row.said.flags))].sort();
find("flags").hidden = !FLAGS.length;
for (const flag of FLAGS) {
  const box = made("input", { type: "checkbox", value: flag });
  find("flags").append(made("label", {}, box, flag));
}
let shown = SHOWN;

function chosen() {
  const wanted = words(find("words").value), least = Number(find("least").value) / 100;
  const flags = [...find("flags").querySelectorAll("input:checked")].map((box) => box.value);
  return rows.filter((row) => wanted.every((word) => row.stems.has(word)) && (least === 0 || (row.sure !== null && row.sure >= least))
    && flags.every((flag) => row.said.flags.includes(flag)));
}

function draw() {
  const kept = new Set(chosen());
  for (const row of rows) {
    const on = kept.has(row);
    if (on !== row.on) row.layer.setStyle(on ? STYLE : FAINT);
    row.on = on;
  }
  find("least-shown").textContent = `${find("least").value} % a token`;
  find("count").textContent = `${kept.size.toLocaleString("en")} of ${rows.length.toLocaleString("en")} captions`;
  const items = [...kept].slice(0, shown).map((row) => {
    const button = made("button", { type: "button" }, row.said.caption, made("small", {}, `${row.said.scene} ${row.said.row},${row.said.column}`));
    button.addEventListener("click", () => { map.fitBounds(row.layer.getBounds(), { maxZoom: 18 }); open(rows.indexOf(row)); });
    return made("li", {}, button);
  });
  find("list").replaceChildren(...items);
  find("more").hidden = kept.size <= shown;
}

for (const id of ["words", "least", "flags"]) find(id).addEventListener("input", () => { shown = SHOWN; draw(); });
find("more").addEventListener("click", () => { shown += SHOWN; draw(); });
find("filters").addEventListener("submit", (event) => event.preventDefault());

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
