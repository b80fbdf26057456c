// Draws what is marked as a diagram, and again when the reader changes between light and dark.
(() => {
  const isDark = () => {
    const theme = document.body.dataset.theme;
    return theme === "dark" || (theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  };
  const draw = async () => {
    mermaid.initialize({ startOnLoad: false, securityLevel: "strict", theme: isDark() ? "dark" : "neutral" });
    let number = 0;
    for (const place of document.querySelectorAll("div.diagram")) {
      place.dataset.text ??= place.querySelector("pre").textContent.trim();
      const { svg } = await mermaid.render(`diagram-${number++}`, place.dataset.text);
      place.innerHTML = svg;
    }
  };
  addEventListener("load", () => {
    if (!document.querySelector("div.diagram")) return;
    // Only pages with a diagram load what draws it: it is large.
    const script = document.createElement("script");
    script.src = new URL("mermaid.min.js", document.querySelector('script[src*="diagrams.js"]').src);
    script.addEventListener("load", () => {
      draw();
      new MutationObserver(draw).observe(document.body, { attributes: true, attributeFilter: ["data-theme"] });
    });
    document.head.append(script);
  });
})();
