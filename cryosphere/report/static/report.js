"use strict";

// Marks in the table of contents what is being read.
function followReading() {
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.getAttribute("href").slice(1), a]));
  const seen = new Set();
  const observer = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) entry.isIntersecting ? seen.add(entry.target.id) : seen.delete(entry.target.id);
      const first = [...links.keys()].find((id) => seen.has(id));
      for (const [id, a] of links) id === first ? a.setAttribute("aria-current", "true") : a.removeAttribute("aria-current");
    },
    { rootMargin: "-10% 0px -60% 0px" },
  );
  for (const id of links.keys()) observer.observe(document.getElementById(id));
}

function unpacked(film, count) {
  const text = atob(film.frames);
  const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
  const whole = new DataView(bytes.buffer);
  const frames = [];
  for (let at = 0; at < bytes.length; at += 6 * count) {
    frames.push((i, axis) => whole.getInt16(at + 6 * i + 2 * axis, true) * film.quantum);
  }
  return frames;
}

function hasWebGL() {
  const canvas = document.createElement("canvas");
  return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
}

function startViewer() {
  const box = document.getElementById("viewer");
  if (!box || typeof $3Dmol === "undefined" || !hasWebGL()) return;
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const [slider, output, play] = ["frame", "frame-text", "play"].map((id) => document.getElementById(id));
  const count = data.breaks.length;
  const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
  box.classList.add("live");

  const background = () => getComputedStyle(document.documentElement).getPropertyValue("--panel").trim();
  const viewer = $3Dmol.createViewer(document.getElementById("canvas"), { backgroundColor: background(), antialias: true });
  let number = 0;
  const atoms = data.breaks.map((isBroken, i) => {
    number += isBroken ? 2 : 1; // consecutive numbers are joined
    return { elem: "C", atom: "CA", resn: "ALA", chain: "A", resi: number, index: i, serial: i, x: 0, y: 0, z: 0, bonds: [], bondOrder: [], hetflag: false };
  });
  const model = viewer.addModel();
  model.addAtoms(atoms);
  const held = model.selectedAtoms({});
  let frames = [];
  let timer = null;

  function colour() {
    const colours = data.schemes[chosen("scheme")];
    viewer.setStyle({}, { cartoon: { style: "trace", thickness: 0.9, colorfunc: (atom) => colours[atom.serial] } });
    for (const part of box.querySelectorAll("[data-scheme]")) part.hidden = part.dataset.scheme !== chosen("scheme");
  }
  function show() {
    const frame = frames[Number(slider.value)];
    const text = data.films[chosen("film")].texts[Number(slider.value)];
    for (const atom of held) [atom.x, atom.y, atom.z] = [0, 1, 2].map((axis) => frame(atom.serial, axis));
    output.textContent = text;
    slider.setAttribute("aria-valuetext", text);
    colour(); // marks the model as changed
    viewer.render();
  }
  function choose() {
    frames = unpacked(data.films[chosen("film")], count);
    slider.max = frames.length - 1;
    slider.value = 0;
    show();
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  }
  function start() {
    let step = 1;
    const isFilm = frames.length > 12; // states are looked at longer
    play.textContent = "Pause";
    play.setAttribute("aria-pressed", "true");
    timer = setInterval(() => {
      const last = frames.length - 1;
      if (Number(slider.value) + step > last || Number(slider.value) + step < 0) step = -step;
      slider.value = Math.min(last, Math.max(0, Number(slider.value) + step));
      show();
    }, isFilm ? 110 : 900);
  }

  for (const input of document.querySelectorAll('input[name="scheme"]')) {
    input.addEventListener("change", () => { colour(); viewer.render(); });
  }
  for (const input of document.querySelectorAll('input[name="film"]')) {
    input.addEventListener("change", () => { stop(); choose(); });
  }
  slider.addEventListener("input", () => { stop(); show(); });
  play.addEventListener("click", () => (timer === null ? start() : stop()));
  const canvas = document.getElementById("canvas");
  const reset = () => {
    viewer.setView(start_view);
    viewer.zoomTo();
    viewer.zoom(0.94 * Math.min(1, canvas.clientWidth / canvas.clientHeight)); // zoomTo minds the height alone
    viewer.render();
  };
  document.getElementById("reset").addEventListener("click", reset);
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); // the page scrolls, the structure stays
  }, { capture: true });
  canvas.addEventListener("keydown", (event) => {
    const turns = { ArrowLeft: [-10, "y"], ArrowRight: [10, "y"], ArrowUp: [-10, "x"], ArrowDown: [10, "x"] };
    const zooms = { "+": 1.15, "=": 1.15, "-": 1 / 1.15 };
    if (turns[event.key]) viewer.rotate(...turns[event.key]);
    else if (zooms[event.key]) viewer.zoom(zooms[event.key]);
    else return;
    event.preventDefault();
    viewer.render();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    viewer.setBackgroundColor(background());
    viewer.render();
  });
  new ResizeObserver(() => viewer.resize()).observe(canvas);
  choose();
  const start_view = viewer.getView();
  reset();
}

// Paper has no folds to open.
function unfoldForPrint() {
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const part of opened) part.open = true;
  });
  addEventListener("afterprint", () => { for (const part of opened) part.open = false; });
}

// What scrolls sideways can be reached by keyboard.
function reachScrolling() {
  for (const part of document.querySelectorAll(".scroll, figure.wide, pre")) {
    part.scrollWidth > part.clientWidth ? part.setAttribute("tabindex", "0") : part.removeAttribute("tabindex");
  }
}

followReading();
reachScrolling();
addEventListener("resize", reachScrolling);
for (const part of document.querySelectorAll("details")) part.addEventListener("toggle", reachScrolling);
unfoldForPrint();
startViewer();
