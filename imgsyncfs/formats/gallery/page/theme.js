"use strict";

// Light, dark, or as the system has it; kept from page to page where the browser keeps anything.
const imgsyncfsTheme = (() => {
  const KEY = "imgsyncfs-theme";
  const NAMES = { auto: "Automatic", light: "Light", dark: "Dark" };
  const CHOICES = Object.keys(NAMES);
  let theme = "auto";
  try {
    theme = localStorage.getItem(KEY) || theme;
  } catch {
    // A browser may keep nothing for files: the choice then ends with the page.
  }

  const button = () => document.getElementById("theme");

  function show() {
    document.documentElement.dataset.theme = theme;
    const shown = button();
    if (shown) shown.textContent = `${NAMES[theme]} colours`;
  }

  function next() {
    theme = CHOICES[(CHOICES.indexOf(theme) + 1) % CHOICES.length];
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // As above.
    }
    show();
  }

  if (!CHOICES.includes(theme)) theme = "auto";
  show();
  document.addEventListener("DOMContentLoaded", () => {
    show();
    button()?.addEventListener("click", next);
  });
  return { next };
})();
