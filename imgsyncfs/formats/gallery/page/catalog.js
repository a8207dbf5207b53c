"use strict";

// All datasets with a picture each. Which picture it is, the gallery of a dataset says when it comes into view.
const imgsyncfsCatalog = (() => {
  const GALLERIES = "../.views/gallery/";
  const COLUMNS = { class: "classes", image_type: "image_type", label_type: "label_type", label_version: "label_version", project: "projects" };
  const datasets = JSON.parse(document.getElementById("datasets").textContent);
  const by = (id) => document.getElementById(id);
  const pictures = new Map();
  const cards = new Map();

  const number = (value) => value.toLocaleString("en");
  const values = (dataset, column) => [dataset[COLUMNS[column]]].flat().filter(Boolean);

  function span(className, text, parent) {
    const made = document.createElement("span");
    made.className = className;
    made.textContent = text;
    parent.append(made);
    return made;
  }

  function fill(column) {
    const found = [...new Set(datasets.flatMap((dataset) => values(dataset, column)))].sort();
    by(column).replaceChildren(new Option("any", ""), ...found.map((value) => new Option(value, value)));
    by(column).parentElement.hidden = found.length < 2;
  }

  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      const script = document.createElement("script");
      script.src = `${GALLERIES}${encodeURIComponent(target.dataset.id)}/data/cover.js`;
      script.onload = script.onerror = () => script.remove();
      document.head.append(script);
    }
  }, { rootMargin: "400px" });

  function card(dataset) {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.className = "card";
    link.href = `${GALLERIES}${encodeURIComponent(dataset.id)}/index.html`;
    const picture = span("picture", "", link);
    const words = span("words", "", link);
    span("id", dataset.id, words);
    const facts = [`${number(dataset.images)} ${dataset.images === 1 ? "image" : "images"}`, dataset.image_type, dataset.label_type.join(", ")];
    if (dataset.label_version) facts.push(`labels ${dataset.label_version}`);
    span("facts-line", facts.filter(Boolean).join(" · "), words);
    const chips = span("chips", "", words);
    for (const name of dataset.classes) span("chip", name, chips);
    if (dataset.note) span("note", dataset.note, words);
    item.append(link);
    item.dataset.id = dataset.id;
    pictures.set(dataset.id, picture);
    seen.observe(item);
    return item;
  }

  function cover([id, image]) {
    const picture = pictures.get(id);
    if (!picture || !image) return;
    const shown = document.createElement("img");
    shown.alt = "";
    shown.decoding = "async";
    shown.onerror = () => shown.remove();
    shown.src = `${GALLERIES}${encodeURIComponent(id)}/${image.split("/").map(encodeURIComponent).join("/")}`;
    picture.replaceChildren(shown);
  }

  function show() {
    const text = by("text").value.trim().toLowerCase();
    const wanted = Object.keys(COLUMNS).filter((column) => by(column).value);
    let count = 0, images = 0;
    for (const dataset of datasets) {
      const words = [dataset.id, dataset.note, ...dataset.classes, ...dataset.projects].join("\n").toLowerCase();
      const is = words.includes(text) && wanted.every((column) => values(dataset, column).includes(by(column).value));
      cards.get(dataset.id).hidden = !is;
      count += is;
      images += is ? dataset.images : 0;
    }
    by("found").textContent = `${number(count)} of ${number(datasets.length)}, with ${number(images)} images`;
    by("nothing").hidden = count > 0;
  }

  Object.keys(COLUMNS).forEach(fill);
  for (const dataset of datasets) cards.set(dataset.id, card(dataset));
  by("grid").append(...cards.values());
  by("filters").addEventListener("input", show);
  by("filters").addEventListener("reset", () => setTimeout(show));
  by("filters").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") {
      event.preventDefault();
      by("text").focus();
    } else if (event.key === "t") {
      imgsyncfsTheme.next();
    }
  });
  show();
  return { cover };
})();

const imgsyncfsCover = imgsyncfsCatalog.cover;
