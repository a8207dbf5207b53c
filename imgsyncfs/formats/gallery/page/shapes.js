"use strict";

// Annotations as SVG over an image, in the image's pixels. What the arrays hold is told by the module shapes.py.
const imgsyncfsShapes = (() => {
  const NAMESPACE = "http://www.w3.org/2000/svg";
  const FARTHEST = 1e6;
  const LEAST_SIDE = 12;
  const RIGHT = 1, DOWN = 2, LEFT = 4, UP = 8;

  const near = (value) => Math.max(-FARTHEST, Math.min(FARTHEST, Number(value) || 0));
  const polygon = (points) => (points.length ? `M${points.map(near).join(" ")}Z` : "");

  function pairs(flat) {
    const points = [];
    for (let at = 0; at + 1 < flat.length; at += 2) points.push([near(flat[at]), near(flat[at + 1])]);
    return points;
  }

  // The run lengths of COCO's compressed text.
  function runLengths(text) {
    const lengths = [];
    for (let at = 0; at < text.length; ) {
      let value = 0, shift = 0, letter;
      do {
        letter = text.charCodeAt(at++) - 48;
        value |= (letter & 31) << shift;
        shift += 5;
      } while (letter & 32);
      if (letter & 16) value |= -1 << shift;
      lengths.push(lengths.length > 2 ? value + lengths[lengths.length - 2] : value);
    }
    return lengths;
  }

  // The cells of a mask, column by column, 1 where it covers.
  function cells(height, width, text) {
    const covered = new Uint8Array(height * width);
    let at = 0, inside = 0;
    for (const length of runLengths(text)) {
      if (inside) covered.fill(1, at, at + length);
      at += length;
      inside = 1 - inside;
    }
    return covered;
  }

  // The border of a mask as a path: the edges between covered cells and others, followed around.
  function maskPath([x, y, scale, height, width, text]) {
    const covered = cells(height, width, text);
    const is = (column, row) => column >= 0 && row >= 0 && column < width && row < height && covered[column * height + row];
    const across = width + 1;
    const edges = new Uint8Array(across * (height + 1));
    for (let column = 0; column < width; column++) {
      for (let row = 0; row < height; row++) {
        if (!is(column, row)) continue;
        if (!is(column, row - 1)) edges[row * across + column] |= RIGHT;
        if (!is(column + 1, row)) edges[row * across + column + 1] |= DOWN;
        if (!is(column, row + 1)) edges[(row + 1) * across + column + 1] |= LEFT;
        if (!is(column - 1, row)) edges[(row + 1) * across + column] |= UP;
      }
    }
    const step = { [RIGHT]: 1, [DOWN]: across, [LEFT]: -1, [UP]: -across };
    const parts = [];
    for (let start = 0; start < edges.length; start++) {
      while (edges[start]) {
        let place = start, before = 0;
        while (edges[place]) {
          const direction = edges[place] & -edges[place];
          edges[place] ^= direction;
          if (direction !== before) {
            const at = `${x + (place % across) * scale} ${y + Math.floor(place / across) * scale}`;
            parts.push(before ? `L${at}` : `M${at}`);
          }
          before = direction;
          place += step[direction];
        }
        parts.push("Z");
      }
    }
    return parts.join("");
  }

  // A rotated box, and the arrow to the middle of the side to which its angle points, as previews have it.
  // A box of which little is to be seen has none.
  function rotatedPath([x, y, w, h, angle], unit, leastSide) {
    const cosine = Math.cos(angle), sine = Math.sin(angle);
    const at = (right, down) => [x + right * cosine - down * sine, y + right * sine + down * cosine];
    const corners = [at(-w / 2, -h / 2), at(w / 2, -h / 2), at(w / 2, h / 2), at(-w / 2, h / 2)];
    const head = Math.min(9 * unit, 0.3 * Math.abs(w), 0.3 * Math.abs(h));
    if (!(head > 0) || Math.min(Math.abs(w), Math.abs(h)) < leastSide * unit) return { line: polygon(corners.flat()), points: corners };
    const arrow = [at(w / 6, 0), at(w / 2, 0)].flat().map(near);
    const barbs = [at(w / 2 - head, -head), at(w / 2, 0), at(w / 2 - head, head)].flat().map(near);
    return { line: `${polygon(corners.flat())}M${arrow.join(" ")}M${barbs.join(" ")}`, points: corners };
  }

  function circle(x, y, radius) {
    const r = near(radius);
    return `M${near(x) - r} ${near(y)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`;
  }

  // What draws an object; `unit` is how many pixels of the image a pixel of the screen shows. Rotated boxes of a side
  // below `leastSide` pixels of the screen have no arrow.
  function drawn([kind, , ...numbers], unit, leastSide = 0) {
    switch (kind) {
      case "b": {
        const [x1, y1, x2, y2] = numbers;
        return { line: polygon([x1, y1, x2, y1, x2, y2, x1, y2]), points: [[x1, y1], [x2, y2]] };
      }
      case "r":
        return rotatedPath(numbers, unit, leastSide);
      case "p":
        return { line: polygon(numbers[0]), points: pairs(numbers[0]) };
      case "l":
        return { line: numbers[0].length ? `M${numbers[0].map(near).join(" ")}` : "", points: pairs(numbers[0]) };
      case "d": {
        const points = pairs(numbers[0]);
        return { line: points.map(([x, y]) => circle(x, y, 3.5 * unit)).join(""), points };
      }
      case "c": {
        const [x, y, radius] = numbers;
        return { line: circle(x, y, radius), points: [[x - radius, y - radius], [x + radius, y + radius]] };
      }
      case "m": {
        const [x, y, scale, height, width] = numbers;
        if (!width) return { line: "", points: [] };
        const path = maskPath(numbers);
        return { line: path, area: path, points: [[x, y], [x + width * scale, y + height * scale]] };
      }
      default:
        return { line: "", points: [] };
    }
  }

  const rounded = (value) => Number(Number(value).toPrecision(4)).toLocaleString("en");

  // How large an object is, for people.
  function measured([kind, , ...numbers]) {
    switch (kind) {
      case "b":
        return `${rounded(numbers[2] - numbers[0])} × ${rounded(numbers[3] - numbers[1])}`;
      case "r":
        return `${rounded(numbers[2])} × ${rounded(numbers[3])}, ${Math.round((numbers[4] * 180) / Math.PI)}°`;
      case "m":
        return numbers[4] ? `mask, ${rounded(numbers[4] * numbers[2])} × ${rounded(numbers[3] * numbers[2])}` : "empty mask";
      case "c":
        return `circle, radius ${rounded(numbers[2])}`;
      default: {
        const count = numbers[0].length / 2;
        return `${count} ${count === 1 ? "point" : "points"}`;
      }
    }
  }

  function element(name, attributes, parent) {
    const made = document.createElementNS(NAMESPACE, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    parent?.append(made);
    return made;
  }

  function surface(width, height) {
    return element("svg", { class: "shapes", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", focusable: "false" });
  }

  function lines(path, colour, parent) {
    if (!path) return;
    element("path", { class: "rim", d: path }, parent);
    element("path", { class: "stroke", d: path, stroke: colour }, parent);
  }

  // For a small picture: all objects of a class are one path, which is quick to draw.
  function overview(image, unit) {
    const svg = surface(image.width, image.height);
    const paths = new Map();
    for (const object of image.objects) {
      const { line, area } = drawn(object, unit, LEAST_SIDE);
      const [, colour] = image.classes[object[1]];
      if (area) element("path", { class: "area", d: area, fill: colour }, svg);
      paths.set(colour, (paths.get(colour) || "") + line);
    }
    for (const [colour, path] of paths) lines(path, colour, svg);
    return svg;
  }

  // For a large picture: each object is a group of its own, with the name of its class.
  function detail(image, unit) {
    const svg = surface(image.width, image.height);
    const size = 12 * unit;
    const labels = [];
    for (const object of image.objects) {
      const group = element("g", {}, svg);
      const { line, area, points } = drawn(object, unit);
      const [name, colour] = image.classes[object[1]];
      if (area) element("path", { class: "area", d: area, fill: colour }, group);
      lines(line, colour, group);
      if (!points.length) continue;
      const left = Math.min(...points.map(([x]) => near(x))), top = Math.min(...points.map(([, y]) => near(y)));
      const label = element("text", {
        x: Math.max(2 * unit, left),
        y: top - 4 * unit < size ? Math.max(top, 0) + 1.15 * size : top - 4 * unit,
        "font-size": size,
        "stroke-width": 3 * unit,
        fill: colour,
      });
      label.textContent = name;
      labels.push(label);
    }
    // Above all lines and areas.
    element("g", { class: "words" }, svg).append(...labels);
    return svg;
  }

  return { overview, detail, measured, maskPath };
})();
