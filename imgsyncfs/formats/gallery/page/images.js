"use strict";

// What is known of the images: of all of them after the summary has come, of a run of them after its script has.
// A page opened from disk may not fetch, but it may load scripts, which call this object.
const imgsyncfsGallery = (() => {
  const MOST_RUNS = 60;
  const PAUSES = [1000, 4000, 10000];
  const SUMMARY_PAUSE = 10000;

  const dataset = JSON.parse(document.getElementById("dataset").textContent);
  const count = dataset.images;
  const runs = new Map();
  const waiting = new Map();

  const states = new Uint8Array(count);
  const objects = new Uint32Array(count);
  const starts = new Uint32Array(count + 1);
  const pairKeys = [];
  const pairValues = [];
  const shared = new Uint16Array(count);
  const rests = [];
  let names = null;

  const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

  function load(source) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = source;
      script.onload = () => {
        script.remove();
        resolve();
      };
      script.onerror = () => {
        script.remove();
        reject(new Error(`${source} cannot be read`));
      };
      document.head.append(script);
    });
  }

  async function loadRun(number) {
    const source = `data/shapes-${String(number).padStart(3, "0")}.js`;
    for (let tries = 0; ; tries++) {
      try {
        await load(source);
        break;
      } catch (error) {
        if (tries === PAUSES.length) throw error;
        await pause(PAUSES[tries]);
      }
    }
    waiting.delete(number);
    if (runs.size > MOST_RUNS) runs.delete(runs.keys().next().value);
    return runs.get(number);
  }

  // One image, when its run has come: file, width, height (0 where unknown), state, objects, values, classes.
  async function image(index) {
    const number = Math.floor(index / dataset.at_once);
    let run = runs.get(number);
    if (!run) {
      if (!waiting.has(number)) {
        const loading = loadRun(number);
        waiting.set(number, loading);
        loading.catch(() => waiting.delete(number));
      }
      run = await waiting.get(number);
    }
    const [file, width, height, state, found, values] = run.images[index - run.first];
    return { index, file, width, height, state, objects: found, values, classes: run.classes };
  }

  function rows(first, flat) {
    let index = first;
    for (let at = 0; at < flat.length; index++) {
      shared[index] = flat[at++];
      rests[index] = flat[at++];
      states[index] = flat[at++];
      objects[index] = flat[at++];
      starts[index] = pairKeys.length;
      for (let left = flat[at++]; left; left--) {
        pairKeys.push(flat[at++]);
        pairValues.push(flat[at++]);
      }
    }
    starts[index] = pairKeys.length;
  }

  // The file names of all images. Made when somebody asks: those of a million take 100 MB.
  function fileNames() {
    if (!names) {
      let before = "";
      names = rests.map((rest, index) => (before = before.slice(0, shared[index]) + rest));
    }
    return names;
  }

  // Asks a frame for the summary (summary.js says why); null if it was refused.
  function askForSummary() {
    pairKeys.length = pairValues.length = 0;
    const frame = document.createElement("iframe");
    frame.hidden = true;
    frame.title = "Summary";
    frame.src = "page/summary.html";
    return new Promise((resolve) => {
      function take({ source, data }) {
        if (source !== frame.contentWindow) return;
        if (data.name === "rows") {
          rows(...data.values);
          return;
        }
        window.removeEventListener("message", take);
        frame.remove();
        resolve(data.name === "summary" ? data.values[0] : null);
      }
      window.addEventListener("message", take);
      document.body.append(frame);
    });
  }

  // The summary, when it has come. That of a large dataset takes minutes to write, and who asks meanwhile is refused.
  async function loadSummary(refused) {
    for (;;) {
      const summary = await askForSummary();
      if (summary) return summary;
      refused();
      await pause(SUMMARY_PAUSE);
    }
  }

  return {
    dataset,
    load,
    image,
    loadSummary,
    fileNames,
    states,
    objects,
    starts,
    pairKeys,
    pairValues,
    shapes: (run) => runs.set(Math.floor(run.first / dataset.at_once), run),
  };
})();
