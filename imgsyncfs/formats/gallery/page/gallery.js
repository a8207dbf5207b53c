"use strict";

// The page: filters, the grid of a page of images, and the viewer of one image. Its state is in the address, so that a
// page can be kept and sent.
(() => {
  const PAGE = 240;
  const CLASS = 0, CLASSIFICATION = 1, REGRESSION = 2, OTHERS = 3;
  const MOST_RANGES = 8;
  const STATES = ["no annotation", "not checked", "checked"];
  const FIELDS = ["name", "state", "least", "most"];
  const SHAPES = "no-shapes", NAMES = "no-names";

  const gallery = imgsyncfsGallery;
  const { dataset } = gallery;
  const by = (id) => document.getElementById(id);
  const number = (value) => value.toLocaleString("en");
  const counted = (value, one, many) => `${number(value)} ${value === 1 ? one : many}`;

  let summary = null;
  let chosen = new Set();
  let ranges = []; // of regressions: {key, name, least, most}, the last two fields of the form
  let shown = null; // the images that the filters let through; null for all
  let page = 0;
  let open = -1; // place of the image in the viewer among those shown
  let current = null;
  let isFullSize = false;

  const found = () => (shown ? shown.length : dataset.images);
  const imageAt = (place) => (shown ? shown[place] : place);
  const pages = () => Math.max(1, Math.ceil(found() / PAGE));

  function make(name, className, text, parent) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text) made.textContent = text;
    parent?.append(made);
    return made;
  }

  function swatch(colour, parent) {
    make("span", "swatch", "", parent).style.background = colour;
  }

  const sourceOf = (image) => `images/${encodeURIComponent(image.file)}`;
  const keyName = ([name, kind]) => (kind === OTHERS ? "others" : name);

  // Objects by class, in the order in which classes come up.
  function tally(image) {
    const counts = new Map();
    for (const [, place] of image.objects) counts.set(place, (counts.get(place) || 0) + 1);
    return [...counts].map(([place, count]) => ({ name: image.classes[place][0], colour: image.classes[place][1], count }));
  }

  function spoken(image) {
    const classes = tally(image).map(({ name, count }) => `${count} ${name}`);
    const values = image.values.map(([name, value]) => `${name}: ${value}`);
    return [image.file, counted(image.objects.length, "object", "objects"), ...classes, ...values, STATES[image.state]].join(", ");
  }

  // The image's own size may not be known before the picture is here.
  function sized(image, picture) {
    image.width ||= picture.naturalWidth;
    image.height ||= picture.naturalHeight;
    return image.width > 0 && image.height > 0;
  }

  function complain(image, parent) {
    const ending = image.file.split(".").pop();
    make("span", "broken", `The picture cannot be shown: this browser cannot read .${ending}, or the file cannot be read.`, parent);
  }

  // The grid.

  const near = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      fillCard(target, Number(target.dataset.place));
    }
  }, { rootMargin: "500px" });

  function emptyCard(place) {
    const item = document.createElement("li");
    const card = make("button", "card", "", item);
    card.type = "button";
    card.dataset.place = place;
    card.tabIndex = place % PAGE ? -1 : 0;
    card.setAttribute("aria-label", `Image ${number(imageAt(place) + 1)}`);
    make("span", "picture", "", card);
    make("span", "words", "", card);
    near.observe(card);
    return item;
  }

  async function fillCard(card, place) {
    const [frame, words] = card.children;
    let image;
    try {
      image = await gallery.image(imageAt(place));
    } catch {
      make("span", "broken", "What is labelled here cannot be read: .imgsyncfs/errors.log in the mount says why.", frame);
      return;
    }
    if (!card.isConnected) return;
    const picture = document.createElement("img");
    picture.alt = "";
    picture.loading = "lazy";
    picture.decoding = "async";
    const draw = () => {
      const unit = Math.max(image.width / frame.clientWidth, image.height / frame.clientHeight);
      frame.append(imgsyncfsShapes.overview(image, unit));
    };
    const isKnown = image.width > 0 && image.height > 0;
    picture.onload = () => !isKnown && sized(image, picture) && draw();
    picture.onerror = () => complain(image, frame);
    picture.src = sourceOf(image);
    frame.append(picture);
    if (isKnown) draw();
    card.setAttribute("aria-label", spoken(image));
    card.title = image.file;
    make("bdi", "", image.file, make("span", "file", "", words));
    const chips = make("span", "chips", "", words);
    for (const { name, colour, count } of tally(image)) {
      const chip = make("span", "chip", "", chips);
      swatch(colour, chip);
      chip.append(`${name} ${number(count)}`);
    }
    for (const [name, value] of image.values) make("span", "chip", `${name}: ${value}`, chips);
    if (image.state !== 2 || !chips.children.length) make("span", "chip state", STATES[image.state], chips);
  }

  function showPager(id) {
    const nav = by(id);
    nav.hidden = pages() < 2;
    const previous = make("button", "", "‹ Previous");
    const next = make("button", "", "Next ›");
    const place = make("label", "", "Page");
    const input = make("input", "", "", place);
    previous.type = next.type = "button";
    previous.disabled = page === 0;
    next.disabled = page >= pages() - 1;
    previous.onclick = () => turnTo(page - 1);
    next.onclick = () => turnTo(page + 1);
    input.type = "number";
    input.min = 1;
    input.max = pages();
    input.value = page + 1;
    input.onchange = () => turnTo(Math.trunc(input.valueAsNumber || 1) - 1);
    place.append(` of ${number(pages())}`);
    nav.replaceChildren(previous, place, next);
  }

  function showPage() {
    page = Math.min(Math.max(page, 0), pages() - 1);
    near.disconnect();
    const items = [];
    for (let place = page * PAGE; place < Math.min(found(), (page + 1) * PAGE); place++) items.push(emptyCard(place));
    by("grid").replaceChildren(...items);
    showPager("pages-above");
    showPager("pages-below");
    by("nothing").hidden = items.length > 0;
    by("nothing").textContent = dataset.images ? "No image is like this." : "This dataset has no images.";
    by("found").textContent = shown
      ? `${number(found())} of ${counted(dataset.images, "image", "images")}`
      : counted(dataset.images, "image", "images");
  }

  function turnTo(wanted) {
    page = wanted;
    showPage();
    remember();
    window.scrollTo(0, 0);
    focusOn(page * PAGE);
  }

  const cardAt = (place) => by("grid").children[place - page * PAGE]?.firstElementChild;

  function focusOn(place) {
    if (place < 0 || place >= found()) return;
    if (Math.floor(place / PAGE) !== page) {
      page = Math.floor(place / PAGE);
      showPage();
      remember();
    }
    for (const card of by("grid").querySelectorAll('[tabindex="0"]')) card.tabIndex = -1;
    const card = cardAt(place);
    if (!card) return;
    card.tabIndex = 0;
    card.focus();
    card.scrollIntoView({ block: "nearest" });
  }

  const cardsInARow = () => getComputedStyle(by("grid")).gridTemplateColumns.split(" ").length;

  // Filters.

  function wantedNames(text) {
    const wanted = text.toLowerCase();
    return wanted ? gallery.fileNames().map((name) => name.toLowerCase().includes(wanted)) : null;
  }

  function matching() {
    const state = by("state").value;
    const least = by("least").value === "" ? 0 : by("least").valueAsNumber;
    const most = by("most").value === "" ? Infinity : by("most").valueAsNumber;
    const text = by("name").value.trim();
    const limits = ranges.filter(({ least: low, most: high }) => low.value !== "" || high.value !== "");
    if (!state && !text && !chosen.size && least <= 0 && most === Infinity && !limits.length) return null;
    const names = wantedNames(text);
    const images = [];
    for (let index = 0; index < dataset.images; index++) {
      if (state && gallery.states[index] !== Number(state)) continue;
      if (gallery.objects[index] < least || gallery.objects[index] > most) continue;
      if (names && !names[index]) continue;
      if (chosen.size && !hasChosen(index)) continue;
      if (!limits.every((limit) => isWithin(index, limit))) continue;
      images.push(index);
    }
    return images;
  }

  function hasChosen(index) {
    for (let at = gallery.starts[index]; at < gallery.starts[index + 1]; at++) {
      if (chosen.has(gallery.pairKeys[at])) return true;
    }
    return false;
  }

  function isWithin(index, { key, least, most }) {
    for (let at = gallery.starts[index]; at < gallery.starts[index + 1]; at++) {
      if (gallery.pairKeys[at] !== key) continue;
      const value = gallery.pairValues[at];
      return !(value < least.valueAsNumber) && !(value > most.valueAsNumber);
    }
    return false;
  }

  function apply() {
    if (!summary) return;
    shown = matching();
    page = 0;
    showPage();
    remember();
    showPlots();
  }

  function showClasses() {
    const images = new Uint32Array(summary.keys.length);
    for (const key of gallery.pairKeys) images[key]++;
    // The catalog names classes of which a dataset of values has no objects.
    const hasObjects = summary.keys.some((key, place) => key[1] === CLASS && images[place]);
    const places = [...summary.keys.keys()].filter((place) => {
      const kind = summary.keys[place][1];
      return kind !== REGRESSION && (kind !== CLASS || hasObjects || images[place]);
    });
    const order = (place) => (summary.keys[place][1] === CLASSIFICATION ? summary.keys[place][0] : "");
    places.sort((one, other) => summary.keys[one][1] - summary.keys[other][1] || order(one).localeCompare(order(other), "en"));
    const rows = places.map((place) => {
      const key = summary.keys[place];
      const row = document.createElement("label");
      const box = make("input", "", "", row);
      box.type = "checkbox";
      box.checked = chosen.has(place);
      box.onchange = () => (box.checked ? chosen.add(place) : chosen.delete(place));
      if (key[1] === CLASS) swatch(key[2], row);
      make("span", "name", keyName(key), row).title = keyName(key);
      make("span", "count", number(images[place]), row);
      return row;
    });
    by("classes").replaceChildren(...rows);
    by("classes-field").hidden = !rows.length;
  }

  function showRanges() {
    const regressions = [...summary.keys.keys()].filter((place) => summary.keys[place][1] === REGRESSION);
    ranges = regressions.slice(0, MOST_RANGES).map((key) => {
      const name = summary.keys[key][0];
      const pair = make("div", "pair", "", by("ranges"));
      const [least, most] = [`${name}, at least`, "at most"].map((text) => {
        const field = make("label", "field", "", pair);
        make("span", "", text, field);
        const input = make("input", "", "", field);
        input.type = "number";
        input.step = "any";
        return input;
      });
      most.setAttribute("aria-label", `${name}, at most`);
      return { key, name, least, most };
    });
  }

  function showPlots() {
    const { keys, counts } = summary;
    const totals = new Array(keys.length).fill(0);
    const values = keys.map(() => []);
    for (let place = 0; place < found(); place++) {
      const index = imageAt(place);
      for (let at = gallery.starts[index]; at < gallery.starts[index + 1]; at++) {
        const key = gallery.pairKeys[at];
        if (keys[key][1] === REGRESSION) values[key].push(gallery.pairValues[at]);
        else totals[key] += gallery.pairValues[at];
      }
    }
    const is = (place) => !chosen.size || chosen.has(place);
    const state = by("state").value;
    const bins = new Array(counts.areas.length + 1 + counts.ratios.length + 1 + counts.angles + counts.centres ** 2).fill(0);
    for (const [key, checked, flat] of counts.groups) {
      if (!is(key) || (state && Number(state) !== 1 + checked)) continue;
      for (let at = 0; at < flat.length; at += 2) bins[flat[at]] += flat[at + 1];
    }
    const largest = keys.map((key, place) => ({ place, kind: key[1], name: keyName(key), count: totals[place] })).filter(({ place }) => is(place));
    const chosenOnes = {
      classes: largest.filter(({ kind }) => kind === CLASS || kind === OTHERS).map((each) => ({ ...each, colour: keys[each.place][2] })),
      classifications: largest.filter(({ kind }) => kind === CLASSIFICATION),
      regressions: keys.map(([name], place) => ({ name, values: values[place] })).filter((each) => each.values.length),
      bins,
    };
    imgsyncfsPlots.show(by("plots"), chosenOnes, counts).then(
      () => (by("plots").hidden = false),
      () => trouble("The plots cannot be shown: page/vendor cannot be read."),
    );
  }

  function trouble(text) {
    by("trouble").textContent = text;
    by("trouble").hidden = !text;
  }

  // The address.

  function remember() {
    const words = new URLSearchParams();
    if (page) words.set("page", page + 1);
    for (const id of FIELDS) if (by(id).value) words.set(id, by(id).value);
    for (const { name, least, most } of ranges) {
      if (least.value) words.set(`least ${name}`, least.value);
      if (most.value) words.set(`most ${name}`, most.value);
    }
    for (const place of chosen) words.append("class", keyName(summary.keys[place]));
    if (open >= 0) words.set("image", imageAt(open) + 1);
    const address = `#${words}`;
    if (address !== location.hash && (location.hash || words.size)) history.replaceState(null, "", address);
  }

  function recall() {
    const words = new URLSearchParams(location.hash.slice(1));
    for (const id of FIELDS) by(id).value = words.get(id) || "";
    const names = new Set(words.getAll("class"));
    chosen = new Set(summary ? summary.keys.flatMap((key, place) => (names.has(keyName(key)) ? [place] : [])) : []);
    if (summary) {
      for (const { name, least, most } of ranges) {
        least.value = words.get(`least ${name}`) || "";
        most.value = words.get(`most ${name}`) || "";
      }
      showClasses();
      shown = matching();
    }
    page = (Number(words.get("page")) || 1) - 1;
    showPage();
    if (summary) showPlots();
    const index = Number(words.get("image")) - 1;
    const place = shown ? shown.indexOf(index) : index;
    const isFiltered = [...words.keys()].some((word) => word !== "page" && word !== "image");
    if ((summary || !isFiltered) && place >= 0 && place < found()) view(place);
  }

  // The viewer.

  async function view(place) {
    open = place;
    current = null;
    by("viewer-place").textContent = `${number(place + 1)} of ${number(found())}`;
    by("viewer-previous").disabled = place === 0;
    by("viewer-next").disabled = place === found() - 1;
    if (!by("viewer").open) by("viewer").showModal();
    remember();
    let image;
    try {
      image = await gallery.image(imageAt(place));
    } catch {
      by("viewer-name").textContent = `Image ${number(imageAt(place) + 1)}`;
      by("facts").replaceChildren(make("p", "", "What is labelled here cannot be read: .imgsyncfs/errors.log in the mount says why."));
      return;
    }
    if (open !== place) return;
    current = image;
    by("viewer-name").textContent = image.file;
    const frame = make("div", "frame");
    const picture = make("img", "", "", frame);
    picture.alt = spoken(image);
    picture.decoding = "async";
    picture.onload = () => sized(image, picture) && current === image && layOut();
    picture.onerror = () => complain(image, by("stage"));
    picture.src = sourceOf(image);
    by("stage").replaceChildren(frame);
    showFacts(image);
    layOut();
    for (const beside of [place + 1, place - 1]) if (beside >= 0 && beside < found()) gallery.image(imageAt(beside)).then(ahead, () => {});
  }

  function ahead(image) {
    new Image().src = sourceOf(image);
  }

  // Fits the picture into the stage, or shows it in its full size, and draws lines that fit that size.
  function layOut() {
    const frame = by("stage").querySelector(".frame");
    if (!frame || !current?.width || !current.height) return;
    const room = [by("stage").clientWidth / current.width, by("stage").clientHeight / current.height];
    const scale = isFullSize ? 1 : Math.min(...room, 8);
    frame.style.width = `${Math.floor(current.width * scale)}px`;
    frame.style.height = `${Math.floor(current.height * scale)}px`;
    frame.querySelector("svg")?.remove();
    frame.append(imgsyncfsShapes.detail(current, 1 / scale));
  }

  function showFacts(image) {
    const parts = [];
    const size = image.width ? `${number(image.width)} × ${number(image.height)}` : "not known";
    const facts = document.createElement("dl");
    for (const [name, value] of [["Size", size], ["Labels", STATES[image.state]], ...image.values]) {
      make("dt", "", name, facts);
      make("dd", "", typeof value === "number" ? value.toLocaleString("en", { maximumFractionDigits: 6 }) : value, facts);
    }
    parts.push(make("h3", "", "Image"), facts, make("h3", "", counted(image.objects.length, "object", "objects")));
    const list = document.createElement("ol");
    image.objects.forEach((object, place) => {
      const [name, colour] = image.classes[object[1]];
      const row = make("button", "object", "", make("li", "", "", list));
      row.type = "button";
      swatch(colour, row);
      make("span", "name", name || "(no name)", row);
      make("span", "size", imgsyncfsShapes.measured(object), row);
      const choose = (is) => () => {
        const svg = by("stage").querySelector("svg");
        svg?.classList.toggle("choosing", is);
        svg?.children[place]?.classList.toggle("chosen", is);
      };
      row.onmouseenter = row.onfocus = choose(true);
      row.onmouseleave = row.onblur = choose(false);
    });
    by("facts").replaceChildren(...parts, list);
    by("facts").scrollTop = 0;
  }

  const step = (by_) => open + by_ >= 0 && open + by_ < found() && view(open + by_);

  function toggleZoom() {
    isFullSize = !isFullSize;
    by("viewer-zoom").setAttribute("aria-pressed", isFullSize);
    layOut();
  }

  function toggleNames() {
    const isOff = document.body.classList.toggle(NAMES);
    by("viewer-names").setAttribute("aria-pressed", !isOff);
  }

  function toggleShapes() {
    by("shapes").checked = !by("shapes").checked;
    by("shapes").dispatchEvent(new Event("change"));
  }

  // Keys.

  const VIEWER_KEYS = {
    ArrowRight: () => step(1),
    ArrowLeft: () => step(-1),
    n: () => step(1),
    p: () => step(-1),
    b: toggleShapes,
    l: toggleNames,
    z: toggleZoom,
  };

  const GRID_KEYS = {
    n: () => page < pages() - 1 && turnTo(page + 1),
    p: () => page > 0 && turnTo(page - 1),
    b: toggleShapes,
    t: imgsyncfsTheme.next,
    "/": () => by("name").focus(),
    "?": () => by("help").showModal(),
  };

  const MOVES = {
    ArrowRight: () => 1,
    ArrowLeft: () => -1,
    ArrowDown: cardsInARow,
    ArrowUp: () => -cardsInARow(),
  };

  function press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=checkbox]), select")) return;
    let act;
    if (by("viewer").open) {
      act = isFullSize && event.key.startsWith("Arrow") && event.target === by("stage") ? null : VIEWER_KEYS[event.key];
    } else if (!by("help").open) {
      const place = event.target.closest?.(".card")?.dataset.place;
      act = GRID_KEYS[event.key];
      if (MOVES[event.key] && (place !== undefined || event.target === document.body)) {
        act = () => focusOn(place === undefined ? page * PAGE : Number(place) + MOVES[event.key]());
      }
    }
    if (!act) return;
    event.preventDefault();
    act();
  }

  // What is pressed.

  by("grid").addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    if (card) view(Number(card.dataset.place));
  });
  by("viewer").addEventListener("close", () => {
    const place = open;
    open = -1;
    by("stage").replaceChildren();
    focusOn(place);
    remember();
  });
  let typing = 0;
  by("filters").addEventListener("input", (event) => {
    clearTimeout(typing);
    typing = setTimeout(apply, event.target.matches("[type=search], [type=number]") ? 200 : 0);
  });
  by("filters").addEventListener("submit", (event) => {
    event.preventDefault();
    apply();
  });
  by("filters").addEventListener("reset", () => {
    chosen = new Set();
    setTimeout(apply);
  });
  by("shapes").addEventListener("change", () => document.body.classList.toggle(SHAPES, !by("shapes").checked));
  by("size").addEventListener("input", () => document.documentElement.style.setProperty("--card", `${by("size").value}px`));
  by("size").addEventListener("change", showPage);
  by("help-button").onclick = () => by("help").showModal();
  by("viewer-previous").onclick = () => step(-1);
  by("viewer-next").onclick = () => step(1);
  by("viewer-names").onclick = toggleNames;
  by("viewer-zoom").onclick = toggleZoom;
  by("viewer-close").onclick = () => by("viewer").close();
  document.addEventListener("keydown", press);
  window.addEventListener("hashchange", recall);
  new ResizeObserver(layOut).observe(by("stage"));

  const facts = [counted(dataset.images, "image", "images")];
  if (dataset.label_version) facts.push(`labels ${dataset.label_version}`);
  facts.push(`revision ${number(dataset.revision)}`);
  by("about").textContent = facts.join(" · ");
  by("catalog").hidden = !location.pathname.includes("/.views/gallery/");
  for (const field of by("filters").elements) field.disabled = true;
  recall();
  const first = dataset.images ? gallery.image(imageAt(0)).catch(() => {}) : Promise.resolve();
  first
    .then(() => gallery.loadSummary(() => trouble("What filters and plots need of all images is being written, or cannot be read; it is asked for again.")))
    .then((arrived) => {
      summary = arrived;
      trouble("");
      showRanges();
      for (const field of by("filters").elements) field.disabled = false;
      const isKept = new URLSearchParams(location.hash.slice(1)).size > 0;
      if (isKept && open < 0) recall();
      else {
        showClasses();
        showPlots();
      }
    });
})();
