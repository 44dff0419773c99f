"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const themes = ["system", "light", "dark"];
  const remember = { get() { try { return localStorage.getItem("edge-bench-theme"); } catch { return null; } },
    set(value) { try { localStorage.setItem("edge-bench-theme", value); } catch { /* a file may have no storage */ } } };
  const apply = (name) => {
    if (name === "system") root.removeAttribute("data-theme"); else root.setAttribute("data-theme", name);
    theme.textContent = "Theme: " + name;
  };
  let now = themes.includes(remember.get()) ? remember.get() : "system";
  apply(now);
  theme.hidden = false;
  theme.addEventListener("click", () => {
    now = themes[(themes.indexOf(now) + 1) % themes.length];
    remember.set(now);
    apply(now);
  });

  const KEPT = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linecap",
    "stroke-linejoin", "paint-order", "font", "text-anchor"];
  // A copy with its colours written into it: it must look the same without this page's style sheet.
  const standalone = (svg) => {
    const copy = svg.cloneNode(true);
    const from = svg.querySelectorAll("*");
    copy.querySelectorAll("*").forEach((element, i) => {
      const style = getComputedStyle(from[i]);
      element.setAttribute("style", KEPT.map((name) => name + ":" + style.getPropertyValue(name)).join(";"));
    });
    const back = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    back.setAttribute("width", "100%");
    back.setAttribute("height", "100%");
    back.setAttribute("fill", getComputedStyle(root).getPropertyValue("--paper").trim());
    copy.prepend(back);
    return new XMLSerializer().serializeToString(copy);
  };
  const save = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const rasterise = (text, width, height) => new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => {
      const canvas = document.createElement("canvas");
      canvas.width = 2 * width;
      canvas.height = 2 * height;
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(resolve, "image/png");
    };
    image.onerror = reject;
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
  });
  document.querySelectorAll(".tools").forEach((tools) => { tools.hidden = false; });
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-export]");
    if (!button) return;
    const figure = button.closest("figure");
    const svg = [...figure.querySelectorAll(".picture svg")].find((one) => one.getClientRects().length);
    const text = standalone(svg);
    const name = "edge-bench-" + figure.dataset.name;
    if (button.dataset.export === "svg") save(new Blob([text], { type: "image/svg+xml" }), name + ".svg");
    else save(await rasterise(text, svg.viewBox.baseVal.width, svg.viewBox.baseVal.height), name + ".png");
  });
})();
