"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const figures = [...document.querySelectorAll("[data-curves]")];
  const controls = document.getElementById("controls");
  const endpoint = document.getElementById("choose-endpoint");
  const landmark = document.getElementById("choose-landmark");
  const boxes = [...document.querySelectorAll("[data-toggle]")];
  const SVG = "http://www.w3.org/2000/svg";

  // Never 0.000 or 1.000, unless it is so by definition.
  const said = (share) => {
    if (share > 0 && share < 0.001) return "<0.001";
    if (share > 0.999 && share < 1) return ">0.999";
    return share === 0 || share === 1 ? String(share) : share.toFixed(3);
  };
  const range = (curve, at) =>
    `${said(curve.median[at])} (${said(curve.lower[at])} to ${said(curve.upper[at])})`;

  const chosen = (name) => {
    const box = boxes.find((one) => one.dataset.toggle === name);
    return !box || box.checked;
  };

  for (const figure of figures) {
    const curves = data.curves[figure.dataset.curves];
    const svg = figure.querySelector("svg");
    const cross = svg.appendChild(document.createElementNS(SVG, "g"));
    cross.setAttribute("class", "cross");
    cross.setAttribute("visibility", "hidden");
    const line = cross.appendChild(document.createElementNS(SVG, "line"));
    line.setAttribute("class", "crossline");
    line.setAttribute("y1", curves.top);
    line.setAttribute("y2", curves.bottom);
    const output = figure.querySelector("output");
    const slider = figure.querySelector("input[type=range]");
    const dots = curves.curves.map((curve) => {
      const dot = document.createElementNS(SVG, "circle");
      dot.setAttribute("r", "2.8");
      dot.setAttribute("class", `dot c${curve.regime % data.colours}`);
      cross.append(dot);
      return dot;
    });
    const show = (at) => {
      const x = curves.x[at];
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
      cross.setAttribute("visibility", "visible");
      const words = [];
      curves.curves.forEach((curve, index) => {
        const on = chosen(`regime-${curve.regime}`);
        dots[index].setAttribute("cx", x);
        dots[index].setAttribute("cy", curve.y[at]);
        dots[index].classList.toggle("off", !on);
        if (on) words.push(`${curve.label}: S = ${range(curve, at)}${data.mark}`);
      });
      const time = `${curves.times[at].toFixed(1)} ${curves.unit}`;
      output.textContent = `${time} - ${words.join("; ") || "no regime is chosen"}`;
      slider.setAttribute("aria-valuetext", time);
    };
    const nearest = (event) => {
      const box = svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * curves.width;
      let best = 0;
      curves.x.forEach((place, index) => {
        if (Math.abs(place - x) < Math.abs(curves.x[best] - x)) best = index;
      });
      return best;
    };
    const point = (event) => {
      slider.value = nearest(event);
      show(Number(slider.value));
    };
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    slider.addEventListener("input", () => show(Number(slider.value)));
    figure.refresh = () => show(Number(slider.value));
    slider.closest("label").hidden = false;
  }

  const update = () => {
    for (const figure of figures) {
      const on =
        figure.dataset.endpoint === endpoint.value && figure.dataset.landmark === landmark.value;
      figure.hidden = !on;
      // Paper has no controls: it shows every endpoint.
      figure.classList.toggle("printed", figure.dataset.landmark === landmark.value);
      for (const group of figure.querySelectorAll(".regime")) {
        group.classList.toggle("off", !chosen(`regime-${group.dataset.regime}`));
      }
      for (const group of figure.querySelectorAll(".observed")) {
        group.classList.toggle("off", !chosen("observed"));
      }
      if (on) {
        const there = new Set(
          data.curves[figure.dataset.curves].curves.map((curve) => `regime-${curve.regime}`),
        );
        for (const box of boxes) {
          if (box.dataset.toggle !== "observed") box.disabled = !there.has(box.dataset.toggle);
        }
        figure.refresh();
      }
    }
  };

  if (figures.length) {
    for (const control of [endpoint, landmark, ...boxes]) {
      control.addEventListener("change", update);
    }
    controls.addEventListener("submit", (event) => event.preventDefault());
    controls.hidden = false;
    update();
  }

  // A table that is wider than the screen is scrolled by keys, too.
  const scrollable = () => {
    for (const one of document.querySelectorAll(".wide")) {
      if (one.scrollWidth > one.clientWidth) one.tabIndex = 0;
      else one.removeAttribute("tabindex");
    }
  };
  window.addEventListener("resize", scrollable);
  scrollable();

  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const one of closed) one.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const one of closed) one.open = false;
  });
  document.documentElement.dataset.ready = "yes";
})();
