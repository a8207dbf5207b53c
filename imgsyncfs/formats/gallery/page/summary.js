"use strict";

// Loads the summary for the page that this one is a frame of. It may take minutes to come, and a browser reads what a
// page asks for from disk one after the other: the page's pictures would wait for it. A frame is asked for by itself.
const imgsyncfsGallery = (() => {
  // A page from disk has no origin that could be named here. What is sent is in files beside, for everyone to read.
  const send = (name, ...values) => parent.postMessage({ name, values }, "*");
  const script = document.createElement("script");
  script.src = "../data/summary.js";
  script.onerror = () => send("refused");
  document.head.append(script);
  return { rows: (...values) => send("rows", ...values), summary: (...values) => send("summary", ...values) };
})();
