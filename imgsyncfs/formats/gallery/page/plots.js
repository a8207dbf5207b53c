"use strict";

// The plots beside the images: made with Observable Plot, which is loaded when the first one is due.
const imgsyncfsPlots = (() => {
  const WIDTH = 264;
  const MOST_BARS = 15;
  const LONGEST_NAME = 16;
  const number = (value) => value.toLocaleString("en");

  let loading = null;
  const library = () =>
    (loading ??= imgsyncfsGallery.load("page/vendor/d3.min.js").then(() => imgsyncfsGallery.load("page/vendor/plot.umd.min.js")));

  const short = (name) => (name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME - 1)}…` : name);

  function figure(title, spoken, plot) {
    const made = document.createElement("figure");
    made.className = "plot";
    const caption = document.createElement("figcaption");
    caption.textContent = title;
    const svg = plot.tagName === "svg" ? plot : plot.querySelector("svg");
    // One image with one name: its parts have none that anybody could reach.
    for (const part of svg.querySelectorAll("[aria-label]")) part.removeAttribute("aria-label");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${title}: ${spoken}`);
    made.append(caption, plot);
    return made;
  }

  const common = { width: WIDTH, height: 120, marginTop: 8, marginRight: 8, marginBottom: 24, marginLeft: 34 };
  const whole = (value) => (Number.isInteger(value) ? d3.format("~s")(value) : "");
  const counts = { label: null, ticks: 3, grid: true, tickFormat: whole };
  const MOST_TICKS = 6;

  function within(ticks, bins) {
    const shown = ticks.filter((tick) => tick >= bins[0].low && tick <= bins[bins.length - 1].high);
    const every = Math.ceil(shown.length / MOST_TICKS);
    return shown.filter((_, index) => index % every === 0);
  }

  function bars(title, bins, x) {
    const most = bins.reduce((best, bin) => (bin.count > best.count ? bin : best), { count: 0 });
    if (!most.count) return null;
    const plot = Plot.plot({
      ...common,
      x: { ...x, ticks: within(x.ticks, bins) },
      y: counts,
      marks: [Plot.rectY(bins, { x1: "low", x2: "high", y: "count", fill: "var(--accent)", inset: 0.5 }), Plot.ruleY([0])],
    });
    return figure(title, `most, ${number(most.count)}, from ${most.from} to ${most.to}`, plot);
  }

  // The largest ones of [{name, colour, count}]; one without a colour has that of all plots.
  function largest(title, found) {
    const shown = found.filter((each) => each.count).sort((one, other) => other.count - one.count);
    if (!shown.length) return null;
    const top = shown.slice(0, MOST_BARS);
    if (top.length < shown.length) title += `, the ${top.length} largest of ${number(shown.length)}`;
    const place = new Map(top.map((each, index) => [index, short(each.name)]));
    const plot = Plot.plot({
      ...common,
      height: 12 + 19 * top.length,
      marginLeft: 104,
      marginBottom: 4,
      marginRight: 42,
      x: { axis: null },
      color: { type: "identity" },
      y: { label: null, tickSize: 0, tickFormat: (index) => place.get(index), domain: top.map((_, index) => index) },
      marks: [
        Plot.barX(top, {
          x: "count",
          y: (_, index) => index,
          fill: (each) => each.colour || "var(--accent)",
          stroke: "var(--edge)",
          insetTop: 1,
          insetBottom: 1,
        }),
        Plot.text(top, { x: "count", y: (_, index) => index, text: (each) => number(each.count), dx: 4, textAnchor: "start" }),
      ],
    });
    return figure(title, top.map((each) => `${each.name} ${number(each.count)}`).join(", "), plot);
  }

  // Bins between edges, with one more below and one above, which are as wide as their neighbours on a scale of logarithms.
  function between(edges, found) {
    const low = (edges[0] * edges[0]) / edges[1];
    const high = (edges[edges.length - 1] * edges[edges.length - 1]) / edges[edges.length - 2];
    const all = [low, ...edges, high];
    const bins = found.map((count, index) => {
      const [from, to] = [all[index], all[index + 1]].map((value) => Number(value.toPrecision(3)));
      return { low: all[index], high: all[index + 1], count, from, to };
    });
    let first = bins.findIndex((bin) => bin.count);
    let last = bins.findLastIndex((bin) => bin.count);
    first = Math.max(0, first - 1);
    last = Math.min(bins.length - 1, last + 1);
    return bins.slice(first, last + 1);
  }

  function centres(side, found) {
    const total = found.reduce((sum, count) => sum + count, 0);
    if (!total) return null;
    const cells = found
      .map((count, index) => ({ count, column: index % side, row: Math.floor(index / side) }))
      .filter((cell) => cell.count);
    const most = cells.reduce((best, cell) => (cell.count > best.count ? cell : best));
    const plot = Plot.plot({
      ...common,
      height: 200,
      marginLeft: 34,
      marginBottom: 8,
      x: { axis: null, domain: [0, side] },
      y: { axis: null, domain: [side, 0] },
      color: { type: "sqrt", scheme: "turbo", domain: [0, most.count] },
      marks: [
        Plot.frame({ stroke: "var(--line)", fill: "var(--heat)" }),
        Plot.rect(cells, {
          x1: "column",
          x2: (cell) => cell.column + 1,
          y1: "row",
          y2: (cell) => cell.row + 1,
          fill: "count",
          title: (cell) => number(cell.count),
        }),
      ],
    });
    const percent = (place) => Math.round(((place + 0.5) / side) * 100);
    const spoken = `most, ${number(most.count)}, ${percent(most.column)} % from the left and ${percent(most.row)} % from the top`;
    return figure(`Centres of boxes, at most ${number(most.count)} a cell`, spoken, plot);
  }

  function values({ name, values: found }) {
    if (!found.length) return null;
    const plot = Plot.plot({
      ...common,
      x: { label: null, ticks: 5, tickFormat: "~s" },
      y: counts,
      marks: [Plot.rectY(found, Plot.binX({ y: "count" }, { x: (value) => value, fill: "var(--accent)", inset: 0.5 })), Plot.ruleY([0])],
    });
    const sum = found.reduce((total, value) => total + value, 0);
    const mean = Number((sum / found.length).toPrecision(4));
    return figure(`${short(name)}: images by value`, `${number(found.length)} images, ${mean} on average`, plot);
  }

  // The plots of what is chosen: `classes` and `classifications` [{name, colour, count}], `regressions` [{name,
  // values}], and the counts of `bins`, added up over classes and states.
  async function show(parent, chosen, bins) {
    await library();
    const sides = bins.areas.map(Math.sqrt);
    const log = { type: "log", base: 2, label: null };
    let at = 0;
    const next = (length) => chosen.bins.slice(at, (at += length));
    const sizes = next(sides.length + 1), ratios = next(bins.ratios.length + 1), angles = next(bins.angles);
    const places = next(bins.centres * bins.centres);
    const degrees = 180 / bins.angles;
    const turned = angles.map((count, index) => {
      const [from, to] = [index * degrees, (index + 1) * degrees];
      return { low: from, high: to, count, from: `${from}°`, to: `${to}°` };
    });
    const plain = (value) => (value >= 1 ? String(value) : `1/${Math.round(1 / value)}`);
    const some = (found) => found.some(Boolean);
    parent.replaceChildren(
      ...[
        largest("Objects by class", chosen.classes),
        largest("Images by value", chosen.classifications),
        ...chosen.regressions.map(values),
        some(sizes)
          ? bars("Size of boxes: root of the area, in pixels", between(sides, sizes), { ...log, tickFormat: "d", ticks: sides.filter((_, power) => power % 2 === 0) })
          : null,
        some(ratios)
          ? bars("Width to height", between(bins.ratios, ratios), { ...log, tickFormat: plain, ticks: [1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8] })
          : null,
        some(turned.map((bin) => bin.count))
          ? bars("Angle of rotated boxes, in degrees", turned, { label: null, domain: [0, 180], ticks: [0, 45, 90, 135, 180] })
          : null,
        centres(bins.centres, places),
      ].filter(Boolean),
    );
  }

  return { show };
})();
