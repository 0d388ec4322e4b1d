"use strict";
// The browser of images and captions. Everything it needs is in the page; a picture is decoded when it is shown.
(function () {
  const holder = document.getElementById("browser-data");
  if (!holder) return;
  const data = JSON.parse(holder.textContent);
  const at = (name) => document.getElementById("browser-" + name);
  const list = at("list"), more = at("more"), count = at("count"), zoom = at("zoom"), shownSet = at("shown");
  const fields = {};
  ["run", "against", "order", "words", "source", "flag", "low", "high"].forEach((name) => (fields[name] = at(name)));
  const PAGE = 20;
  const SIDE_BY_SIDE = 4;
  const plain = new Set(data.words);
  let chosen = [];
  let shown = 0;
  let current = -1;
  let enlarged = -1;
  at("off").hidden = true;
  at("form").addEventListener("submit", (event) => event.preventDefault());
  at("note").textContent = data.note;
  at("note").hidden = !data.note;

  function say(tag, text, kind) {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    if (text) made.textContent = text;
    return made;
  }

  function option(select, value, text) {
    const made = say("option", text);
    made.value = value;
    select.appendChild(made);
  }

  // Whose captions are sorted and filtered, and whose stand beside them.
  data.systems.forEach(function (system, index) {
    option(fields.run, index, system.name);
    option(fields.against, index, system.name);
  });
  const named = (name) => data.systems.findIndex((system) => system.name === name);
  const subject = Math.max(0, named(data.subject));
  const others = data.systems.map((_, index) => index).filter((index) => index !== subject);
  const kindOf = (kind) => others.find((index) => data.systems[index].kind === kind);
  const beside = named(data.against) >= 0 && named(data.against) !== subject ? named(data.against)
    : [kindOf("untrained"), kindOf("run"), kindOf("baseline"), subject].find((index) => index !== undefined);
  fields.run.value = String(subject);
  fields.against.value = String(beside);
  const ordered = [subject, beside].concat(others.filter((index) => data.systems[index].kind === "baseline"), others);
  const first = new Set(ordered.filter((index, place) => ordered.indexOf(index) === place).slice(0, SIDE_BY_SIDE));
  const boxes = data.systems.map(function (system, index) {
    const label = say("label", "", "chip");
    const box = say("input");
    box.type = "checkbox";
    box.checked = first.has(index);
    box.addEventListener("change", redraw);
    label.append(box, swatch(system), system.name);
    shownSet.appendChild(label);
    return box;
  });
  shownSet.hidden = data.systems.length < 2;

  function choices(select, all, values) {
    option(select, "", all);
    Array.from(new Set(values)).sort().forEach((name) => name && option(select, name, name));
    select.closest("label").hidden = select.options.length < 2 || (select === fields.source && select.options.length < 3);
  }
  choices(fields.source, "all", data.images.map((image) => image.source));
  choices(fields.flag, "any", data.images.flatMap((image) => image.flags.flat()));
  fields.against.closest("label").hidden = data.systems.length < 2;

  function swatch(system) {
    return say("span", "", "swatch " + (system.colour === null ? "c-none" : "c" + system.colour));
  }

  function words(text) {
    return text.toLowerCase().match(/[\p{L}\p{N}_]+(?:['’-][\p{L}\p{N}_]+)*/gu) || [];
  }

  const texts = new Map();
  function textOf(image) {
    if (!texts.has(image)) {
      const parts = [image.id, image.class].concat(image.references, image.captions.filter(Boolean), Object.values(image.wrong));
      texts.set(image, parts.join(" \n").toLowerCase());
    }
    return texts.get(image);
  }

  function select() {
    const run = Number(fields.run.value), against = Number(fields.against.value);
    const low = fields.low.value === "" ? -Infinity : Number(fields.low.value);
    const high = fields.high.value === "" ? Infinity : Number(fields.high.value);
    const wanted = words(fields.words.value);
    chosen = data.images.filter(function (image) {
      const score = image.scores[run];
      if (image.captions[run] === null && !image.flags[run].length) return false; // an image of other systems
      if (fields.source.value && image.source !== fields.source.value) return false;
      if (fields.flag.value && !image.flags[run].includes(fields.flag.value)) return false;
      if (score === null ? low > -Infinity || high < Infinity : score < low || score > high) return false;
      return wanted.every((word) => textOf(image).includes(word));
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
    count.textContent = chosen.length.toLocaleString("en") + " of " + data.images.length.toLocaleString("en") + " images" +
      (known.length ? ", mean " + data.metric + " of " + data.systems[run].name + ": " + mean.toFixed(3) : "");
    redraw();
  }

  function redraw() {
    list.textContent = "";
    shown = 0;
    current = -1;
    page();
  }

  // A caption, its words marked: counts are clipped as in BLEU, so a word said more often than in any one reference is
  // not found the last time.
  function marked(into, text, references, other) {
    const left = new Map();
    references.forEach(function (reference) {
      const own = new Map();
      words(reference).forEach((word) => own.set(word, (own.get(word) || 0) + 1));
      own.forEach((number, word) => left.set(word, Math.max(left.get(word) || 0, number)));
    });
    let end = 0;
    for (const match of text.matchAll(/[\p{L}\p{N}_]+(?:['’-][\p{L}\p{N}_]+)*/gu)) {
      const word = match[0].toLowerCase(), number = left.get(word) || 0;
      left.set(word, number - 1);
      const kinds = [number > 0 ? "hit" : plain.has(word) || !references.length ? "plain" : "miss"];
      if (other && !other.has(word) && !plain.has(word)) kinds.push("new");
      into.append(text.slice(end, match.index), say("span", match[0], kinds.join(" ")));
      end = match.index + match[0].length;
    }
    into.append(text.slice(end).replace(" .", "\u00a0."));
  }

  function caption(image, index, other) {
    const made = say("div", "", "said" + (index === Number(fields.run.value) ? " asked" : ""));
    const who = say("p", "", "who");
    const score = image.scores[index];
    who.append(swatch(data.systems[index]), data.systems[index].name);
    if (score !== null) who.append(say("span", data.metric + " " + score.toFixed(2), "score"));
    image.flags[index].forEach((flag) => who.append(say("span", flag, "flag")));
    made.append(who);
    const text = image.captions[index];
    const line = say("p", "", "caption");
    if (text === null) line.append(say("i", "no caption"));
    else if (!text.trim()) line.append(say("i", "empty caption"));
    else marked(line, text, image.references, other);
    made.append(line);
    if (image.wrong[index]) made.append(say("p", "in no reference: " + image.wrong[index], "who"));
    return made;
  }

  function captions(image) {
    const run = Number(fields.run.value), against = Number(fields.against.value);
    const other = run !== against && image.captions[against] ? new Set(words(image.captions[against])) : null;
    const made = say("div", "", "said-by");
    data.systems.forEach(function (_, index) {
      const asked = index === run;
      const present = image.captions[index] !== null || image.flags[index].length;
      if ((asked || boxes[index].checked) && present) made.append(caption(image, index, asked ? other : null));
    });
    const first = made.querySelector(".asked");
    if (first) made.prepend(first);
    return made;
  }

  function picture(image, kind) {
    if (!image.picture) return say("div", "no picture kept", "missing " + kind);
    const made = say("img", "", kind);
    made.src = "data:image/jpeg;base64," + image.picture;
    made.alt = "image " + image.id;
    made.decoding = "async";
    return made;
  }

  function heading(image) {
    const made = say("p", "", "id");
    made.append(say("b", image.id), " " + [image.source, image.class].filter(Boolean).join(" · "));
    return made;
  }

  function references(image) {
    const times = new Map();
    image.references.forEach((text) => times.set(text, (times.get(text) || 0) + 1));
    const made = say("details");
    made.open = true;
    made.append(say("summary", image.references.length + (image.references.length === 1 ? " reference" : " references")));
    const lines = say("ul");
    times.forEach(function (number, text) {
      const line = say("li", text.replace(" .", "\u00a0."));
      if (number > 1) line.append(say("span", " × " + number, "quiet"));
      lines.append(line);
    });
    made.append(lines);
    return image.references.length ? made : say("p", "no references kept", "note");
  }

  function card(image, place) {
    const made = say("article", "", "card");
    made.tabIndex = -1;
    made.dataset.place = String(place);
    const open = say("button", "", "enlarge");
    open.type = "button";
    open.setAttribute("aria-label", "enlarge " + image.id);
    open.append(picture(image, ""));
    open.addEventListener("click", () => enlarge(place));
    const side = say("div", "", "words");
    side.append(heading(image), captions(image), references(image));
    made.append(open, side);
    made.addEventListener("focusin", () => mark(place));
    return made;
  }

  function page() {
    const part = document.createDocumentFragment();
    chosen.slice(shown, shown + PAGE).forEach((image, number) => part.appendChild(card(image, shown + number)));
    list.appendChild(part);
    shown = Math.min(shown + PAGE, chosen.length);
    more.hidden = shown >= chosen.length;
    more.textContent = "show more (" + (chosen.length - shown).toLocaleString("en") + " left)";
    more.setAttribute("aria-label", more.textContent + " images");
  }

  function mark(place) {
    const before = list.children[current];
    if (before) before.classList.remove("current");
    current = place;
    list.children[place].classList.add("current");
  }

  function go(place) {
    if (place < 0 || place >= chosen.length) return;
    while (place >= shown) page();
    mark(place);
    list.children[place].focus({ preventScroll: true });
    list.children[place].scrollIntoView({ block: "nearest" });
  }

  function enlarge(place) {
    if (place < 0 || place >= chosen.length) return;
    go(place);
    enlarged = place;
    const image = chosen[place];
    const close = say("button", "close", "more");
    close.type = "button";
    close.addEventListener("click", () => zoom.close());
    const top = say("p", "", "zoom-top");
    top.append(say("span", place + 1 + " of " + chosen.length, "quiet"), close);
    const side = say("div", "", "words");
    side.append(heading(image), captions(image), references(image));
    const body = say("div", "", "zoomed");
    body.append(picture(image, "large"), side);
    zoom.replaceChildren(top, body);
    if (!zoom.open) zoom.showModal();
  }
  zoom.addEventListener("click", (event) => event.target === zoom && zoom.close());
  zoom.addEventListener("close", () => go(enlarged)); // the browser gives the focus back to where it was before

  function typing(element) {
    return element.closest("input:not([type=checkbox]), select, textarea") !== null;
  }

  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const key = event.key, within = event.target.closest ? event.target : document.body;
    if (typing(within)) {
      if (key === "Escape" && within === fields.words) {
        if (fields.words.value) fields.words.value = "";
        select();
        fields.words.blur();
        event.preventDefault();
      } else if (key === "Enter" && within === fields.words && chosen.length) {
        go(0);
        event.preventDefault();
      }
      return;
    }
    const open = zoom.open, moving = open || list.contains(within);
    const next = key === "j" || (moving && (key === "ArrowDown" || key === "ArrowRight"));
    const previous = key === "k" || (moving && (key === "ArrowUp" || key === "ArrowLeft"));
    if (next || previous) {
      const place = Math.max(0, current + (next ? 1 : -1));
      if (open) enlarge(place);
      else go(place);
    } else if (key === "/" && !open) {
      fields.words.focus();
      fields.words.scrollIntoView({ block: "center" });
    } else if (key === "Enter" && !open && current >= 0 && !within.closest("button, summary, a")) {
      enlarge(current);
    } else {
      return; // Esc closes the dialog by itself
    }
    event.preventDefault();
  });

  Object.keys(fields).forEach((name) => fields[name].addEventListener("input", select));
  more.addEventListener("click", page);
  select();
})();
