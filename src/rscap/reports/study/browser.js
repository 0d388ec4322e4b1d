"use strict";
// Sortable tables, and the browser of images and captions. Everything it needs is in the page.
(function () {
  function cellValue(row, column) {
    const cell = row.cells[column];
    const text = cell.dataset.value !== undefined ? cell.dataset.value : cell.textContent;
    const number = parseFloat(text);
    return Number.isNaN(number) ? text : number;
  }

  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number") return -1;
    if (typeof b === "number") return 1;
    return a.localeCompare(b);
  }

  document.querySelectorAll("table.sortable").forEach(function (table) {
    const heads = table.tHead.rows[0].cells;
    Array.prototype.forEach.call(heads, function (head, column) {
      const button = document.createElement("button");
      button.textContent = head.textContent;
      head.textContent = "";
      head.appendChild(button);
      button.addEventListener("click", function () {
        const down = head.getAttribute("aria-sort") !== "descending";
        Array.prototype.forEach.call(heads, (other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const rows = Array.from(body.rows);
        rows.sort((a, b) => (down ? -1 : 1) * compare(cellValue(a, column), cellValue(b, column)));
        rows.forEach((row) => body.appendChild(row));
      });
    });
  });

  const holder = document.getElementById("browser-data");
  if (!holder) return;
  const data = JSON.parse(holder.textContent);
  const list = document.getElementById("browser-list");
  const more = document.getElementById("browser-more");
  const count = document.getElementById("browser-count");
  const fields = {};
  ["run", "against", "source", "flag", "low", "high", "words", "order"].forEach(function (name) {
    fields[name] = document.getElementById("browser-" + name);
  });
  const PAGE = 20;
  let chosen = [];
  let shown = 0;

  function option(select, value, text) {
    const made = document.createElement("option");
    made.value = value;
    made.textContent = text;
    select.appendChild(made);
  }

  data.runs.forEach(function (name, index) {
    option(fields.run, index, name);
    option(fields.against, index, name);
  });
  const reference = data.runs.findIndex((name) => name.split(" · ")[0] === data.reference);
  const against = Math.max(0, reference);
  fields.against.value = String(against);
  fields.run.value = String(Math.max(0, data.runs.findIndex((_, index) => index !== against)));
  option(fields.source, "", "all sources");
  Array.from(new Set(data.images.map((image) => image.source))).sort().forEach((name) => option(fields.source, name, name));
  option(fields.flag, "", "any");
  const flags = new Set();
  data.images.forEach((image) => image.flags.forEach((own) => own.forEach((flag) => flags.add(flag))));
  Array.from(flags).sort().forEach((name) => option(fields.flag, name, name));

  function words(text) {
    return text.toLowerCase().match(/[\p{L}\p{N}'’-]+/gu) || [];
  }

  function select() {
    const run = Number(fields.run.value);
    const against = Number(fields.against.value);
    const low = fields.low.value === "" ? -Infinity : Number(fields.low.value);
    const high = fields.high.value === "" ? Infinity : Number(fields.high.value);
    const wanted = words(fields.words.value);
    chosen = data.images.filter(function (image) {
      const score = image.scores[run];
      if (fields.source.value && image.source !== fields.source.value) return false;
      if (fields.flag.value && !image.flags[run].includes(fields.flag.value)) return false;
      if (score === null ? low > -Infinity || high < Infinity : score < low || score > high) return false;
      if (!wanted.length) return true;
      const text = [image.id, image.class].concat(image.references, image.captions.filter(Boolean)).join(" ").toLowerCase();
      return wanted.every((word) => text.includes(word));
    });
    const value = {
      given: () => 0,
      worst: (image) => (image.scores[run] === null ? -1 : image.scores[run]),
      best: (image) => -(image.scores[run] === null ? -1 : image.scores[run]),
      gained: (image) => (image.scores[against] || 0) - (image.scores[run] || 0),
      lost: (image) => (image.scores[run] || 0) - (image.scores[against] || 0),
    }[fields.order.value];
    if (fields.order.value !== "given") chosen.sort((a, b) => value(a) - value(b));
    const known = chosen.map((image) => image.scores[run]).filter((score) => score !== null);
    const mean = known.length ? known.reduce((a, b) => a + b, 0) / known.length : NaN;
    count.textContent =
      chosen.length + " of " + data.images.length + " images" +
      (known.length ? ", mean " + data.metric + " of " + data.runs[run] + ": " + mean.toFixed(3) : "");
    list.textContent = "";
    shown = 0;
    page();
  }

  function say(tag, text, kind) {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    if (text) made.textContent = text;
    return made;
  }

  function caption(image, index, known, other) {
    const line = say("li", "", index === Number(fields.run.value) ? "asked" : "");
    line.appendChild(say("b", data.runs[index]));
    const text = image.captions[index];
    if (text === null || text === undefined) {
      line.appendChild(say("i", " no caption"));
      return line;
    }
    const score = image.scores[index];
    line.appendChild(say("span", score === null ? "" : " " + score.toFixed(2) + " ", "score"));
    text.split(/([\p{L}\p{N}'’-]+)/u).forEach(function (part) {
      const word = part.toLowerCase();
      if (!/[\p{L}\p{N}]/u.test(part)) return line.appendChild(document.createTextNode(part));
      const kinds = [known.has(word) ? "hit" : "miss"];
      if (other && !other.has(word)) kinds.push("new");
      line.appendChild(say("span", part, kinds.join(" ")));
    });
    image.flags[index].forEach((flag) => line.appendChild(say("span", flag, "flag")));
    return line;
  }

  function card(image) {
    const made = say("article", "", "example");
    if (image.picture) {
      const picture = document.createElement("img");
      picture.src = image.picture;
      picture.alt = image.references[0] || image.id;
      made.appendChild(picture);
    }
    const side = say("div", "");
    side.appendChild(say("h3", image.id + (image.source ? " · " + image.source : "") + (image.class ? " · " + image.class : "")));
    const references = say("ul", "", "references");
    Array.from(new Set(image.references)).forEach((text) => references.appendChild(say("li", text)));
    side.appendChild(references);
    const known = new Set(words(image.references.join(" ")));
    const against = Number(fields.against.value);
    const other = image.captions[against] ? new Set(words(image.captions[against])) : null;
    const said = say("ul", "", "captions");
    image.captions.forEach((_, index) => said.appendChild(caption(image, index, known, index === against ? null : other)));
    side.appendChild(said);
    made.appendChild(side);
    return made;
  }

  function page() {
    const part = document.createDocumentFragment();
    chosen.slice(shown, shown + PAGE).forEach((image) => part.appendChild(card(image)));
    list.appendChild(part);
    shown = Math.min(shown + PAGE, chosen.length);
    more.hidden = shown >= chosen.length;
    more.textContent = "show more (" + (chosen.length - shown) + " left)";
  }

  Object.keys(fields).forEach((name) => fields[name].addEventListener("input", select));
  more.addEventListener("click", page);
  select();
})();
