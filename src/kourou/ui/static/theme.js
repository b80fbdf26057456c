// Before the first paint: the theme that was chosen, if any; else the system's.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("kourou-theme"); } catch { /* storage may be off */ }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
