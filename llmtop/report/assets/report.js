"use strict";
// Readouts under the pointer. The page says everything without them; the numbers are text already.
const facts = JSON.parse(document.getElementById("facts").textContent);

function follow(boxes, show) {
  const move = (event) => {
    const frame = event.currentTarget.getBoundingClientRect();
    show(Math.min(1, Math.max(0, (event.clientX - frame.left) / frame.width)));
  };
  for (const box of boxes) {
    const plot = box.querySelector(".plot");
    plot.addEventListener("pointermove", move);
    plot.addEventListener("pointerdown", move);
    plot.addEventListener("pointerleave", () => show(null));
  }
}

function put(boxes, place) {
  for (const box of boxes) {
    const cursor = box.querySelector(".cursor");
    cursor.hidden = place === null;
    if (place !== null) cursor.style.left = 100 * place + "%";
  }
}

const curves = document.querySelectorAll("[data-curve]");
const readout = document.getElementById("level");
follow(curves, (share) => {
  const { places, texts } = facts.curve;
  if (share === null || places.length === 0) { put(curves, null); readout.textContent = readout.dataset.hint; return; }
  let nearest = 0;
  places.forEach((place, i) => { if (Math.abs(place - share) < Math.abs(places[nearest] - share)) nearest = i; });
  put(curves, places[nearest]);
  readout.textContent = texts[nearest];
});

const panels = document.querySelectorAll("[data-timeline]");
const clock = document.getElementById("clock");
follow(panels, (share) => {
  const steps = facts.timeline.clock.length;
  const step = share === null ? null : Math.min(steps - 1, Math.floor(share * steps));
  put(panels, step === null ? null : (step + 1) / steps);
  clock.textContent = step === null ? clock.dataset.hint : facts.timeline.clock[step];
  for (const output of document.querySelectorAll("output[data-column]")) {
    output.textContent = step === null ? "" : facts.timeline[output.dataset.column][step] ?? "--";
  }
});
